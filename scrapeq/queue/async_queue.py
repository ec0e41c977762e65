"""The asyncio driver of the queue."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import Iterable, Sequence
from types import TracebackType
from typing import Any, Literal, TypeVar

import redis.asyncio

from scrapeq.backoff import pauses_s
from scrapeq.errors import LeaseLost, QueueFull, StoreError, UsageError
from scrapeq.queue import commands as c
from scrapeq.queue import settings
from scrapeq.queue.backoff import MAX_ATTEMPTS, backoff_s
from scrapeq.queue.connect import NoScriptError, check_client, explain_error, is_transient, ran_nothing
from scrapeq.queue.scripts import scripts
from scrapeq.queue.steering import Steering
from scrapeq.queue.wait import WATCHDOG_S, Listener, Watch
from scrapeq.task import DEFAULT_GROUP, Dedup, Group, Lease, NewTask, Order, Task

T = TypeVar("T")
_Pending = tuple[c.Entry, "asyncio.Future[c.Settled]"]

LEASE_S = 60.0
LOOK_S = 0.5  # between looks of one who asks for a grant: markers are for those who wait for tasks
RETRY_FIRST_S, RETRY_MAX_S = 0.02, 0.5  # between tries while the store is away
COALESCE_MAX = 200  # leases settled in one call


def key_of(name: str) -> str:
    """The control key of a queue; all its keys lie in that hash slot. Raises UsageError for braces or emptiness."""
    if not name or "{" in name or "}" in name:
        raise UsageError(f"queue name {name!r}: it may not be empty nor hold braces")
    return f"scrapeq:{{{name}}}:c"


class Queue(Steering):
    """
    A delayed priority queue that knows limits, over Redis or Valkey.

    Args:
        redis: An asyncio client (decode_responses off); many queues may share one.
        name: The queue's name; `scrapeq:{name}:…` are its keys.
        lease_s: Seconds a popped task stays invisible; extend it for longer work.
        max_tasks: Bound on the tasks of the queue, 0 = none.
        on_full: `block` waits for room, `reject` raises QueueFull.
        max_attempts: Charged tries before a task is dead.
        patience_s: Seconds to go on trying while the store is away, before StoreError.
        order: `strict` or `fair`, set at the first call for all who use the queue (`set_order`); None = as it is.

    Concurrent settles (ack, retry, …) of one Queue are sent together, so use one Queue for many slots.
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
        patience_s: float = 10.0,
        order: Order | None = None,
        test_clock: bool = False,
    ) -> None:
        check_client(redis, blocking=False)
        self.name = name
        self.lease_s = lease_s
        self.max_tasks = max_tasks
        self.on_full = on_full
        self.max_attempts = max_attempts
        self.patience_s = patience_s
        self._order = order  # still to be set
        self._redis: Any = redis  # its own types cannot tell what a script answers
        self._key = key_of(name)
        self._prefix = self._key[:-1]
        self._scripts = scripts(test_clock)
        self._listener = Listener(redis, self._prefix + "wake")
        self._room = Listener(redis, self._prefix + "room")
        self._watch = Watch()
        self._leaving = set()
        self._pending: deque[_Pending] = deque()
        self._flusher: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Queue:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Stop listening; the client stays open, it is the caller's."""
        await self._listener.close()
        await self._room.close()
        if self._watch.until_us or self._leaving:
            await self.leave()
        if self._flusher is not None:
            with contextlib.suppress(Exception):
                await self._flusher

    async def run(self, command: c.Command[T]) -> T:
        """
        Send one command of the core and read its reply.

        NOSCRIPT is answered by sending the script itself; a store that is away, loading or failing over is tried again
        for `patience_s` seconds where doing it twice is safe. Raises StoreError.
        """
        if self._order is not None:
            order, self._order = self._order, None
            try:
                await self.run(settings.set_order(order))
            except Exception:
                self._order = order
                raise
        script = self._scripts[command.script]
        deadline = time.monotonic() + self.patience_s
        pauses = pauses_s(RETRY_FIRST_S, RETRY_MAX_S)
        call, body = "EVALSHA", script.sha
        while True:
            try:
                return command.parse(
                    await self._redis.execute_command(call, body, 1, self._key, *command.args)
                )
            except NoScriptError:  # with its text it is known again, and nothing can come between
                if call == "EVAL":
                    raise StoreError("the store keeps forgetting its scripts (NOSCRIPT)") from None
                call, body = "EVAL", script.text
            except (StoreError, UsageError):
                raise
            except Exception as error:
                safe = command.again_is_safe or ran_nothing(error)
                pause = next(pauses)
                if not is_transient(error) or not safe or time.monotonic() + pause > deadline:
                    raise explain_error(error) from error
                await asyncio.sleep(pause)

    # --- pushing

    async def push(
        self,
        payload: Any,
        *,
        priority: float = 0.0,
        delay_s: float = 0.0,
        group: Group = DEFAULT_GROUP,
        key: str = "",
        dedup: Dedup = "only_new",
    ) -> c.Pushed:
        """Push one task. Raises UsageError (no JSON, NaN priority, negative delay), QueueFull, StoreError."""
        task = NewTask(payload, priority, delay_s, group, key)
        return (await self.push_many([task], dedup=dedup))[0]

    async def push_many(self, tasks: Iterable[NewTask], *, dedup: Dedup = "only_new") -> list[c.Pushed]:
        """
        Push tasks in order, up to 400 or 4 MiB a call.

        Raises QueueFull when the bound is met and the policy is `reject`: the call that met it pushed nothing,
        earlier ones of a long list stay.
        """
        results: list[c.Pushed] = []
        flying: asyncio.Task[list[c.Pushed]] | None = None
        try:
            for command in c.push(tasks, max_tasks=self.max_tasks, dedup=dedup):
                if flying is not None:
                    results += await flying
                flying = asyncio.create_task(self._push(command, len(results)))
                await asyncio.sleep(0)  # it is sent, and while the store works the next call is made
            if flying is not None:
                results += await flying
        except BaseException:
            if flying is not None:
                flying.cancel()
            raise
        return results

    async def _push(self, command: c.Command[list[c.Pushed] | None], before: int) -> list[c.Pushed]:
        pushed = await self.run(command)
        while pushed is None:
            if self.on_full == "reject":
                raise QueueFull(f"queue {self.name}: full ({self.max_tasks} tasks); {before} were pushed")
            await self._room.wait(WATCHDOG_S)
            pushed = await self.run(command)
        return pushed

    # --- popping

    async def pop(self, wait_s: float = 0.0) -> Task | None:
        """Lease the best task whose limits grant now; None when there was none within `wait_s` seconds."""
        tasks = await self.pop_many(1, wait_s)
        return tasks[0] if tasks else None

    async def pop_many(self, n: int, wait_s: float = 0.0, *, suspects: int = 0) -> list[Task]:
        """
        Lease the best n tasks, in order; waits up to `wait_s` seconds for the first.

        It sleeps until a push, an answer or the next time event, never polling. `suspects`: tasks with expiries that
        the caller holds now; a second one is not handed out, so that a poison task is found alone.
        """
        return (await self.poll(n, wait_s, suspects=suspects)).tasks

    async def poll(self, n: int, wait_s: float = 0.0, *, suspects: int = 0, stay_s: float = 0.0) -> c.Popped:
        """
        As `pop_many`, with what else the pop knows: how long to wait, and how many tasks live.

        `stay_s`: the caller goes on with `wait` for so long, should there be less than n tasks; `leave` when it stops.
        """
        deadline = time.monotonic() + wait_s
        watch, asked = self._watch if stay_s else Watch(), False
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
                    watched_us=watch.until_us,
                )
                asked = stay > 0
                popped = await self.run(command)
                asked = False
                if popped.again:
                    continue
                wait_now = watch.until(popped)
                if popped.tasks or left <= 0:
                    return popped
                await self._listener.wait(min(left, wait_now))
        except asyncio.CancelledError:
            if asked or watch.until_us:  # perhaps it is told just now
                self._leave()
            raise

    async def wait(self, popped: c.Popped, wait_s: float = WATCHDOG_S) -> None:
        """Sleep until an event, a push or `interrupt`, at most `wait_s` seconds, after a pop that had not all."""
        await self._listener.wait(min(wait_s, self._watch.until(popped)))

    def interrupt(self) -> None:
        """Wake whoever waits here for tasks, now."""
        self._listener.interrupt()

    # --- settling

    async def settle(self, entry: c.Entry) -> c.Settled:
        """Say what became of a lease. Calls made at the same time travel together, in order."""
        return await self.settle_soon(entry)

    def settle_soon(self, entry: c.Entry) -> asyncio.Future[c.Settled]:
        """As `settle`, without waiting for it."""
        future: asyncio.Future[c.Settled] = asyncio.get_running_loop().create_future()
        self._pending.append((entry, future))
        if self._flusher is None or self._flusher.done():
            self._flusher = asyncio.create_task(self._flush())
        return future

    async def _flush(self) -> None:
        await asyncio.sleep(0)  # whoever is ready in this turn of the loop joins
        while self._pending:
            batch: list[_Pending] = []
            follow = 0
            while self._pending and len(batch) < COALESCE_MAX and follow < c.PUSH_COUNT:
                batch.append(self._pending.popleft())
                follow += len(batch[-1][0].push)
            command, batch = _encoded(batch)
            if command is None:
                continue
            try:
                settled = await self.run(command)
            except Exception as error:
                for _, future in batch:
                    if not future.done():
                        future.set_exception(error)
            else:
                for (_, future), result in zip(batch, settled, strict=True):
                    if not future.done():
                        future.set_result(result)

    async def _settled(self, entry: c.Entry) -> c.Settled:
        settled = await self.settle(entry)
        if settled.outcome == "lost":
            raise LeaseLost(f"task {entry.lease.id}: the lease is no longer ours; nothing was changed")
        return settled

    async def ack(self, lease: Lease, *, push: Sequence[NewTask] = (), age_s: float = 0.0) -> list[c.Pushed]:
        """
        Done; the tasks in `push` enter the queue in the same script, only if the lease still stands.

        `age_s`: seconds since the answer came. Raises LeaseLost (nothing was changed).
        """
        return (await self._settled(c.Entry(c.ACK, lease, age_s=age_s, push=push))).pushed

    async def retry(
        self, task: Task, *, delay_s: float | None = None, error: str = "", sent: bool = True
    ) -> bool:
        """
        Give back and charge an attempt; dead at `max_attempts`. Default delay: full jitter, 1 s doubling to 5 min.

        Returns True when it is dead now. Raises LeaseLost.
        """
        delay = backoff_s(task.attempts) if delay_s is None else delay_s
        entry = c.Entry(
            c.RETRY, lease_of(task), sent=sent, delay_s=delay, max_attempts=self.max_attempts, error=error
        )
        return (await self._settled(entry)).outcome == "dead"

    async def release(
        self,
        lease: Lease,
        *,
        delay_s: float = 0.0,
        sent: bool = False,
        park: Sequence[tuple[str, float]] = (),
    ) -> None:
        """
        Give back uncharged, seen again after `delay_s`; `park`: (limit instance, seconds) closed in the same script.

        `sent`: ANSWERED where the request went out and was refused; an UNSENT one is refunded. Raises LeaseLost.
        """
        await self._settled(c.Entry(c.RELEASE, lease, sent=sent, delay_s=delay_s, refused=park))

    async def bury(self, lease: Lease, error: str, *, sent: int = c.RESPONDED) -> None:
        """Dead letter at once, with its last error. Raises LeaseLost."""
        await self._settled(c.Entry(c.BURY, lease, sent=sent, error=error))

    async def observe(
        self,
        lease: Lease,
        *,
        age_s: float = 0.0,
        reported: Sequence[tuple[str, float, float]] = (),
        refused: Sequence[tuple[str, float]] = (),
    ) -> None:
        """The answer is here, the work goes on: frees its slot and tells the limits what was told. Raises LeaseLost."""
        await self._settled(c.Entry(c.OBSERVE, lease, age_s=age_s, reported=reported, refused=refused))

    async def extend(self, lease: Lease, lease_s: float | None = None) -> None:
        """Keep the lease for `lease_s` seconds from now. Raises LeaseLost."""
        await self._settled(c.Entry(c.EXTEND, lease, delay_s=self.lease_s if lease_s is None else lease_s))

    async def set_visibility(self, lease: Lease, delay_s: float) -> None:
        """The lease ends in `delay_s` seconds and the task comes back uncharged; until then an ack counts."""
        await self._settled(c.Entry(c.VISIBILITY, lease, delay_s=delay_s))

    async def acquire(
        self, group: Group, *, weight: float = 1, wait_s: float = 0.0, credential: str = ""
    ) -> Lease | None:
        """
        A grant for a request that is no task; settle it by `ack`. None when closed for longer than `wait_s`.

        `member`: where a pool grants, this one only.
        """
        deadline = time.monotonic() + wait_s
        while True:
            got = await self.run(c.acquire(group, weight=weight, lease_s=self.lease_s, credential=credential))
            if isinstance(got, Lease):
                return got
            left = deadline - time.monotonic()
            if left <= 0:
                return None
            if await self._listener.wait(min(left, LOOK_S if got is None else min(got, LOOK_S))):
                self._leave()  # the marker was for who waits for tasks


def lease_of(task: Task) -> Lease:
    """The lease of a popped task. Raises UsageError for one that was only looked at."""
    if task.lease is None:
        raise UsageError(f"task {task.id}: it was looked at, not popped; it has no lease")
    return task.lease


def _encoded(batch: list[_Pending]) -> tuple[c.Command[list[c.Settled]] | None, list[_Pending]]:
    """The call, and what it holds: an entry that cannot be sent (a payload too large) fails alone."""
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
