"""What a fetch worker keeps of its slots and tells of them."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

from scrapeq.task import Lease, Task


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

    def take(self) -> dict[str, int]:
        """The counts that are not zero; they begin again."""
        counts = {name: getattr(self, name) for name in self.__slots__ if getattr(self, name)}
        for name in counts:
            setattr(self, name, 0)
        return counts


@dataclass(slots=True)
class Held:
    """A task in a slot."""

    task: Task
    lease: Lease
    worker: asyncio.Task[None] | None = None


@dataclass(frozen=True, slots=True)
class Fatal:
    """Why the whole run ends: `output`, `limit` or `answer`."""

    kind: str
    message: str


def named_by_hand(payload: dict[str, Any]) -> list[str]:
    """A URL that somebody seeded by hand is named by them, so its host may be a private one."""
    seeded = (payload.get("seed") or {}).get("url")
    by_hand = seeded == payload["url"] and not payload.get("depth") and payload.get("parent") is None
    return [str(seeded)] if by_hand else []
