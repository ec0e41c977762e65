"""Waiting without polling: one blocking connection per process serves all coroutines that wait."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from typing import Any

import redis.asyncio

from scrapeq.queue.replies import Popped

WATCHDOG_S = 10.0  # the longest blocking wait: a lost wake-up costs at most this much
RECONNECT_S = 0.2
BLOCKING_SHARE = 0.8  # of a client's socket time-out
_MIN_WAIT_S = 0.001


def longest_block_s(redis: Any) -> float:
    """
    Return how long a client may block in one call, in seconds.

    A block as long as the socket time-out looks like a broken connection: redis-py reconnects and sends the call again,
    by default ten times, with pauses. redis-py 8 has a time-out of 5 s by default.
    """
    pool = getattr(redis, "connection_pool", None)
    timeout_s = None if pool is None else pool.connection_kwargs.get("socket_timeout")
    return WATCHDOG_S if timeout_s is None else min(WATCHDOG_S, timeout_s * BLOCKING_SHARE)


class Listener:
    """
    Blocks on a marker key on behalf of all waiters of a process; each marker wakes one of them.

    If nobody waits any more when a marker comes, the listener puts it back. Timed waits use the timer of the event
    loop, since the server ends blocking calls tens of milliseconds late.
    """

    def __init__(self, redis: redis.asyncio.Redis, key: str) -> None:
        self._redis: Any = redis  # redis-py does not type the reply of a blocking pop
        self._key = key
        self._waiters: deque[asyncio.Future[bool]] = deque()
        self._block_s = longest_block_s(redis)
        self._task: asyncio.Task[None] | None = None

    async def wait(self, timeout_s: float) -> bool:
        """Wait for a marker, at most `timeout_s` seconds. Return whether one came."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[bool] = loop.create_future()
        self._waiters.append(future)
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._listen())
        handle = loop.call_later(max(timeout_s, _MIN_WAIT_S), _wake, future, False)
        try:
            return await future
        except asyncio.CancelledError:
            if future.done() and not future.cancelled() and future.result():
                await asyncio.shield(self._put_back())  # another waiter needs it
            raise
        finally:
            handle.cancel()
            with contextlib.suppress(ValueError):
                self._waiters.remove(future)

    async def _listen(self) -> None:
        while self._waiters:
            try:
                marker = await self._redis.execute_command("BZPOPMIN", self._key, self._block_s)
            except asyncio.CancelledError:
                raise
            except Exception:
                await asyncio.sleep(RECONNECT_S)
                self._wake_one()  # its own call to the store reports the error or succeeds
                continue
            if marker and not self._wake_one():
                await self._put_back()

    def _wake_one(self) -> bool:
        while self._waiters:
            future = self._waiters.popleft()
            if not future.done():
                future.set_result(True)
                return True
        return False

    def interrupt(self) -> None:
        """Wake all waiters of this process, without a marker."""
        while self._waiters:
            _wake(self._waiters.popleft(), False)

    async def _put_back(self) -> None:
        with contextlib.suppress(Exception):
            await self._redis.zadd(self._key, {"m": 0})

    async def close(self) -> None:
        """Stop listening. Put back a marker, since the store may just have sent one."""
        if self._task is not None and not self._task.done():
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError, Exception):
                await self._task
            await self._put_back()
        self.interrupt()


class Waiter:
    """
    A caller that pops and waits in turns.

    The store designates one waiter of a queue to poll at the next event, and the others sleep longer. `poll_at_us` is
    that time on the queue's clock if this waiter is the designated one, else 0.
    """

    def __init__(self) -> None:
        self.poll_at_us = 0

    def wait_s(self, popped: Popped) -> float:
        """Take over what a pop replied. Return the seconds to wait after it, at most `WATCHDOG_S`."""
        self.poll_at_us = popped.poll_at_us
        return WATCHDOG_S if popped.wait_s is None else min(popped.wait_s, WATCHDOG_S)


def _wake(future: asyncio.Future[bool], by_marker: bool) -> None:
    if not future.done():
        future.set_result(by_marker)
