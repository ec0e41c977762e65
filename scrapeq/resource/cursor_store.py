"""What incremental walks keep between runs: a hash beside the queue."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Sequence
from typing import Any

import orjson
from redis.exceptions import RedisError

from scrapeq.backoff import pauses_s
from scrapeq.errors import StoreError
from scrapeq.lua import load
from scrapeq.protocols import CursorState
from scrapeq.resource.incremental import after_pagination

SCAN_COUNT = 500  # fields read, or deleted, in one call
PATIENCE_S = 10.0
RETRY_FIRST_S, RETRY_MAX_S = 0.02, 0.5  # between tries while the store is away

KEEP = load("scrapeq.resource", "keep", allow_oom=True)


class RedisCursorStore:
    """
    The states of one queue's walks (`protocols.CursorStore`).

    Args:
        redis: An asyncio client.
        key: The hash's key, in the queue's slot.
        patience_s: Seconds to go on trying while the store is away.
    """

    def __init__(self, redis: Any, key: str, *, patience_s: float = PATIENCE_S) -> None:
        self._redis = redis
        self._key = key
        self._patience_s = patience_s

    async def get_many(self, keys: Sequence[str]) -> list[CursorState | None]:
        """What is kept under each key. Raises StoreError."""
        raw = await self._patiently(lambda: self._redis.hmget(self._key, list(keys))) if keys else []
        return [None if one is None else orjson.loads(one) for one in raw]

    async def keep(self, key: str, state: CursorState) -> None:
        """Keep what a walk ended with, unless others went farther, or it was set back meanwhile. Raises StoreError."""
        while True:
            raw = await self._patiently(lambda: self._redis.hget(self._key, key)) or b""
            new = after_pagination(orjson.loads(raw) if raw else None, state)
            if new is None or await self._patiently(
                lambda raw=raw, new=new: self._redis.eval(  # type: ignore[misc]
                    KEEP.text, 1, self._key, key, raw, orjson.dumps(new)
                )
            ):
                return

    async def put(self, key: str, state: CursorState) -> None:
        """Keep it, in place of whatever was. Raises StoreError."""
        await self._patiently(lambda: self._redis.hset(self._key, key, orjson.dumps(state)))

    async def _patiently(self, ask: Callable[[], Awaitable[Any]]) -> Any:
        until_s, pauses = time.monotonic() + self._patience_s, pauses_s(RETRY_FIRST_S, RETRY_MAX_S)
        while True:
            try:
                return await ask()
            except (RedisError, OSError) as error:
                pause_s = next(pauses)
                if time.monotonic() + pause_s > until_s:
                    raise StoreError(f"what walks keep cannot be reached: {error}") from error
            await asyncio.sleep(pause_s)

    async def all(self, resources: Collection[str] | None = None) -> AsyncIterator[tuple[str, CursorState]]:
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
