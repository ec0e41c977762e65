"""The reference model of the queue: one example of each rule."""

from __future__ import annotations

import asyncio
from typing import Literal

import pytest
from queue_model.model import Model
from queue_model.records import CRASHED

from scrapeq.limit import Limit, Rate
from scrapeq.queue import commands as c
from scrapeq.task import Dedup, Group, Lease, NewTask, Task
from scrapeq.testing import FakeClock

US = 1_000_000
GROUP = Group("g", ("a",))


def model(limit: Limit | None = None, tasks: int = 10) -> Model:
    """Return a queue with tasks under one limit."""
    made = Model(server_us=1_000 * US)
    if limit:
        made.define({"a": limit})
    made.push([NewTask(i, group=GROUP) for i in range(tasks)])
    return made


def payloads(tasks: list[Task]) -> list[object]:
    """Return the payloads of tasks."""
    return [task.payload for task in tasks]


def lease(task: Task) -> Lease:
    """Return the lease of a popped task."""
    assert task.lease
    return task.lease


def test_tasks_come_by_priority_and_ties_first_in_first_out() -> None:
    """Any finite float is a priority; an int equals the same float."""
    q = Model()
    q.push([NewTask("low", -1e308), NewTask("first", 2), NewTask("second", 2.0), NewTask("high", 1e308)])
    assert payloads(q.pop(9, lease_s=1).tasks) == ["high", "first", "second", "low"]


def test_a_delayed_task_is_not_handed_out_before_its_time() -> None:
    """It is due at the exact microsecond."""
    q = Model()
    q.push([NewTask("later", delay_s=2)])
    q.server_us += 2 * US - 1
    assert not q.pop(1, lease_s=1).tasks
    q.server_us += 1
    assert payloads(q.pop(1, lease_s=1).tasks) == ["later"]


def test_a_slot_is_freed_one_window_after_its_response() -> None:
    """At three in ten seconds, the fourth is granted ten seconds after the first response, not the first grant."""
    q = model(Limit((Rate(3, 10.0),)))
    leases = []
    for _ in range(3):
        leases += [lease(task) for task in q.pop(1, lease_s=100).tasks]
        q.server_us += 4 * US
    assert len(leases) == 3
    assert not q.pop(1, lease_s=100).tasks
    q.settle([c.Entry(c.ACK, each, age_s=1) for each in leases])  # the response came a second ago
    q.server_us += 9 * US - 1
    assert not q.pop(1, lease_s=100).tasks
    q.server_us += 1
    assert len(q.pop(3, lease_s=100).tasks) == 1


def test_concurrency_counts_requests_without_a_response() -> None:
    """A response frees the slot, even if the task is not settled yet."""
    q = model(Limit(max_concurrency=2))
    first, _ = q.pop(9, lease_s=100).tasks
    assert not q.pop(9, lease_s=100).tasks
    q.settle([c.Entry(c.OBSERVE, lease(first))])
    assert len(q.pop(9, lease_s=100).tasks) == 1
    assert q.settle([c.Entry(c.ACK, lease(first))])[0].outcome == "done"
    assert not q.pop(9, lease_s=100).tasks


def test_a_refusal_parks_the_limit_until_a_probe_succeeds() -> None:
    """After the park, requests are granted one at a time until one succeeds."""
    q = model(Limit(max_concurrency=3))
    first, second, _ = q.pop(9, lease_s=100).tasks
    q.settle([c.Entry(c.RELEASE, lease(first), refused=[("a", 5)])])
    q.server_us += 5 * US - 1
    assert not q.pop(9, lease_s=100).tasks
    q.server_us += 1
    (probe,) = q.pop(9, lease_s=100).tasks
    assert (probe.id, probe.attempts, probe.releases) == (
        first.id,
        0,
        1,
    )  # released without a charged attempt
    q.settle([c.Entry(c.ACK, lease(second))])  # sent before the refusal, so it proves nothing
    assert not q.pop(9, lease_s=100).tasks
    q.settle([c.Entry(c.ACK, lease(probe))])
    assert len(q.pop(9, lease_s=100).tasks) == 2


def test_a_reported_budget_is_what_remains_minus_what_is_in_flight() -> None:
    """Three remaining means three grants, and none after them before the reset."""
    q = model(Limit(learn=True))
    (first,) = q.pop(9, lease_s=100).tasks
    q.settle([c.Entry(c.ACK, lease(first), reported=[("a", 3, 60)])])
    assert len(q.pop(9, lease_s=100).tasks) == 3
    q.server_us += 60 * US
    assert len(q.pop(9, lease_s=100).tasks) == 1  # a new window: one request until its budget is known


def test_three_expired_leases_make_a_dead_letter() -> None:
    """A task that kills its workers is delayed after each expiry, and is not handed out beside another suspect."""
    q = Model()
    q.push([NewTask("poison"), NewTask("neighbour")])
    for _ in range(2):
        assert len(q.pop(2, lease_s=1).tasks) >= 1
        for _ in range(4):
            q.server_us += US
            q.sweep()
    assert not q.pop(2, lease_s=1, suspects=1).tasks
    q.server_us += US
    (one,) = q.pop(2, lease_s=1).tasks
    while q.tasks[one.id].state != "dead":
        q.server_us += US
        q.pop(1, lease_s=0.5)
    assert (q.tasks[one.id].error, q.tasks[one.id].expiries) == (CRASHED, 3)


def test_a_stale_token_changes_nothing() -> None:
    """This is true even if the server's clock stepped back in between."""
    q = model(tasks=1)
    (old,) = q.pop(1, lease_s=1).tasks
    q.server_us += 2 * US
    q.sweep()
    q.server_us -= 50 * US
    q.sweep()
    q.server_us += 100 * US
    (new,) = q.pop(1, lease_s=1000).tasks
    assert lease(new).token != lease(old).token
    (result,) = q.settle([c.Entry(c.ACK, lease(old), push=[NewTask("follows")])])
    assert (result.outcome, result.pushed) == ("lost", [c.Pushed("orphaned")])
    assert q.settle([c.Entry(c.ACK, lease(new))])[0].outcome == "done"


@pytest.mark.parametrize(("dedup", "expected"), [("only_new", "duplicate"), ("raise_priority", "raised")])
def test_a_duplicate_is_dropped_or_raises_the_priority(
    dedup: Dedup, expected: Literal["duplicate", "raised"]
) -> None:
    """A leased task gets the new priority when it comes back."""
    q = Model()
    q.push([NewTask(1, key="k"), NewTask(2, 1)])
    q.pop(2, lease_s=9)
    assert q.push([NewTask(1, 5, key="k")], dedup=dedup) == [c.Pushed(expected)]


async def test_the_fake_clock_wakes_sleepers_in_order() -> None:
    """No sleeper wakes before the test advances the clock; then each wakes at its time."""
    clock = FakeClock(100.0)
    woken: list[tuple[str, float]] = []

    async def sleeper(name: str, delay_s: float) -> None:
        await clock.sleep(delay_s)
        woken.append((name, clock.now_s()))

    tasks = [asyncio.create_task(sleeper(name, delay_s)) for name, delay_s in (("b", 2), ("a", 1), ("c", 9))]
    await clock.advance(0)
    assert (woken, clock.sleepers) == ([], 3)
    await clock.advance(3)
    assert woken == [("a", 101.0), ("b", 102.0)]
    assert (clock.now_s(), clock.monotonic_s(), clock.sleepers) == (103.0, 3.0, 1)
    clock.step(-50)
    await clock.advance(6)
    assert woken[-1] == ("c", 59.0)
    await asyncio.gather(*tasks)
