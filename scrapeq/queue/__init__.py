"""The queue: tasks with priorities, delays, leases and rate limits, over Redis or Valkey."""

from scrapeq.limit import Limit, LimitState, Rate
from scrapeq.queue.async_queue import Queue
from scrapeq.queue.commands import (
    NO_RESPONSE,
    RESPONDED,
    UNSENT,
    Counts,
    Delivery,
    Entry,
    Popped,
    Pushed,
    Settled,
)
from scrapeq.queue.sync_queue import DPQ, Taken

__all__ = [
    "DPQ",
    "NO_RESPONSE",
    "RESPONDED",
    "UNSENT",
    "Counts",
    "Delivery",
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
