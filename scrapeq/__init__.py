"""
scrapeq: a scraping toolkit whose queue knows the rate limits.

    from scrapeq import DPQ, Fetcher, Queue

Names are loaded when they are first used, so importing scrapeq alone is fast.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from scrapeq.version import __version__

if TYPE_CHECKING:
    from scrapeq.errors import (
        ConfigError,
        FetchError,
        LeaseLost,
        QueueFull,
        RateLimited,
        ScrapeqError,
        StoreError,
        UsageError,
    )
    from scrapeq.fetcher import Fetcher
    from scrapeq.hooks import Context, FollowUp, NewItem, NewRequest, Record, Result
    from scrapeq.limit import Limit, Rate
    from scrapeq.page import Page
    from scrapeq.plan import Auth, LimitRule
    from scrapeq.protocols import Change, PageRequest
    from scrapeq.queue import DPQ, Delivery, Queue
    from scrapeq.task import Group, Lease, NewTask, Task

__all__ = [
    "DPQ",
    "Auth",
    "Change",
    "ConfigError",
    "Context",
    "Delivery",
    "FetchError",
    "Fetcher",
    "FollowUp",
    "Group",
    "Lease",
    "LeaseLost",
    "Limit",
    "LimitRule",
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
    "StoreError",
    "Task",
    "UsageError",
    "__version__",
]

_MODULES = {
    "Auth": "scrapeq.plan",
    "Change": "scrapeq.protocols",
    "ConfigError": "scrapeq.errors",
    "Context": "scrapeq.hooks",
    "DPQ": "scrapeq.queue",
    "Delivery": "scrapeq.queue",
    "FetchError": "scrapeq.errors",
    "Fetcher": "scrapeq.fetcher",
    "FollowUp": "scrapeq.hooks",
    "Group": "scrapeq.task",
    "Lease": "scrapeq.task",
    "LeaseLost": "scrapeq.errors",
    "Limit": "scrapeq.limit",
    "LimitRule": "scrapeq.plan",
    "NewItem": "scrapeq.hooks",
    "NewRequest": "scrapeq.hooks",
    "NewTask": "scrapeq.task",
    "Page": "scrapeq.page",
    "PageRequest": "scrapeq.protocols",
    "Queue": "scrapeq.queue",
    "QueueFull": "scrapeq.errors",
    "Rate": "scrapeq.limit",
    "RateLimited": "scrapeq.errors",
    "Record": "scrapeq.hooks",
    "Result": "scrapeq.hooks",
    "ScrapeqError": "scrapeq.errors",
    "StoreError": "scrapeq.errors",
    "Task": "scrapeq.task",
    "UsageError": "scrapeq.errors",
}


def __getattr__(name: str) -> Any:
    module = _MODULES.get(name)
    if module is None:
        raise AttributeError(f"module 'scrapeq' has no attribute {name!r}")
    return getattr(import_module(module), name)
