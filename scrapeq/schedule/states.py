"""What incremental walks keep between runs: a hash beside the queue."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import orjson

from scrapeq.protocols import State


class KeptStates:
    """
    The states of one queue's walks (`protocols.States`).

    Args:
        redis: An asyncio client.
        key: The hash's key, in the queue's slot.
    """

    def __init__(self, redis: Any, key: str) -> None:
        self._redis = redis
        self._key = key

    async def get_many(self, keys: Sequence[str]) -> list[State | None]:
        """What is kept under each key."""
        raw = await self._redis.hmget(self._key, list(keys)) if keys else []
        return [None if one is None else orjson.loads(one) for one in raw]

    async def keep(self, key: str, state: State) -> None:
        """Keep it, in place of what was."""
        await self._redis.hset(self._key, key, orjson.dumps(state))
