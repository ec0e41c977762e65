"""The lock that makes one of several schedulers the leader; it expires when its holder dies."""

from __future__ import annotations

import secrets
from typing import Any

from scrapeq.lua import load

LEADER_TTL_MS = 10_000  # how long the lock outlives a dead leader
HOLDER_ID_BYTES = 8


class LeaderLock:
    """
    The leader lock of a queue's schedulers, held for LEADER_TTL_MS and renewed by its holder.

    Args:
        redis: An asyncio client.
        key: The key of the lock.
    """

    def __init__(self, redis: Any, key: str) -> None:
        self.is_leader = False  # as of the last call
        self._redis = redis
        self._key = key
        self._holder_id = secrets.token_hex(HOLDER_ID_BYTES)
        self._script = load("scrapeq.schedule", "renew_leader", allow_oom=True)

    async def acquire(self) -> bool:
        """Renew the lock, or take it if it is free. Return whether this process holds it."""
        if self.is_leader:
            self.is_leader = await self._renew(LEADER_TTL_MS)
        if not self.is_leader:
            taken = await self._redis.set(self._key, self._holder_id, nx=True, px=LEADER_TTL_MS)
            self.is_leader = bool(taken)
        return self.is_leader

    async def release(self) -> None:
        """Give up the lock, if this process holds it, so that another scheduler can lead at once."""
        if self.is_leader:
            self.is_leader = False
            await self._renew(0)

    async def _renew(self, ttl_ms: int) -> bool:
        """Set the lock's lifetime (0: delete it). Return False if another process holds it."""
        return bool(await self._redis.eval(self._script.text, 1, self._key, self._holder_id, ttl_ms))
