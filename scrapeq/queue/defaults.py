"""The defaults that both drivers of the queue share."""

from __future__ import annotations

LEASE_S = 60.0  # how long a popped task stays invisible
MAX_ATTEMPTS = 5  # charged attempts before a task is a dead letter
PATIENCE_S = 10.0  # how long a call is retried while the store is away
