"""The blocking driver of the queue: `DPQ`, the delayed priority queue for scripts without asyncio."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Literal, NamedTuple, TypeVar

import redis

from scrapeq.backoff import pauses_s
from scrapeq.errors import LeaseLost, QueueFull, StoreError, UsageError
from scrapeq.limit import Limit
from scrapeq.queue import commands as c
from scrapeq.queue import settings
from scrapeq.queue.async_queue import LEASE_S, RETRY_FIRST_S, RETRY_MAX_S, key_of, lease_of
from scrapeq.queue.backoff import MAX_ATTEMPTS, backoff_s
from scrapeq.queue.connect import NoScriptError, check_client, explain_error, is_transient, ran_nothing
from scrapeq.queue.scripts import scripts
from scrapeq.queue.wait import WATCHDOG_S, Watch
from scrapeq.task import DEFAULT_GROUP, Dedup, Group, Lease, NewTask, Order, Task

T = TypeVar("T")

# The server's blocking time-outs fire up to 95 ms late: the last bit of a timed wait is slept here.
LATE_S = 0.1


class Taken(NamedTuple):
    """
    What `DPQ.pop` gives: the task (None when there is nothing), how to finish it, how to give it back.

    `set_visibility(d)`: the lease ends in d seconds and the task comes back uncharged; until then `on_success` counts.
    """

    task: Task | None
    on_success: Callable[[], None]
    set_visibility: Callable[[float], None]


def _noop(_delay_s: float = 0.0) -> None:
    """There was no task: nothing to finish, nothing to give back."""


NOTHING = Taken(None, _noop, _noop)


class DPQ:
    """
    A delayed priority queue over Redis or Valkey, for blocking code.

    Args:
        redis: A `redis.Redis` client (decode_responses off); many queues may share one.
        queue_name: The queue's name.
        visibility: Seconds a popped task stays invisible.
        max_tasks: Bound on the tasks of the queue, 0 = none.
        on_full: `block` waits for room, `reject` raises QueueFull.
        max_attempts: Charged tries before a task is dead.
        patience_s: Seconds to go on trying while the store is away, before StoreError.
        order: `strict` or `fair`, set at the first call for all who use the queue (`set_order`); None = as it is.
    """

    def __init__(
        self,
        redis: redis.Redis,
        queue_name: str,
        *,
        visibility: float = LEASE_S,
        max_tasks: int = 0,
        on_full: Literal["block", "reject"] = "reject",
        max_attempts: int = MAX_ATTEMPTS,
        patience_s: float = 10.0,
        order: Order | None = None,
    ) -> None:
        check_client(redis, blocking=True)
        self.name = queue_name
        self.visibility = visibility
        self.max_tasks = max_tasks
        self.on_full = on_full
        self.max_attempts = max_attempts
        self.patience_s = patience_s
        self._order = order  # still to be set
        self._redis: Any = redis  # its own types cannot tell what a script answers
        self._key = key_of(queue_name)
        self._prefix = self._key[:-1]
        self._scripts = scripts()

    def run(self, command: c.Command[T]) -> T:
        """Send one command of the core and read its reply; as `Queue.run`. Raises StoreError."""
        if self._order is not None:
            order, self._order = self._order, None
            try:
                self.set_order(order)
            except Exception:
                self._order = order
                raise
        script = self._scripts[command.script]
        deadline = time.monotonic() + self.patience_s
        pauses = pauses_s(RETRY_FIRST_S, RETRY_MAX_S)
        call, body = "EVALSHA", script.sha
        while True:
            try:
                return command.parse(self._redis.execute_command(call, body, 1, self._key, *command.args))
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
                time.sleep(pause)

    def push(
        self,
        payload: Any,
        priority: float = 0.0,
        delay: float = 0.0,
        *,
        group: Group = DEFAULT_GROUP,
        key: str = "",
        dedup: Dedup = "only_new",
    ) -> c.Pushed:
        """
        Push one task: any finite number as priority, higher first, ties first-in-first-out; not before `delay` seconds.

        Raises UsageError (no JSON, NaN priority, negative delay), QueueFull, StoreError.
        """
        return self.push_many([NewTask(payload, priority, delay, group, key)], dedup=dedup)[0]

    def push_many(self, tasks: Iterable[NewTask], *, dedup: Dedup = "only_new") -> list[c.Pushed]:
        """Push tasks in order, up to 400 or 4 MiB a call; raises as `push`."""
        results: list[c.Pushed] = []
        for command in c.push(tasks, max_tasks=self.max_tasks, dedup=dedup):
            pushed = self.run(command)
            while pushed is None:
                if self.on_full == "reject":
                    raise QueueFull(
                        f"queue {self.name}: full ({self.max_tasks} tasks); {len(results)} were pushed"
                    )
                self._block("room", WATCHDOG_S)
                pushed = self.run(command)
            results += pushed
        return results

    def pop(self, wait_s: float = 0.0) -> Taken:
        """
        Lease the best task that is due: `task, on_success, set_visibility = q.pop()`.

        Never blocks unless `wait_s` says how long. `on_success` and `set_visibility` raise LeaseLost when the lease ran
        out meanwhile and nothing was changed.
        """
        tasks = self.pop_many(1, wait_s)
        if not tasks:
            return NOTHING
        task = tasks[0]
        lease = lease_of(task)
        return Taken(task, lambda: self.ack(lease), lambda delay_s: self.set_visibility(lease, delay_s))

    def pop_many(self, n: int, wait_s: float = 0.0) -> list[Task]:
        """Lease the best n tasks, in order; waits up to `wait_s` seconds for the first, without polling."""
        deadline = time.monotonic() + wait_s
        watch = Watch()
        while True:
            left = max(0.0, deadline - time.monotonic())
            stay_s = min(left, WATCHDOG_S)
            popped = self.run(c.pop(n, lease_s=self.visibility, stay_s=stay_s, watched_us=watch.until_us))
            if popped.again:
                continue
            wait_now = watch.until(popped)
            if popped.tasks or left <= 0:
                return popped.tasks
            self._block("wake", min(left, wait_now))

    def _block(self, marker: str, timeout_s: float) -> None:
        until = time.monotonic() + timeout_s
        blocking = min(timeout_s, WATCHDOG_S) - LATE_S
        if blocking > 0:
            try:
                if self._redis.execute_command("BZPOPMIN", self._prefix + marker, blocking):
                    return
            except Exception as error:
                if not is_transient(error):
                    raise explain_error(error) from error
        time.sleep(max(0.0, min(until - time.monotonic(), LATE_S)))

    def _settle(self, entry: c.Entry) -> c.Settled:
        settled = self.run(c.settle([entry]))[0]
        if settled.outcome == "lost":
            raise LeaseLost(f"task {entry.lease.id}: the lease is no longer ours; nothing was changed")
        return settled

    def ack(self, lease: Lease, *, push: Sequence[NewTask] = ()) -> None:
        """Done; the tasks in `push` enter the queue in the same script. Raises LeaseLost."""
        self._settle(c.Entry(c.ACK, lease, push=push))

    def ack_many(self, leases: Sequence[Lease]) -> list[bool]:
        """Done, in one call: which leases still stood."""
        return [s.outcome == "done" for s in self.run(c.settle([c.Entry(c.ACK, lease) for lease in leases]))]

    def retry(self, task: Task, *, delay_s: float | None = None, error: str = "") -> bool:
        """Give back and charge an attempt (default delay: full jitter); True when it is dead now. Raises LeaseLost."""
        delay = backoff_s(task.attempts) if delay_s is None else delay_s
        entry = c.Entry(c.RETRY, lease_of(task), delay_s=delay, max_attempts=self.max_attempts, error=error)
        return self._settle(entry).outcome == "dead"

    def release(self, lease: Lease, *, delay_s: float = 0.0) -> None:
        """Give back uncharged, seen again after `delay_s` seconds. Raises LeaseLost."""
        self._settle(c.Entry(c.RELEASE, lease, sent=c.UNSENT, delay_s=delay_s))

    def bury(self, lease: Lease, error: str) -> None:
        """Dead letter at once, with its last error. Raises LeaseLost."""
        self._settle(c.Entry(c.BURY, lease, error=error))

    def extend(self, lease: Lease, lease_s: float | None = None) -> None:
        """Keep the lease for `lease_s` seconds from now. Raises LeaseLost."""
        self._settle(c.Entry(c.EXTEND, lease, delay_s=self.visibility if lease_s is None else lease_s))

    def set_visibility(self, lease: Lease, delay_s: float) -> None:
        """The lease ends in `delay_s` seconds and the task comes back uncharged. Raises LeaseLost."""
        self._settle(c.Entry(c.VISIBILITY, lease, delay_s=delay_s))

    def define(self, limits: Mapping[str, Limit]) -> None:
        """Make limits known by name."""
        self.run(c.define(limits))

    def set_order(self, order: Order | None) -> Order:
        """As `Queue.set_order`: strict or fair for all who use the queue; None only asks."""
        return self.run(settings.set_order(order))

    def define_pools(self, pools: Mapping[str, Sequence[str]]) -> None:
        """As `Queue.define_pools`: the members of pools, of which one grants."""
        self.run(settings.define_pools(pools))

    def get(self, *ids: str) -> list[Task | None]:
        """Tasks by id, in any state; None where there is none."""
        return self.run(c.get(ids))

    def counts(self) -> c.Counts:
        """How many tasks are where, and what happened."""
        return self.run(c.counts())

    def get_size(self) -> int:
        """How many tasks are in the queue and not dead."""
        return self.counts().live

    def cancel(self, *ids: str) -> list[bool]:
        """Take tasks out of the queue in any state. Which were there."""
        return self.run(c.edit("cancel", ids))

    def prioritize(self, priority: float, *ids: str) -> list[bool]:
        """Change the priority in any state (leased: when it comes back)."""
        return self.run(c.edit("prioritize", ids, float(priority)))

    def redrive(self, *ids: str) -> list[bool]:
        """Dead letters become ready again. Which were dead."""
        return self.run(c.edit("redrive", ids))

    def sweep(self) -> float | None:
        """Make due tasks ready and expire leases, without popping; seconds to the next event, if there is one."""
        more, wait_s = True, None
        while more:
            more, wait_s = self.run(c.sweep())
        return wait_s
