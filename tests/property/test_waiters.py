"""If the event that a waiter waits for is replaced by another one, the waiter is woken: tests of the rare cases."""

from __future__ import annotations

import pytest
import redis
from queue_pair import US, Pair

from scrapeq.limit import Limit, Rate
from scrapeq.queue import commands as c
from scrapeq.task import Group, Lease, NewTask

GROUPS = [Group("g", ("a",)), Group("g", (), "a|g")]


def one_in_flight(store: redis.Redis, limit: Limit, group: Group) -> tuple[Pair, Lease, str]:
    """Return a queue with one task leased and one that waits for it, the lease, and their limit's name."""
    pair = Pair(store)
    pair.define({"a": limit})
    pair.push([NewTask(i, group=group) for i in range(2)])
    (task,) = pair.pop(2, lease_s=600)
    assert task.lease
    return pair, task.lease, group.private or group.limits[0]


@pytest.mark.parametrize("group", GROUPS)
def test_a_park_during_a_probe_outlasts_its_response(store: redis.Redis, group: Group) -> None:
    """The waiter now waits for the end of the park, since the probe's response opens nothing."""
    pair, _, name = one_in_flight(store, Limit(learn=True), group)
    pair.steer("park", 5 * US, name)
    pair.pop(1, lease_s=600)
    pair.set_time(pair.model.server_us + 5 * US)
    pair.check()
    assert len(pair.pop(1, lease_s=600)) == 1


@pytest.mark.parametrize("group", GROUPS)
def test_a_response_under_another_lease_opens_the_limit(store: redis.Redis, group: Group) -> None:
    """The response reports a remaining budget, so a waiter for the reset pops again."""
    pair, lease, name = one_in_flight(store, Limit(max_concurrency=5, learn=True), group)
    pair.settle([c.Entry(c.ACK, lease, reported=[(name, 0, 600.0)])])
    assert not pair.pop(1, lease_s=600)
    pair.set_time(pair.model.server_us + US)
    other = pair.acquire(Group("other"), weight=1, lease_s=600)
    assert other
    pair.settle([c.Entry(c.ACK, other, reported=[(name, 9, 600.0)])])
    pair.check()


@pytest.mark.parametrize("group", GROUPS)
def test_an_unsent_request_returns_its_slot_of_a_paced_limit(store: redis.Redis, group: Group) -> None:
    """The slot is free at once."""
    pair, lease, _ = one_in_flight(store, Limit((Rate(1, 1000.0),)), group)
    pair.settle([c.Entry(c.RELEASE, lease, sent=c.UNSENT, delay_s=50)])
    pair.check()
    assert len(pair.pop(1, lease_s=600)) == 1


@pytest.mark.parametrize("group", GROUPS)
@pytest.mark.parametrize("verb", ["unpark", "forget"])
def test_a_waiter_is_woken_when_an_operator_ends_a_park(store: redis.Redis, verb: str, group: Group) -> None:
    """The waiter pops again at once."""
    pair, lease, name = one_in_flight(store, Limit(max_concurrency=1), group)
    pair.settle([c.Entry(c.ACK, lease, refused=[(name, 600.0)])])
    pair.pop(1, lease_s=600)
    pair.steer(verb, name)
    pair.check()
    assert len(pair.pop(1, lease_s=600)) == 1


@pytest.mark.parametrize("group", GROUPS)
@pytest.mark.parametrize("end", ["expired", "cancelled", "unsent", "buried"])
def test_a_probe_without_a_response_is_followed_by_another(
    store: redis.Redis, end: str, group: Group
) -> None:
    """Covers a probe that expires, is cancelled, is never sent, or becomes a dead letter."""
    pair, lease, _ = one_in_flight(store, Limit(learn=True), group)
    if end == "cancelled":
        pair.edit("cancel", [lease.id])
    elif end == "unsent":
        pair.settle([c.Entry(c.RELEASE, lease, sent=c.UNSENT, delay_s=5000)])
    elif end == "buried":
        pair.settle([c.Entry(c.BURY, lease, error="no response")])
    pair.check()
    pair.set_time(pair.model.server_us + 601 * US)
    pair.check()
    assert len(pair.pop(1, lease_s=600)) == 1


def test_a_designated_waiter_that_leaves_is_replaced(store: redis.Redis) -> None:
    """Another waiter, whose own wait is much longer, polls at the next event."""
    pair = Pair(store)
    (push,) = c.push([NewTask(0, delay_s=1.0)], max_tasks=0, dedup="only_new")
    pair.run(push)
    first = pair.run(c.pop(1, lease_s=60, stay_s=0.25))
    other = pair.run(c.pop(1, lease_s=60, stay_s=10))
    assert first.poll_at_us and not other.poll_at_us and other.wait_s is not None and other.wait_s > 1.0
    pair.set_time(pair.model.server_us + US // 4)
    store.delete(pair.prefix + "wake")
    assert not pair.run(c.pop(1, lease_s=60, previous_poll_at_us=first.poll_at_us)).tasks
    assert store.exists(pair.prefix + "wake"), "no waiter polls when the task is due"
    other = pair.run(c.pop(1, lease_s=60, stay_s=10))
    assert other.poll_at_us and other.wait_s == 0.75
