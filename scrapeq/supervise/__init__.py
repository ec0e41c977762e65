"""The supervisor: starts the store, writer, scheduler and fetchers of a run, restarts them, and ends the run."""
