"""The store: the embedded Redis or Valkey server, checks of a server, and queues for commands other than `run`."""
