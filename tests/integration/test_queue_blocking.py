"""DPQ, whose verbs are generated, against a real store: each verb once, and the founding document's names."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import pytest
import redis

from scrapeq.errors import LeaseLost, QueueFull, UsageError
from scrapeq.queue import DPQ, RESPONDED, Entry, Limit, Rate
from scrapeq.queue.commands import ACK
from scrapeq.task import Group, NewTask, lease_of

API = Group("example.org", ("api",))


@pytest.fixture
def queue(store: redis.Redis) -> DPQ:
    """Return an empty queue with one limit."""
    queue = DPQ(store, "blocking")
    queue.define({"api": Limit((Rate(1000, 60.0),), max_concurrency=100)})
    return queue


def test_tasks_are_inspected_without_being_leased(queue: DPQ) -> None:
    """peek, ids, get, counts and ready_by_group only read."""
    queue.push_many(NewTask(n, n, group=API) for n in range(3))
    assert [task.payload for task in queue.peek(2)] == [2, 1]
    assert queue.ids("ready", 2, offset=1) == ["000000000002", "000000000001"]
    assert [task and task.payload for task in queue.get("1", "99")] == [0, None]
    groups = {group.name: [id_ for id_, _ in ready] for group, ready in queue.ready_by_group()}
    assert groups["example.org"] == ["000000000003", "000000000002", "000000000001"]
    assert (queue.counts().ready, queue.get_size()) == (3, 3)


def test_limits_are_parked_and_paused(queue: DPQ) -> None:
    """park, unpark, pause and resume close and open limits, groups and the queue."""
    queue.push("x", group=API)
    pairs: list[tuple[Callable[[], object], Callable[[], object]]] = [
        (lambda: queue.park(["api"], for_s=60), lambda: queue.unpark(["api"])),
        (lambda: queue.park(group="example.org", for_s=60), lambda: queue.unpark(group="example.org")),
        (lambda: queue.pause(["api"]), lambda: queue.resume(["api"])),
        (queue.pause, queue.resume),
    ]
    for close, reopen in pairs:
        close()
        assert queue.pop_many(1) == []
        reopen()
        (task,) = queue.pop_many(1)
        queue.release(lease_of(task))


def test_limits_are_read_and_forgotten(queue: DPQ) -> None:
    """definitions, limit_states, limit_instances and limit_history read limits; forget_limits and purge delete them."""
    assert [*queue.definitions()] == ["api"]
    queue.push("x", group=API)
    task = queue.pop().task
    assert task is not None
    queue.observe(lease_of(task), reported=[("api", 41, 60.0)])
    queue.ack(lease_of(task))
    (state,) = queue.limit_states()
    assert (state.name, state.remaining) == ("api", 41)
    assert queue.limit_instances() == ["api"]
    assert queue.limit_history("api") == []
    assert queue.purge("limits") == 1
    queue.forget_limits(["api"])
    (state,) = queue.limit_states(["api"])
    assert state.remaining is None


def test_tasks_are_edited_and_purged(queue: DPQ) -> None:
    """prioritize, cancel, bury, redrive, drop and purge change tasks."""
    first, second, third = (pushed.id for pushed in queue.push_many(NewTask(n, n) for n in range(3)))
    assert queue.prioritize(9.0, first) == [True]
    task = queue.pop().task
    assert task is not None and task.id == first
    queue.bury(lease_of(task), "no luck")
    assert queue.redrive(first) == [True] and queue.drop(first) == [False]
    task = queue.pop().task
    assert task is not None
    queue.bury(lease_of(task), "again no luck")
    assert queue.drop(first) == [True]
    assert queue.cancel(second, "99") == [True, False]
    assert queue.purge("tasks") == 1 and queue.get(third) == [None]
    assert queue.purge("state") == 0


def test_a_lease_is_extended_retried_and_lost(queue: DPQ) -> None:
    """extend, set_visibility, retry, settle, ack_many, sweep and end_leases change leases."""
    queue.push("x")
    task = queue.pop().task
    assert task is not None
    queue.extend(lease_of(task), 30)
    assert queue.retry(task, delay_s=0, error="503", sent=RESPONDED) is False
    (task,) = queue.pop_many(1)
    assert task.attempts == 1
    queue.set_visibility(lease_of(task), 0.0)
    assert queue.sweep() is None
    with pytest.raises(LeaseLost, match="expired or was replaced"):
        queue.ack(lease_of(task))
    (task,) = queue.pop_many(1)
    queue.end_leases()
    assert queue.settle(Entry(ACK, lease_of(task))).outcome == "lost"
    (task,) = queue.pop_many(1, wait_s=5)
    assert queue.ack_many([lease_of(task)]) == [True]


def test_a_grant_without_a_task_waits_for_a_slot(store: redis.Redis) -> None:
    """acquire returns None at once, or waits up to `wait_s` seconds."""
    queue = DPQ(store, "slots")
    queue.define({"one": Limit(max_concurrency=1)})
    group = Group("g", ("one",))
    lease = queue.acquire(group)
    assert lease is not None
    assert queue.acquire(group) is None
    timer = threading.Timer(0.1, queue.ack, (lease,))
    timer.start()
    assert queue.acquire(group, wait_s=10) is not None
    timer.join()


def test_a_full_queue_rejects_or_waits(store: redis.Redis) -> None:
    """`reject` names the bound; `block` waits until another client makes room."""
    with DPQ(store, "full", max_tasks=1) as queue:
        queue.push("x")
        with pytest.raises(QueueFull, match=r"queue full: full \(max_tasks is 1\); this call pushed 0 tasks"):
            queue.push("y")
    patient = DPQ(store, "full", max_tasks=1, on_full="block")
    timer = threading.Timer(0.1, queue.cancel, ("1",))
    timer.start()
    assert patient.push("y").outcome == "pushed"
    timer.join()


def test_the_founding_names_are_aliases(store: redis.Redis) -> None:
    """`queue_name` is `name`, `delay` is `delay_s`, and a name is required once."""
    queue = DPQ(redis=store, queue_name="founding")
    assert queue.name == "founding"
    queue.push("x", 1, delay=60)
    queue.push("y", 2, delay_s=60)
    queue.push("z", 3, 60)
    assert queue.counts().delayed == 3
    with pytest.raises(UsageError, match="two names of one parameter"):
        DPQ(store, "one", queue_name="other")
    with pytest.raises(UsageError, match="must not be empty"):
        DPQ(store)


def test_a_waiting_pop_ends_at_a_push(queue: DPQ) -> None:
    """The pop waits in the store and returns as soon as a task is pushed."""
    timer = threading.Timer(0.2, DPQ(queue._redis, "blocking").push, ("x",))
    timer.start()
    started = time.monotonic()
    assert queue.pop(wait_s=20).task is not None
    assert time.monotonic() - started < 10
    timer.join()
