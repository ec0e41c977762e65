"""One of many: an office in the store that its holder renews, and that falls free when the holder dies."""

from __future__ import annotations

import secrets
from typing import Any

from scrapeq.lua import load

LEADERSHIP_MS = 10_000  # how long a dead scheduler is waited for


class LeaderLock:
    """
    The office of a queue's scheduler.

    Args:
        redis: An asyncio client.
        key: Where the office stands.
    """

    def __init__(self, redis: Any, key: str) -> None:
        self._redis = redis
        self._key = key
        self._holder = secrets.token_hex(8)
        self._script = load("scrapeq.schedule", "renew", allow_oom=True)
        self.elected = False

    async def acquire(self) -> bool:
        """Renew the office, or take it when it is free. True while it is ours."""
        if self.elected:
            self.elected = await self._renew(LEADERSHIP_MS)
        if not self.elected:
            self.elected = bool(await self._redis.set(self._key, self._holder, nx=True, px=LEADERSHIP_MS))
        return self.elected

    async def release(self) -> None:
        """Leave the office to whoever stands by."""
        if self.elected:
            self.elected = False
            await self._renew(0)

    async def _renew(self, keep_ms: int) -> bool:
        return bool(await self._redis.eval(self._script.text, 1, self._key, self._holder, keep_ms))
