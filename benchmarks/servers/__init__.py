"""Rate-limited servers of the shapes found in the field, which count at the server what a client sends."""
