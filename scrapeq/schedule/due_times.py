"""When schedules are due next, kept in the store: restarts change nothing, and what was missed is done once."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import asdict, dataclass
from typing import Any

import orjson


@dataclass(frozen=True, slots=True)
class Due:
    """
    One resource's schedule.

    Args:
        due_s: When it is due next, Unix seconds.
        schedule: How it was spelled when this was reckoned.
        occurrence: The number of the occurrence that is being pushed; 0 = none is. One that was interrupted goes on
            under its number, so nothing is pushed twice.
    """

    due_s: float
    schedule: str
    occurrence: int = 0


class DueTimes:
    """
    The dues of one queue.

    Args:
        redis: An asyncio client.
        prefix: Of the queue's keys.
    """

    def __init__(self, redis: Any, prefix: str) -> None:
        self._redis = redis
        self._key = prefix + "schedule"
        self._counter = prefix + "occurrence"  # never counted anew: what is done knows in which one it was

    async def all(self) -> dict[str, Due]:
        """What is known, by resource."""
        raw = await self._redis.hgetall(self._key)
        return {name.decode(): Due(**orjson.loads(value)) for name, value in raw.items()}

    async def keep(self, resource: str, due: Due) -> None:
        """Keep it, in place of what was."""
        await self._redis.hset(self._key, resource, orjson.dumps(asdict(due)))

    async def clear(self, resources: Collection[str] | None) -> None:
        """Forget when these resources are due (None: all of them)."""
        if resources is None:
            await self._redis.delete(self._key)
        elif resources:
            await self._redis.hdel(self._key, *resources)

    async def next_occurrence(self) -> int:
        """A number for an occurrence, higher than all before."""
        return int(await self._redis.incr(self._counter))
