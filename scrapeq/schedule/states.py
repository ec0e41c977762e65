"""What incremental walks keep between runs: a hash beside the queue."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Sequence
from typing import Any

import orjson

from scrapeq.protocols import State

SCAN_COUNT = 500  # fields read, or deleted, in one call


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

    async def all(self, resources: Collection[str] | None = None) -> AsyncIterator[tuple[str, State]]:
        """Every key and what is kept under it, of these resources (None: of all); in no order."""
        async for key, raw in self._redis.hscan_iter(self._key, count=SCAN_COUNT):
            state = orjson.loads(raw)
            if resources is None or state["resource"] in resources:
                yield key.decode(), state

    async def clear(self, resources: Collection[str] | None = None) -> int:
        """Forget what is kept for these resources (None: all of it); how many states."""
        if resources is None:
            pipe = self._redis.pipeline(transaction=True)
            pipe.hlen(self._key).delete(self._key)
            return int((await pipe.execute())[0])
        keys = [key async for key, _ in self.all(resources)]
        return await self.forget(keys)

    async def forget(self, keys: Sequence[str]) -> int:
        """Forget what is kept under these keys; how many there were."""
        gone = 0
        for start in range(0, len(keys), SCAN_COUNT):
            gone += int(await self._redis.hdel(self._key, *keys[start : start + SCAN_COUNT]))
        return gone
