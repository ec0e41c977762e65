"""What a fetch worker keeps of its slots and tells of them."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from scrapeq.resource import Payload
from scrapeq.task import Lease, Task

RENEWALS_KEPT = 10_000


@dataclass(slots=True)
class Tally:
    """What a worker did since it last told."""

    requests: int = 0
    refused: int = 0
    retried: int = 0
    done: int = 0
    dead: int = 0
    items: int = 0
    lost: int = 0
    skipped: int = 0
    redirects: int = 0
    polled: int = 0
    not_modified: int = 0
    cached: int = 0

    def take(self) -> dict[str, int]:
        """The counts that are not zero; they begin again."""
        counts = {name: getattr(self, name) for name in self.__slots__ if getattr(self, name)}
        for name in counts:
            setattr(self, name, 0)
        return counts


@dataclass(slots=True)
class LeasedTask:
    """A task in a slot; `is_over`: its lease has ended as it should, and what is left to do needs none."""

    task: Task
    lease: Lease
    worker: asyncio.Task[None] | None = None
    is_over: bool = False


@dataclass(frozen=True, slots=True)
class Fatal:
    """Why the whole run ends: `output`, `limit`, `response` or `bound` (`exit_codes.FATAL_REASONS`)."""

    kind: str
    message: str


class AuthRetries:
    """
    Tasks that were sent again with a fresh credential, once for each, until they end here.

    One that ends in another process stays noted, so the oldest are forgotten.
    """

    def __init__(self) -> None:
        self._tasks: dict[str, None] = {}

    def first(self, task_id: str) -> bool:
        """Whether it was not noted yet; now it is."""
        if task_id in self._tasks:
            return False
        self._tasks[task_id] = None
        if len(self._tasks) > RENEWALS_KEPT:
            del self._tasks[next(iter(self._tasks))]
        return True

    def over(self, task_id: str) -> None:
        """Its answer was another one."""
        self._tasks.pop(task_id, None)


def user_named_hosts(payload: Payload) -> list[str]:
    """A URL that somebody seeded by hand is named by them, so its host may be a private one."""
    seeded = (payload.get("seed") or {}).get("url")
    by_hand = seeded == payload["url"] and not payload.get("depth") and payload.get("parent") is None
    return [str(seeded)] if by_hand else []
