"""Rate-limited servers of the shapes found in practice, which count the requests of a client."""
