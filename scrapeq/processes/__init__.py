"""Child processes: how they start, fork, log, and end with their parent."""
