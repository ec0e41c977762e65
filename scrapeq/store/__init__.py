"""The store: the embedded Valkey server, its checks, and how commands that are not a run open a queue."""
