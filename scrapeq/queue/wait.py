"""Waiting without polling: one blocking connection a process, handed out to whoever waits."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from typing import Any

import redis.asyncio

from scrapeq.queue.replies import Popped

WATCHDOG_S = 10.0  # the longest blocking wait; a lost wake-up costs this much, never more
RECONNECT_S = 0.2
_MIN_WAIT_S = 0.001


class Listener:
    """
    Blocks on a marker key for all waiters of a process; each marker wakes one of them.

    A marker that comes when nobody waits any more is put back. Timed waits run on the loop's own timer: the server's
    blocking time-outs fire tens of milliseconds late.
    """

    def __init__(self, redis: redis.asyncio.Redis, key: str) -> None:
        self._redis: Any = redis  # its own types cannot tell what a blocking pop answers
        self._key = key
        self._waiters: deque[asyncio.Future[bool]] = deque()
        self._task: asyncio.Task[None] | None = None

    async def wait(self, timeout_s: float) -> bool:
        """Wait for a marker, at most `timeout_s` seconds. True when woken by one."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[bool] = loop.create_future()
        self._waiters.append(future)
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._listen())
        handle = loop.call_later(max(timeout_s, _MIN_WAIT_S), _answer, future, False)
        try:
            return await future
        except asyncio.CancelledError:
            if future.done() and not future.cancelled() and future.result():
                await asyncio.shield(self._put_back())  # it is for somebody else, then
            raise
        finally:
            handle.cancel()
            with contextlib.suppress(ValueError):
                self._waiters.remove(future)

    async def _listen(self) -> None:
        while self._waiters:
            try:
                marker = await self._redis.execute_command("BZPOPMIN", self._key, WATCHDOG_S)
            except asyncio.CancelledError:
                raise
            except Exception:
                await asyncio.sleep(RECONNECT_S)
                self._wake()  # who waits looks for itself
                continue
            if marker and not self._wake():
                await self._put_back()

    def _wake(self) -> bool:
        while self._waiters:
            future = self._waiters.popleft()
            if not future.done():
                future.set_result(True)
                return True
        return False

    def interrupt(self) -> None:
        """Wake all waiters of this process, without a marker."""
        while self._waiters:
            _answer(self._waiters.popleft(), False)

    async def _put_back(self) -> None:
        with contextlib.suppress(Exception):
            await self._redis.zadd(self._key, {"m": 0})

    async def close(self) -> None:
        """Stop listening; a marker that was on its way to us is for somebody else."""
        if self._task is not None and not self._task.done():
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError, Exception):
                await self._task
            await self._put_back()
        self.interrupt()


class Watch:
    """Whether one who waits is to watch the next event, for nobody else may look then."""

    def __init__(self) -> None:
        self.until_us = 0

    def until(self, popped: Popped) -> float:
        """Seconds to wait after a pop, at most `WATCHDOG_S`."""
        self.until_us = popped.watch_us
        return WATCHDOG_S if popped.wait_s is None else min(popped.wait_s, WATCHDOG_S)


def _answer(future: asyncio.Future[bool], woken: bool) -> None:
    if not future.done():
        future.set_result(woken)
