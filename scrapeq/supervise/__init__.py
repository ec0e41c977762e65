"""The machine side of a run: the embedded store, the child processes, the writer of the output files."""
