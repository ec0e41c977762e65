"""
scrapeq: a scraping toolkit whose queue knows the rate limits.

    from scrapeq import DPQ, Queue, Fetcher

Names are loaded when they are first used: importing scrapeq alone costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from scrapeq.version import __version__

if TYPE_CHECKING:
    from scrapeq.errors import LeaseLost, QueueFull, RateLimited, ScrapeqError
    from scrapeq.fetcher import Fetcher
    from scrapeq.hooks import Context, FollowUp, NewItem, NewRequest, Record, Result
    from scrapeq.page import Page
    from scrapeq.protocols import Change, PageRequest
    from scrapeq.queue import DPQ, Limit, Queue, Rate
    from scrapeq.task import Group, NewTask, Task

__all__ = [
    "DPQ",
    "Change",
    "Context",
    "Fetcher",
    "FollowUp",
    "Group",
    "LeaseLost",
    "Limit",
    "NewItem",
    "NewRequest",
    "NewTask",
    "Page",
    "PageRequest",
    "Queue",
    "QueueFull",
    "Rate",
    "RateLimited",
    "Record",
    "Result",
    "ScrapeqError",
    "Task",
    "__version__",
]

_PLACES = {
    "Change": "scrapeq.protocols",
    "Context": "scrapeq.hooks",
    "DPQ": "scrapeq.queue",
    "Fetcher": "scrapeq.fetcher",
    "FollowUp": "scrapeq.hooks",
    "Group": "scrapeq.task",
    "LeaseLost": "scrapeq.errors",
    "Limit": "scrapeq.queue",
    "NewItem": "scrapeq.hooks",
    "NewRequest": "scrapeq.hooks",
    "NewTask": "scrapeq.task",
    "Page": "scrapeq.page",
    "PageRequest": "scrapeq.protocols",
    "Queue": "scrapeq.queue",
    "QueueFull": "scrapeq.errors",
    "Rate": "scrapeq.queue",
    "RateLimited": "scrapeq.errors",
    "Record": "scrapeq.hooks",
    "Result": "scrapeq.hooks",
    "ScrapeqError": "scrapeq.errors",
    "Task": "scrapeq.task",
}


def __getattr__(name: str) -> Any:
    place = _PLACES.get(name)
    if place is None:
        raise AttributeError(f"module 'scrapeq' has no attribute {name!r}")
    return getattr(import_module(place), name)
