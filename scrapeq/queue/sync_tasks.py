# Generated from async_tasks.py by tools/unasync.py; change that file, then run the script.
# ruff: noqa
# fmt: off
"""The blocking verbs that push, lease and settle tasks."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from types import TracebackType
from typing import Any, Literal, Self, TypeVar

from scrapeq.backoff import pauses_s
from scrapeq.errors import LeaseLost, QueueFull, StoreError, UsageError
from scrapeq.queue import commands as c
from scrapeq.queue.sync_admin import SyncAdmin
from scrapeq.queue.backoff import backoff_s
from scrapeq.queue.connect import (
    NoScriptError,
    explain_error,
    has_function_already,
    has_no_function,
    is_transient,
    is_wrong_type,
    lacks_function,
    ran_nothing,
)
from scrapeq.queue.keys import key_of
from scrapeq.queue.library import Library, library
from scrapeq.queue.scripts import scripts
from scrapeq.task import DEFAULT_GROUP, Dedup, Group, Lease, NewTask, Order, Task, lease_of

T = TypeVar("T")

RETRY_FIRST_S, RETRY_MAX_S = 0.02, 0.5  # between tries while the store is away
LOADS_MAX = 3  # of the library for one call; a proxy may send each command to another server
ACQUIRE_POLL_S = 0.5  # between tries of `acquire`: wake-up markers are for callers that wait for tasks


class SyncTasks(SyncAdmin):
    """The verbs of a queue; the driver that subclasses it waits and sleeps."""

    def __init__(
        self,
        redis: Any,
        name: str,
        *,
        lease_s: float,
        max_tasks: int,
        on_full: Literal["block", "reject"],
        max_attempts: int,
        patience_s: float,
        order: Order | None,
    ) -> None:
        self.name = name
        self.lease_s = lease_s
        self.max_tasks = max_tasks
        self.on_full = on_full
        self.max_attempts = max_attempts
        self.patience_s = patience_s
        self._order_to_set = order
        self._redis = redis
        self._key = key_of(name)
        self._prefix = self._key[:-1]
        self._library: Library | None = library()  # None = the server refuses functions

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Stop using the queue. The Redis client belongs to the caller and stays open."""

    # --- what the driver provides

    def _sleep(self, delay_s: float) -> None:
        raise NotImplementedError

    def _wait_for_room(self) -> None:
        """Wait until the full queue may have room again."""
        raise NotImplementedError

    def _wait_for_grant(self, timeout_s: float) -> None:
        """Wait until another try of `acquire` is worth it, at most `timeout_s` seconds."""
        raise NotImplementedError

    def _pop_many(self, n: int, wait_s: float, suspects: int) -> list[Task]:
        """As `pop_many`."""
        raise NotImplementedError

    def _settle(self, entry: c.Entry) -> c.Settled:
        """As `settle`."""
        raise NotImplementedError

    def _run(self, command: c.Command[T]) -> T:
        """
        Send one command and parse its reply.

        It is a function of the library, which is loaded if the server lacks it, or a script where functions cannot be
        used; if the server does not know the script (NOSCRIPT), send its text. While the store is away, loading or
        failing over, retry for `patience_s` seconds, if repeating the command is safe. Raises StoreError.
        """
        if self._order_to_set is not None:
            order, self._order_to_set = self._order_to_set, None
            try:
                self.set_order(order)
            except Exception:
                self._order_to_set = order
                raise
        deadline = time.monotonic() + self.patience_s
        pauses = pauses_s(RETRY_FIRST_S, RETRY_MAX_S)
        if self._library is not None:
            call, body = "FCALL", self._library.function(command.script)
        else:
            call, body = "EVALSHA", scripts()[command.script].sha
        loads = 0
        while True:
            try:
                return command.parse(
                    self._redis.execute_command(call, body, 1, self._key, *command.args)
                )
            except NoScriptError:  # EVAL runs the script and caches it in one step
                if call == "EVAL":
                    raise StoreError(
                        "the store reports NOSCRIPT even for EVAL; check what proxies it"
                    ) from None
                call, body = "EVAL", scripts()[command.script].text
            except (StoreError, UsageError):
                raise
            except Exception as error:
                if call == "FCALL" and lacks_function(error):
                    loads += 1
                    if loads > LOADS_MAX or not self._load_library(error):
                        call, body = "EVALSHA", scripts()[command.script].sha
                    continue
                safe = command.is_repeatable or ran_nothing(error)
                pause = next(pauses)
                if is_wrong_type(error):
                    self.check_types(families=True)  # its error names the key
                if not is_transient(error) or not safe or time.monotonic() + pause > deadline:
                    raise explain_error(error) from error
                self._sleep(pause)

    def _load_library(self, error: Exception) -> bool:
        """Load the library of functions; return whether it can be used now. The scripts do the same, more slowly."""
        found = self._library
        if found is None or not has_no_function(error):
            self._library = None
            return False
        try:
            self._redis.execute_command("FUNCTION LOAD", found.text)
        except Exception as refusal:
            if has_function_already(refusal):  # another client was faster
                return True
            if lacks_function(refusal):
                self._library = None
            return False  # until the next call, for example while memory is full
        return True

    # --- pushing

    def push(
        self,
        payload: Any,
        *,
        priority: float = 0.0,
        delay_s: float = 0.0,
        group: Group = DEFAULT_GROUP,
        key: str = "",
        dedup: Dedup = "only_new",
    ) -> c.Pushed:
        """
        Push one task.

            queue.push({"url": "https://example.org/1"}, priority=5, delay_s=10, key="item 1")

        Args:
            payload: Anything that orjson can serialize, at most 1 MiB as JSON.
            priority: Any finite number. Higher comes first; equal priorities are first in, first out.
            delay_s: Seconds before which the task is not handed out.
            group: The limits that the task needs.
            key: Its identity for deduplication; empty = never a duplicate.
            dedup: What to do if the key is known: `only_new` leaves the old task alone, `raise_priority` also raises
                its priority to the new one if that is higher.

        Returns:
            The outcome, and the id of the new task.

        Raises:
            UsageError: a payload that is not JSON or is too large, a priority that is not finite, a negative delay.
            QueueFull: the queue is full and its policy is `reject`.
            StoreError: the store is unreachable or refuses.
        """
        task = NewTask(payload, priority, delay_s, group, key)
        return (self.push_many([task], dedup=dedup))[0]

    def push_many(self, tasks: Iterable[NewTask], *, dedup: Dedup = "only_new") -> list[c.Pushed]:
        """
        Push tasks in order, in calls of up to 400 tasks or 4 MiB.

            queue.push_many(NewTask({"id": id_}, priority=id_) for id_ in range(1000))

        Returns:
            One outcome per task, in the same order.

        Raises:
            QueueFull: the queue is full and its policy is `reject`. The call that found it full pushed nothing;
                tasks that earlier calls pushed stay.
            UsageError, StoreError: as `push`.
        """
        return self._push_all(c.push(tasks, max_tasks=self.max_tasks, dedup=dedup))

    def _push_all(self, commands: Iterable[c.Command[list[c.Pushed] | None]]) -> list[c.Pushed]:
        results: list[c.Pushed] = []
        for command in commands:
            results += self._push_batch(command, len(results))
        return results

    def _push_batch(
        self, command: c.Command[list[c.Pushed] | None], pushed_before: int
    ) -> list[c.Pushed]:
        pushed = self._run(command)
        while pushed is None:
            if self.on_full == "reject":
                raise QueueFull(
                    f"queue {self.name}: full (max_tasks is {self.max_tasks}); this call pushed {pushed_before} tasks"
                )
            self._wait_for_room()
            pushed = self._run(command)
        return pushed

    # --- popping

    def pop_many(self, n: int, wait_s: float = 0.0, *, suspects: int = 0) -> list[Task]:
        """
        Lease the best n tasks whose limits grant now, best first.

            for task in queue.pop_many(10, wait_s=60):
                queue.ack(task.lease)

        Args:
            n: How many at most.
            wait_s: Seconds to wait for the first task. The wait ends at a push, a response or the next time event;
                it does not poll.
            suspects: How many tasks with expired leases the caller holds. While it holds one it gets no other, so
                that a task that kills its worker is identified.

        Returns:
            The tasks, leased for `lease_s` seconds; empty if there was none in time.

        Raises:
            StoreError: the store is unreachable or refuses.
        """
        return self._pop_many(n, wait_s, suspects)

    def acquire(
        self, group: Group, *, weight: float = 1, wait_s: float = 0.0, credential: str = ""
    ) -> Lease | None:
        """
        Acquire a grant for a request that is not a task. Settle it with `ack` or `release`.

            lease = queue.acquire(Group("example.org", ("api|example.org",)), wait_s=5)

        Args:
            group: The limits that the request needs.
            weight: What the request costs, as a multiple of what the group weighs.
            wait_s: Seconds to wait for the grant.
            credential: The one credential of a pool to use; empty = any.

        Returns:
            The lease; None if the limits stayed closed.

        Raises:
            UsageError: the weight is negative or not finite.
            StoreError: the store is unreachable or refuses.
        """
        deadline = time.monotonic() + wait_s
        while True:
            grant = self._run(
                c.acquire(group, weight=weight, lease_s=self.lease_s, credential=credential)
            )
            if isinstance(grant, Lease):
                return grant
            left = deadline - time.monotonic()
            if left <= 0:
                return None
            self._wait_for_grant(
                min(left, ACQUIRE_POLL_S if grant is None else min(grant, ACQUIRE_POLL_S))
            )

    # --- settling

    def settle(self, entry: c.Entry) -> c.Settled:
        """
        Report the outcome of a lease in full; `ack`, `retry` and the other verbs are shorter forms of it.

        Returns:
            The outcome: `lost` if the lease is stale and nothing was changed.

        Raises:
            UsageError: a follow-up task that is not valid, a negative duration or cost.
            StoreError: the store is unreachable or refuses.
        """
        return self._settle(entry)

    def _settle_own(self, entry: c.Entry) -> c.Settled:
        """Settle an entry. Raises LeaseLost if its lease is stale."""
        settled = self._settle(entry)
        if settled.outcome == "lost":
            raise LeaseLost(f"task {entry.lease.id}: this lease expired or was replaced; nothing was changed")
        return settled

    def ack(self, lease: Lease, *, push: Sequence[NewTask] = (), age_s: float = 0.0) -> list[c.Pushed]:
        """
        Mark a task as done, and push the tasks that follow from it in the same script.

            queue.ack(task.lease, push=[NewTask({"url": next_url})])

        Args:
            lease: The lease of the task, or of `acquire`.
            push: Follow-up tasks; they are pushed only if the lease is still valid.
            age_s: Seconds since the response arrived.

        Returns:
            The outcome of each follow-up task.

        Raises:
            LeaseLost: the lease expired or was replaced; nothing was changed.
            UsageError, StoreError: as `push`.
        """
        return (self._settle_own(c.Entry(c.ACK, lease, age_s=age_s, push=push))).pushed

    def ack_many(self, leases: Sequence[Lease]) -> list[bool]:
        """Mark tasks as done in one call. Return for each lease whether it was still valid."""
        settled = self._run(c.settle([c.Entry(c.ACK, lease) for lease in leases]))
        return [one.outcome == "done" for one in settled]

    def retry(
        self, task: Task, *, delay_s: float | None = None, error: str = "", sent: c.Delivery = c.RESPONDED
    ) -> bool:
        """
        Give a task back and charge an attempt; after `max_attempts` it is a dead letter.

            is_dead = queue.retry(task, error="503 Service Unavailable")

        Args:
            task: A popped task.
            delay_s: Seconds before the next try; None = full jitter, doubling from 1 s to 5 min.
            error: Why it failed; stored as `last_error`.
            sent: What became of the request.

        Returns:
            Whether the task is a dead letter now.

        Raises:
            UsageError: the task was only read, so it is not leased.
            LeaseLost: the lease expired or was replaced; nothing was changed.
            StoreError: the store is unreachable or refuses.
        """
        delay = backoff_s(task.attempts) if delay_s is None else delay_s
        entry = c.Entry(
            c.RETRY, lease_of(task), sent=sent, delay_s=delay, max_attempts=self.max_attempts, error=error
        )
        return (self._settle_own(entry)).outcome == "dead"

    def release(
        self,
        lease: Lease,
        *,
        delay_s: float = 0.0,
        sent: c.Delivery = c.UNSENT,
        park: Sequence[tuple[str, float]] = (),
    ) -> None:
        """
        Give a task back without charging an attempt, and park limits in the same script.

            queue.release(task.lease, sent=RESPONDED, park=[("api|example.org", 120)])

        Args:
            lease: The lease of the task, or of `acquire`.
            delay_s: Seconds before the task is handed out again.
            sent: What became of the request. RESPONDED: a server refused it. UNSENT: its limits are refunded.
            park: Limit instances to close, each with the seconds to stay closed.

        Raises:
            LeaseLost: the lease expired or was replaced; nothing was changed.
            StoreError: the store is unreachable or refuses.
        """
        self._settle_own(c.Entry(c.RELEASE, lease, sent=sent, delay_s=delay_s, refused=park))

    def bury(self, lease: Lease, error: str, *, sent: c.Delivery = c.RESPONDED) -> None:
        """
        Make a task a dead letter at once.

        Args:
            lease: The lease of the task.
            error: Why; stored as `last_error`.
            sent: What became of the request.

        Raises:
            LeaseLost: the lease expired or was replaced; nothing was changed.
            StoreError: the store is unreachable or refuses.
        """
        self._settle_own(c.Entry(c.BURY, lease, sent=sent, error=error))

    def observe(
        self,
        lease: Lease,
        *,
        age_s: float = 0.0,
        reported: Sequence[tuple[str, float, float]] = (),
        refused: Sequence[tuple[str, float]] = (),
    ) -> None:
        """
        Record that the response arrived and what it says about the limits; the task stays leased.

        This frees the request's slot, so call it when the work on a response takes long.

            queue.observe(task.lease, reported=[("api|example.org", 42, 60.0)])

        Args:
            lease: The lease of the task.
            age_s: Seconds since the response arrived.
            reported: (limit instance, requests remaining, seconds until the reset), as the server reported them.
            refused: (limit instance, seconds to stay closed) of limits that refused the request.

        Raises:
            LeaseLost: the lease expired or was replaced; nothing was changed.
            StoreError: the store is unreachable or refuses.
        """
        self._settle_own(c.Entry(c.OBSERVE, lease, age_s=age_s, reported=reported, refused=refused))

    def extend(self, lease: Lease, lease_s: float | None = None) -> None:
        """
        Extend a lease to `lease_s` seconds from now; None = the queue's `lease_s`.

        Raises:
            LeaseLost: the lease expired or was replaced; nothing was changed.
            StoreError: the store is unreachable or refuses.
        """
        self._settle_own(c.Entry(c.EXTEND, lease, delay_s=self.lease_s if lease_s is None else lease_s))

    def set_visibility(self, lease: Lease, delay_s: float) -> None:
        """
        End the lease in `delay_s` seconds; the task then comes back without a charged attempt.

        Until then the lease is valid, and `ack` counts.

        Raises:
            LeaseLost: the lease expired or was replaced; nothing was changed.
            StoreError: the store is unreachable or refuses.
        """
        self._settle_own(c.Entry(c.VISIBILITY, lease, delay_s=delay_s))
