"""When each schedule is due next, stored in Redis: restarts change nothing, and missed times are made up for once."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import asdict, dataclass
from typing import Any

import orjson


@dataclass(frozen=True, slots=True)
class DueTime:
    """
    When one resource is due. Stored as JSON under these names.

    Args:
        due_s: The next due time, Unix seconds.
        schedule: The schedule (`schedule_text`) from which it was computed.
        occurrence: The number of the scheduled run that is being pushed; 0 = none. An interrupted one continues under
            its number, so nothing is pushed twice.
    """

    due_s: float
    schedule: str
    occurrence: int = 0


class DueTimes:
    """
    The due times of one queue.

    Args:
        redis: An asyncio client.
        prefix: The prefix of the queue's keys.
    """

    def __init__(self, redis: Any, prefix: str) -> None:
        self._redis = redis
        self._key = prefix + "schedule"
        # Never reset: the record of a finished task contains the number of its scheduled run.
        self._counter_key = prefix + "occurrence"

    async def all(self) -> dict[str, DueTime]:
        """Return the stored due times by resource."""
        raw = await self._redis.hgetall(self._key)
        return {name.decode(): DueTime(**orjson.loads(value)) for name, value in raw.items()}

    async def set(self, resource: str, due: DueTime) -> None:
        """Store the due time of a resource."""
        await self._redis.hset(self._key, resource, orjson.dumps(asdict(due)))

    async def clear(self, resources: Collection[str] | None) -> None:
        """Delete the due times of these resources; None: of all."""
        if resources is None:
            await self._redis.delete(self._key)
        elif resources:
            await self._redis.hdel(self._key, *resources)

    async def next_occurrence(self) -> int:
        """Return a number for a scheduled run, higher than all before."""
        return int(await self._redis.incr(self._counter_key))
