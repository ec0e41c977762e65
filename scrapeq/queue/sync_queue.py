"""The blocking driver of the queue: `DPQ`, the delayed priority queue for scripts without asyncio."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import redis

from scrapeq.errors import UsageError
from scrapeq.queue import commands as c
from scrapeq.queue.connect import check_client, explain_error, is_transient
from scrapeq.queue.defaults import LEASE_S, MAX_ATTEMPTS, PATIENCE_S
from scrapeq.queue.sync_tasks import SyncTasks
from scrapeq.queue.wait import WATCHDOG_S, Waiter, longest_block_s
from scrapeq.task import DEFAULT_GROUP, Dedup, Group, Order, Task, lease_of

# The server ends a blocking call up to 95 ms late, so the end of a timed wait is slept here.
SERVER_LATENESS_S = 0.1


class Taken(NamedTuple):
    """
    The result of `DPQ.pop`: `task, on_success, set_visibility = q.pop()`.

    Args:
        task: The task; None if there was none.
        on_success: Marks the task as done. Raises LeaseLost.
        set_visibility: Takes seconds. The lease ends then, and the task comes back without a charged attempt; until
            then `on_success` counts. Raises LeaseLost.
    """

    task: Task | None
    on_success: Callable[[], None]
    set_visibility: Callable[[float], None]


def _do_nothing(_delay_s: float = 0.0) -> None:
    """Stand in for both functions of `NOTHING`."""


NOTHING = Taken(None, _do_nothing, _do_nothing)


class DPQ(SyncTasks):
    """
    A delayed priority queue that knows rate limits, over Redis or Valkey, for blocking code.

        q = DPQ(redis.Redis(), "my_queue")
        q.push({"url": "https://example.org/1"}, priority=5, delay_s=10)
        task, on_success, set_visibility = q.pop(wait_s=30)
        if task is not None:
            on_success()

    It has the verbs of `Queue`. Only `pop` differs: it also returns functions that settle the task.

    Args:
        redis: A `redis.Redis` client with `decode_responses=False`; several queues may share one.
        name: The queue's name; its keys are `scrapeq:{name}:…`.
        queue_name: Another name of `name`.
        lease_s: Seconds that a popped task stays invisible; `extend` the lease for longer work.
        max_tasks: The most tasks that the queue holds; 0 = no bound.
        on_full: `block` waits for room, `reject` raises QueueFull.
        max_attempts: Charged attempts before a task is a dead letter.
        patience_s: Seconds to retry while the store is away, before StoreError.
        order: `strict` or `fair`, set at the first call for everyone who uses the queue (see `set_order`);
            None = leave it as it is.

    Raises:
        UsageError: `redis` is not a blocking client, or the name is missing or contains braces.
    """

    def __init__(
        self,
        redis: redis.Redis,
        name: str = "",
        *,
        queue_name: str = "",
        lease_s: float = LEASE_S,
        max_tasks: int = 0,
        on_full: Literal["block", "reject"] = "reject",
        max_attempts: int = MAX_ATTEMPTS,
        patience_s: float = PATIENCE_S,
        order: Order | None = None,
    ) -> None:
        check_client(redis, blocking=True)
        if name and queue_name:
            raise UsageError("name, queue_name: two names of one parameter; pass one of them")
        super().__init__(
            redis,
            name or queue_name,
            lease_s=lease_s,
            max_tasks=max_tasks,
            on_full=on_full,
            max_attempts=max_attempts,
            patience_s=patience_s,
            order=order,
        )
        self._block_s = longest_block_s(redis)

    def _sleep(self, delay_s: float) -> None:
        time.sleep(delay_s)

    def _wait_for_room(self) -> None:
        self._wait_for_marker("room", WATCHDOG_S)

    def _wait_for_grant(self, timeout_s: float) -> None:
        time.sleep(timeout_s)

    def _wait_for_marker(self, marker: str, timeout_s: float) -> None:
        until = time.monotonic() + timeout_s
        blocking_s = min(timeout_s, self._block_s) - SERVER_LATENESS_S
        if blocking_s > 0:
            try:
                if self._redis.execute_command("BZPOPMIN", self._prefix + marker, blocking_s):
                    return
            except Exception as error:
                if not is_transient(error):
                    raise explain_error(error) from error
        self._sleep(max(0.0, min(until - time.monotonic(), SERVER_LATENESS_S)))

    def push(
        self,
        payload: Any,
        priority: float = 0.0,
        delay_s: float = 0.0,
        *,
        group: Group = DEFAULT_GROUP,
        key: str = "",
        dedup: Dedup = "only_new",
        delay: float | None = None,
    ) -> c.Pushed:
        """
        Push one task, as `Queue.push`.

            q.push({"url": "https://example.org/1"}, priority=5, delay=10)

        Args:
            payload: Anything that orjson can serialize, at most 1 MiB as JSON.
            priority: Any finite number. Higher comes first; equal priorities are first in, first out.
            delay_s: Seconds before which the task is not handed out.
            group: The limits that the task needs.
            key: Its identity for deduplication; empty = never a duplicate.
            dedup: What to do if the key is known: `only_new` or `raise_priority`.
            delay: Another name of `delay_s`.

        Raises:
            UsageError: a payload that is not JSON or is too large, a priority that is not finite, a negative delay.
            QueueFull: the queue is full and its policy is `reject`.
            StoreError: the store is unreachable or refuses.
        """
        if delay is not None:
            delay_s = delay
        return super().push(payload, priority=priority, delay_s=delay_s, group=group, key=key, dedup=dedup)

    def pop(self, wait_s: float = 0.0) -> Taken:
        """
        Lease the best task whose limits grant now: `task, on_success, set_visibility = q.pop()`.

        Args:
            wait_s: Seconds to wait for one; 0 = do not wait.

        Returns:
            The task, leased for `lease_s` seconds and None if there was none in time, with two functions that
            settle it. They raise LeaseLost if the lease has expired.

        Raises:
            StoreError: the store is unreachable or refuses.
        """
        tasks = self.pop_many(1, wait_s)
        if not tasks:
            return NOTHING
        task = tasks[0]
        lease = lease_of(task)

        def on_success() -> None:
            self.ack(lease)

        def set_visibility(delay_s: float) -> None:
            self.set_visibility(lease, delay_s)

        return Taken(task, on_success, set_visibility)

    def _pop_many(self, n: int, wait_s: float, suspects: int) -> list[Task]:
        deadline = time.monotonic() + wait_s
        waiter = Waiter()
        while True:
            left = max(0.0, deadline - time.monotonic())
            popped = self._run(
                c.pop(
                    n,
                    lease_s=self.lease_s,
                    suspects=suspects,
                    stay_s=min(left, WATCHDOG_S),
                    previous_poll_at_us=waiter.poll_at_us,
                )
            )
            if popped.is_unfinished:
                continue
            wait_now = waiter.wait_s(popped)
            if popped.tasks or left <= 0:
                return popped.tasks
            self._wait_for_marker("wake", min(left, wait_now))

    def _settle(self, entry: c.Entry) -> c.Settled:
        return self._run(c.settle([entry]))[0]

    def get_size(self) -> int:
        """Return how many tasks are in the queue and are not dead letters."""
        return self.counts().live
