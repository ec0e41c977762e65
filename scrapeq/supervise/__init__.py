"""The supervisor of a run: it starts and restarts the store, the scheduler, the writer and the fetchers."""
