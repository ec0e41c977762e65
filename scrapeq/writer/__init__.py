"""The writer process: one per machine and run, the only one that writes the output files."""
