"""Where the rooms meet: what one room asks of another, without importing it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from scrapeq.page import Page
from scrapeq.task import Lease, NewTask


@dataclass(frozen=True, slots=True)
class Item:
    """One record for the sink: its resource, its identity there (empty = its content's digest) and its fields."""

    resource: str
    key: str
    record: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Extraction:
    """What a page gave: items to write and tasks that follow; `skipped` counts follow-ups left out by a null in a path."""

    items: list[Item] = field(default_factory=list)
    follow_ups: list[NewTask] = field(default_factory=list)
    skipped: int = 0


class Extractor(Protocol):
    """Turns a page into items and follow-ups."""

    def extract(self, payload: dict[str, Any], priority: float, page: Page) -> Extraction:
        """Raises ScrapeqError when the page is not what the resource says."""


class Sink(Protocol):
    """Takes items; answered means committed."""

    async def commit(self, task_id: str, lease_token: str, items: Sequence[Item]) -> int:
        """
        Write the items of one task.

        Returns:
            How many were new or changed (a repeat changes nothing).

        Raises:
            LeaseLost: a newer lease of this task has committed already.
            OutputError: the output cannot be written.
        """


class Grants(Protocol):
    """What the egress sees of the limits: a grant before each request that is no task (robots.txt, a hop)."""

    async def acquire(self, url: str, method: str = "GET", *, wait_s: float = 0.0) -> Lease | None:
        """A grant for one request, or None when its limits are closed for longer than `wait_s`."""
