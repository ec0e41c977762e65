"""The writer: the one process that owns the output files, and the client with which fetchers commit items."""
