"""The asyncio driver of the queue."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import Iterable
from typing import Literal

import redis.asyncio

from scrapeq.errors import ScrapeqError
from scrapeq.queue import commands as c
from scrapeq.queue.async_tasks import AsyncTasks
from scrapeq.queue.connect import check_client
from scrapeq.queue.defaults import LEASE_S, MAX_ATTEMPTS, PATIENCE_S
from scrapeq.queue.wait import WATCHDOG_S, Listener, Waiter
from scrapeq.task import Order, Task

_Pending = tuple[c.Entry, "asyncio.Future[c.Settled]"]

COALESCE_MAX = 200  # leases settled in one call
RESIGN_S = 0.5  # the longest that `close` waits for the store to designate another waiter


class Queue(AsyncTasks):
    """
    A delayed priority queue that knows rate limits, over Redis or Valkey.

        async with Queue(redis.asyncio.Redis(), "my_queue") as queue:
            await queue.push({"url": "https://example.org/1"}, priority=5)
            task = await queue.pop(wait_s=30)
            if task is not None:
                await queue.ack(task.lease)

    Calls that settle leases (ack, retry, …) at the same time travel to the store together, so share one Queue among
    the coroutines of a process. `DPQ` has the same verbs for blocking code.

    Args:
        redis: An asyncio client with `decode_responses=False`; several queues may share one.
        name: The queue's name; its keys are `scrapeq:{name}:…`.
        lease_s: Seconds that a popped task stays invisible; `extend` the lease for longer work.
        max_tasks: The most tasks that the queue holds; 0 = no bound.
        on_full: `block` waits for room, `reject` raises QueueFull.
        max_attempts: Charged attempts before a task is a dead letter.
        patience_s: Seconds to retry while the store is away, before StoreError.
        order: `strict` or `fair`, set at the first call for everyone who uses the queue (see `set_order`);
            None = leave it as it is.

    Raises:
        UsageError: `redis` is not an asyncio client, or the name is empty or contains braces.
    """

    def __init__(
        self,
        redis: redis.asyncio.Redis,
        name: str,
        *,
        lease_s: float = LEASE_S,
        max_tasks: int = 0,
        on_full: Literal["block", "reject"] = "block",
        max_attempts: int = MAX_ATTEMPTS,
        patience_s: float = PATIENCE_S,
        order: Order | None = None,
    ) -> None:
        check_client(redis, blocking=False)
        super().__init__(
            redis,
            name,
            lease_s=lease_s,
            max_tasks=max_tasks,
            on_full=on_full,
            max_attempts=max_attempts,
            patience_s=patience_s,
            order=order,
        )
        self._listener = Listener(redis, self._prefix + "wake")
        self._room = Listener(redis, self._prefix + "room")
        self._waiter = Waiter()
        self._resigning: set[asyncio.Future[None]] = set()
        self._pending: deque[_Pending] = deque()
        self._flusher: asyncio.Task[None] | None = None

    async def close(self) -> None:
        """Stop listening, and send what is still to be settled. The client belongs to the caller and stays open."""
        await self._listener.close()
        await self._room.close()
        if self._waiter.poll_at_us or self._resigning:
            await self._resign_and_wait()
        if self._flusher is not None:
            with contextlib.suppress(Exception):
                await self._flusher

    async def _sleep(self, delay_s: float) -> None:
        await asyncio.sleep(delay_s)

    async def _wait_for_room(self) -> None:
        await self._room.wait(WATCHDOG_S)

    async def _wait_for_grant(self, timeout_s: float) -> None:
        if await self._listener.wait(timeout_s):
            self._resign()  # the marker was meant for a caller that waits for tasks

    async def _push_all(self, commands: Iterable[c.Command[list[c.Pushed] | None]]) -> list[c.Pushed]:
        """Push batch by batch: build the next command while the store works on the one before."""
        results: list[c.Pushed] = []
        in_flight: asyncio.Task[list[c.Pushed]] | None = None
        try:
            for command in commands:
                if in_flight is not None:
                    results += await in_flight
                in_flight = asyncio.create_task(self._push_batch(command, len(results)))
                await asyncio.sleep(0)  # let the task send it
            if in_flight is not None:
                results += await in_flight
        except BaseException:
            if in_flight is not None:
                in_flight.cancel()
            raise
        return results

    # --- popping

    async def pop(self, wait_s: float = 0.0) -> Task | None:
        """
        Lease the best task whose limits grant now.

        Args:
            wait_s: Seconds to wait for one; 0 = do not wait.

        Returns:
            The task, leased for `lease_s` seconds; None if there was none in time.

        Raises:
            StoreError: the store is unreachable or refuses.
        """
        tasks = await self.pop_many(1, wait_s)
        return tasks[0] if tasks else None

    async def _pop_many(self, n: int, wait_s: float, suspects: int) -> list[Task]:
        return (await self._poll(n, wait_s, suspects=suspects)).tasks

    async def _poll(self, n: int, wait_s: float, *, suspects: int, stay_s: float = 0.0) -> c.Popped:
        """Pop with all that the reply says; `stay_s`: how long the caller keeps waiting if it gets less than n."""
        deadline = time.monotonic() + wait_s
        waiter = self._waiter if stay_s else Waiter()
        is_sent = False  # the script may just be designating us as the waiter
        try:
            while True:
                left = max(0.0, deadline - time.monotonic())
                stay = max(stay_s, min(left, WATCHDOG_S))
                command = c.pop(
                    n,
                    lease_s=self.lease_s,
                    suspects=suspects,
                    stay_s=stay,
                    stays_with_some=stay_s > 0,
                    previous_poll_at_us=waiter.poll_at_us,
                )
                is_sent = stay > 0
                popped = await self._run(command)
                is_sent = False
                if popped.is_unfinished:
                    continue
                wait_now = waiter.wait_s(popped)
                if popped.tasks or left <= 0:
                    return popped
                await self._listener.wait(min(left, wait_now))
        except asyncio.CancelledError:
            if is_sent or waiter.poll_at_us:
                self._resign()
            raise

    def _resign(self) -> None:
        """Ask the store, in the background, to designate another waiter for the next event."""

        async def resign() -> None:
            with contextlib.suppress(ScrapeqError):
                await self._run(c.steer("unwatch"))

        task = asyncio.ensure_future(resign())
        self._resigning.add(task)
        task.add_done_callback(self._resigning.discard)

    async def _resign_and_wait(self) -> None:
        self._waiter.poll_at_us = 0
        self._resign()  # in any case: a marker may have been consumed just before
        await asyncio.wait(self._resigning, timeout=RESIGN_S)

    # --- settling

    async def _settle(self, entry: c.Entry) -> c.Settled:
        return await self._settle_soon(entry)

    def _settle_soon(self, entry: c.Entry) -> asyncio.Future[c.Settled]:
        """Settle in the background, in one call with the other entries of this turn of the event loop, in order."""
        future: asyncio.Future[c.Settled] = asyncio.get_running_loop().create_future()
        self._pending.append((entry, future))
        if self._flusher is None or self._flusher.done():
            self._flusher = asyncio.create_task(self._flush())
        return future

    async def _flush(self) -> None:
        await asyncio.sleep(0)  # wait for the other coroutines of this turn of the event loop
        while self._pending:
            batch: list[_Pending] = []
            follow_ups = 0
            while self._pending and len(batch) < COALESCE_MAX and follow_ups < c.PUSH_COUNT:
                batch.append(self._pending.popleft())
                follow_ups += len(batch[-1][0].push)
            command, batch = _encode(batch)
            if command is None:
                continue
            try:
                settled = await self._run(command)
            except Exception as error:
                for _, future in batch:
                    if not future.done():
                        future.set_exception(error)
            else:
                for (_, future), result in zip(batch, settled, strict=True):
                    if not future.done():
                        future.set_result(result)


def _encode(batch: list[_Pending]) -> tuple[c.Command[list[c.Settled]] | None, list[_Pending]]:
    """Return the command and the entries it holds; an entry that cannot be encoded fails alone."""
    try:
        return c.settle([entry for entry, _ in batch]), batch
    except Exception:
        good = []
        for entry, future in batch:
            try:
                c.settle([entry])
                good.append((entry, future))
            except Exception as error:
                if not future.done():
                    future.set_exception(error)
        return (c.settle([entry for entry, _ in good]) if good else None), good
