"""Whoever waits for an event of a limit is woken by whatever takes that event's place; rare paths, told one by one."""

from __future__ import annotations

import pytest
import redis
from queue_pair import US, Pair

from scrapeq.limit import Limit, Rate
from scrapeq.queue import commands as c
from scrapeq.task import Group, Lease, NewTask

GROUPS = [Group("g", ("a",)), Group("g", (), "a|g")]


def one_in_flight(store: redis.Redis, limit: Limit, group: Group) -> tuple[Pair, Lease, str]:
    """One task leased, one that waits for it, and the name of the limit between them."""
    pair = Pair(store)
    pair.define({"a": limit})
    pair.push([NewTask(i, group=group) for i in range(2)])
    (task,) = pair.pop(2, lease_s=600)
    assert task.lease
    return pair, task.lease, group.private or group.limits[0]


@pytest.mark.parametrize("group", GROUPS)
def test_a_park_over_a_probe_in_flight(store: redis.Redis, group: Group) -> None:
    """Who waited for the probe's answer waits for the park's end: that answer opens nothing any more."""
    pair, _, name = one_in_flight(store, Limit(learn=True), group)
    pair.steer("park", 5 * US, name)
    pair.pop(1, lease_s=600)
    pair.set_time(pair.model.server_us + 5 * US)
    pair.check()
    assert len(pair.pop(1, lease_s=600)) == 1


@pytest.mark.parametrize("group", GROUPS)
def test_another_lease_tells_of_the_limit(store: redis.Redis, group: Group) -> None:
    """An answer under other limits says that this one has room: who waits for its reset looks again."""
    pair, lease, name = one_in_flight(store, Limit(max_concurrency=5, learn=True), group)
    pair.settle([c.Entry(c.ACK, lease, reported=[(name, 0, 600.0)])])
    assert not pair.pop(1, lease_s=600)
    pair.set_time(pair.model.server_us + US)
    other = pair.acquire(Group("other"), weight=1, lease_s=600)
    assert other
    pair.settle([c.Entry(c.ACK, other, reported=[(name, 9, 600.0)])])
    pair.check()


@pytest.mark.parametrize("group", GROUPS)
def test_a_refund_of_a_paced_limit(store: redis.Redis, group: Group) -> None:
    """A request that was never sent gives its turn back at once."""
    pair, lease, _ = one_in_flight(store, Limit((Rate(1, 1000.0),)), group)
    pair.settle([c.Entry(c.RELEASE, lease, sent=c.UNSENT, delay_s=50)])
    pair.check()
    assert len(pair.pop(1, lease_s=600)) == 1


@pytest.mark.parametrize("group", GROUPS)
@pytest.mark.parametrize("verb", ["unpark", "forget"])
def test_a_person_lifts_a_park(store: redis.Redis, verb: str, group: Group) -> None:
    """Found again by name, however many others are parked for longer."""
    pair, lease, name = one_in_flight(store, Limit(max_concurrency=1), group)
    pair.settle([c.Entry(c.ACK, lease, refused=[(name, 600.0)])])
    pair.pop(1, lease_s=600)
    pair.steer(verb, name)
    pair.check()
    assert len(pair.pop(1, lease_s=600)) == 1


@pytest.mark.parametrize("group", GROUPS)
@pytest.mark.parametrize("end", ["expired", "cancelled", "unsent", "buried"])
def test_a_probe_that_ends_without_an_answer(store: redis.Redis, end: str, group: Group) -> None:
    """Its lease runs out, it is cancelled, never sent or buried: another probe goes, nobody waits for ever."""
    pair, lease, _ = one_in_flight(store, Limit(learn=True), group)
    if end == "cancelled":
        pair.edit("cancel", [lease.id])
    elif end == "unsent":
        pair.settle([c.Entry(c.RELEASE, lease, sent=c.UNSENT, delay_s=5000)])
    elif end == "buried":
        pair.settle([c.Entry(c.BURY, lease, error="no answer")])
    pair.check()
    pair.set_time(pair.model.server_us + 601 * US)
    pair.check()
    assert len(pair.pop(1, lease_s=600)) == 1


def test_one_who_watched_and_leaves_with_nothing_passes_it_on(store: redis.Redis) -> None:
    """The next event is watched by another one then, who was told to come much later."""
    pair = Pair(store)
    (push,) = c.push([NewTask(0, delay_s=1.0)], max_tasks=0, dedup="only_new")
    pair.run(push)
    first = pair.run(c.pop(1, lease_s=60, stay_s=0.25))
    other = pair.run(c.pop(1, lease_s=60, stay_s=10))
    assert first.poll_at_us and not other.poll_at_us and other.wait_s > 1.0
    pair.set_time(pair.model.server_us + US // 4)
    store.delete(pair.prefix + "wake")
    assert not pair.run(c.pop(1, lease_s=60, previous_poll_at_us=first.poll_at_us)).tasks
    assert store.exists(pair.prefix + "wake"), "nobody looks when the task is due"
    other = pair.run(c.pop(1, lease_s=60, stay_s=10))
    assert other.poll_at_us and other.wait_s == 0.75
