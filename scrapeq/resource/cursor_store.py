"""
How page sequences ended, in two Redis hashes beside the queue.

One holds where incremental resources continue in the next run, the other the sequences of this run that are incomplete.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Sequence
from typing import Any

import orjson
from redis.exceptions import RedisError

from scrapeq.backoff import pauses_s
from scrapeq.errors import StoreError
from scrapeq.lua import load
from scrapeq.protocols import CursorState, Incomplete
from scrapeq.resource.incremental import merge_state

SCAN_COUNT = 500  # fields read or deleted in one call
RETRY_FOR_S = 10.0
INCOMPLETE_MAX = 10_000  # incomplete sequences stored one by one; further ones only by resource
RETRY_FIRST_S, RETRY_MAX_S = 0.02, 0.5  # pauses between retries while the store is unreachable

_DEAD = "dead "  # before the id of a dead letter, in the hash of incomplete sequences

SAVE_STATE = load("scrapeq.resource", "save_state", allow_oom=True)


class RedisCursorStore:
    """
    The cursor states of one queue (`protocols.CursorStore`).

    Args:
        redis: An asyncio Redis client.
        key: The key of the hash of cursor states, in the queue's slot.
        incomplete_key: The key of the hash of incomplete page sequences.
        retry_for_s: Seconds to retry while the store is unreachable.
    """

    def __init__(
        self, redis: Any, key: str, incomplete_key: str = "", *, retry_for_s: float = RETRY_FOR_S
    ) -> None:
        self._redis = redis
        self._key = key
        self._incomplete_key = incomplete_key
        self._retry_for_s = retry_for_s

    async def get_many(self, keys: Sequence[str]) -> list[CursorState | None]:
        """Return the state stored under each key, None where there is none. Raises StoreError."""
        raw = await self._with_retries(lambda: self._redis.hmget(self._key, list(keys))) if keys else []
        return [None if one is None else orjson.loads(one) for one in raw]

    async def save(self, key: str, state: CursorState) -> None:
        """
        Store the final state of a pagination, unless a later one is stored or the user has reset it.

        Raises StoreError.
        """
        while True:
            raw = await self._with_retries(lambda: self._redis.hget(self._key, key)) or b""
            merged = merge_state(orjson.loads(raw) if raw else None, state)
            if merged is None or await self._with_retries(
                lambda raw=raw, merged=merged: self._redis.eval(  # type: ignore[misc]
                    SAVE_STATE.text, 1, self._key, key, raw, orjson.dumps(merged)
                )
            ):
                return

    async def put(self, key: str, state: CursorState) -> None:
        """Store the state, whatever was stored before. Raises StoreError."""
        await self._with_retries(lambda: self._redis.hset(self._key, key, orjson.dumps(state)))

    async def add_incomplete(
        self, sequence: str, resource: str, reason: str, *, is_dead: bool = False
    ) -> None:
        """
        Record that a page sequence ends without being complete. Raises StoreError.

        Args:
            sequence: Its identity; the last reason counts.
            resource: Its resource.
            reason: Why, with the remedy.
            is_dead: `sequence` is the id of a dead letter, and the record counts as long as it is one.
        """
        stored = await self._with_retries(lambda: self._redis.hlen(self._incomplete_key))
        field = _DEAD + sequence if is_dead else sequence
        field = field if stored < INCOMPLETE_MAX else f"resource {resource}"
        value = orjson.dumps([resource, reason])
        await self._with_retries(lambda: self._redis.hset(self._incomplete_key, field, value))

    async def remove_incomplete(self, sequence: str) -> None:
        """Forget that an earlier pass of a page sequence was incomplete. Raises StoreError."""
        await self._with_retries(lambda: self._redis.hdel(self._incomplete_key, sequence))

    async def incomplete(self, dead_key: str) -> tuple[Incomplete, ...]:
        """
        Return the incomplete page sequences of this run by resource and reason, the most frequent first.

        Args:
            dead_key: The key of the queue's sorted set of dead letters.
        """
        counts: Counter[tuple[str, str]] = Counter()
        async for field, raw in self._redis.hscan_iter(self._incomplete_key, count=SCAN_COUNT):
            task = field.decode().removeprefix(_DEAD)
            if task != field.decode() and await self._redis.zscore(dead_key, task) is None:
                continue  # it was redriven since
            resource, reason = orjson.loads(raw)
            counts[resource, reason] += 1
        return tuple(
            Incomplete(resource, reason, number) for (resource, reason), number in counts.most_common()
        )

    async def _with_retries(self, send: Callable[[], Awaitable[Any]]) -> Any:
        deadline_s, pauses = time.monotonic() + self._retry_for_s, pauses_s(RETRY_FIRST_S, RETRY_MAX_S)
        while True:
            try:
                return await send()
            except (RedisError, OSError) as error:
                pause_s = next(pauses)
                if time.monotonic() + pause_s > deadline_s:
                    raise StoreError(f"the cursor store is unreachable: {error}") from error
            await asyncio.sleep(pause_s)

    async def all(self, resources: Collection[str] | None = None) -> AsyncIterator[tuple[str, CursorState]]:
        """Yield every key with its state, of these resources (None = all), in no particular order."""
        async for key, raw in self._redis.hscan_iter(self._key, count=SCAN_COUNT):
            state = orjson.loads(raw)
            if resources is None or state["resource"] in resources:
                yield key.decode(), state

    async def clear(self, resources: Collection[str] | None = None) -> int:
        """Delete the states of these resources (None = all); return how many."""
        if resources is None:
            pipe = self._redis.pipeline(transaction=True)
            pipe.hlen(self._key).delete(self._key)
            return int((await pipe.execute())[0])
        keys = [key async for key, _ in self.all(resources)]
        return await self.forget(keys)

    async def forget(self, keys: Sequence[str]) -> int:
        """Delete the states under these keys; return how many existed."""
        deleted = 0
        for start in range(0, len(keys), SCAN_COUNT):
            deleted += int(await self._redis.hdel(self._key, *keys[start : start + SCAN_COUNT]))
        return deleted
