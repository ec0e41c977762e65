"""The queue: delayed, prioritised, leased, aware of limits; over Redis or Valkey."""

from scrapeq.limit import Limit, LimitState, Rate
from scrapeq.queue.async_queue import Queue
from scrapeq.queue.commands import Counts, Entry, Popped, Pushed, Settled
from scrapeq.queue.sync_queue import DPQ, Taken

__all__ = [
    "DPQ",
    "Counts",
    "Entry",
    "Limit",
    "LimitState",
    "Popped",
    "Pushed",
    "Queue",
    "Rate",
    "Settled",
    "Taken",
]
