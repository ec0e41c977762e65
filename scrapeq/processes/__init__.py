"""Child processes: how they start, report, restart, log, and end with their parent."""
