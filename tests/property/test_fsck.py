"""fsck finds each kind of damage that it knows, and reports nothing for a healthy queue, even one in use."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Callable

import pytest
import redis
import redis.asyncio
from queue_pair import US, Pair

from scrapeq.limit import Limit
from scrapeq.queue import commands as c
from scrapeq.queue.fsck import Finding, fsck, fsck_blocking
from scrapeq.task import Group, NewTask

P = "scrapeq:{q}:"
SHARED = Group("shared", ("one",))
OWN = Group("own", (), "one|own")


def queue(store: redis.Redis) -> Pair:
    """Return a queue with tasks 1-3 leased, delayed and dead, and 4-6 ready, in a parked lane and a parked group."""
    pair = Pair(store)
    pair.define({"one": Limit(max_concurrency=1)})
    for i, group in enumerate([SHARED, OWN, OWN, SHARED, SHARED, OWN], 1):
        pair.push([NewTask(i, -i, group=group, key=f"k{i}")])
    leases = {task.id[-1]: task.lease for task in pair.pop(10, lease_s=60)}
    assert leases["1"] and leases["2"]
    pair.settle([c.Entry(c.RETRY, leases["2"], delay_s=30)])
    (third,) = pair.pop(10, lease_s=60)
    assert third.lease
    pair.settle([c.Entry(c.BURY, third.lease)])
    pair.push([NewTask("a plain one", group=Group("plain"))])
    pair.acquire(OWN, weight=1, lease_s=60)
    pair.pop(10, lease_s=60)
    pair.check()
    return pair


def test_a_healthy_queue_has_no_findings(store: redis.Redis) -> None:
    """The queue has tasks in every state, and parked lanes and groups."""
    queue(store)
    report = fsck_blocking(store, "q", page=2, test_clock=True)
    assert report.findings == [] and report.unchecked == []
    assert (report.tasks, report.groups, report.lanes) == (7, 3, 1)


ID1, ID2, ID3, ID4 = (f"{i:012d}" for i in (1, 2, 3, 4))
BREAKS: dict[str, tuple[Callable[[redis.Redis], object], Finding]] = {
    "in two places": (lambda r: r.zadd(P + "dead", {ID2: 1}), Finding("states", ID2, "delayed dead")),
    "in no place": (lambda r: r.zrem(P + "delayed", ID2), Finding("states", ID2, "none")),
    "a ready one lost": (
        lambda r: r.zrem(P + "r:shared", "000000000005"),
        Finding("states", "000000000005", "none"),
    ),
    "wrong order": (
        lambda r: r.zadd(P + "r:shared", {ID4: 9}),
        Finding("priority", ID4, "its score differs from its priority"),
    ),
    "no record": (lambda r: r.hdel(P + "task", ID3), Finding("missing record", ID3, "dead")),
    "meta of nothing": (
        lambda r: r.hset(P + "meta", "000000000099", b"\x90"),
        Finding("missing record", "000000000099", "meta"),
    ),
    "suspect of nothing": (
        lambda r: r.sadd(P + "suspects", "99"),
        Finding("missing record", "99", "suspects"),
    ),
    "lease without token": (
        lambda r: r.hdel(P + "meta", ID1),
        Finding("token", ID1, "leased without a token"),
    ),
    "digest forgotten": (lambda r: r.delete(P + "seen:0"), Finding("identity", ID1, "its digest is missing")),
    "digest of nothing": (
        lambda r: r.hset(P + "seen:0", b"123456789", "77"),
        Finding("identity", "000000000077", "its digest is stored but the task is gone"),
    ),
    "lane without entry or park": (
        lambda r: r.zrem(P + "lp", "one"),
        Finding("lost", "one", "its head is missing in the index"),
    ),
    "lane open and parked": (
        lambda r: r.zadd(P + "lanes", {ID4 + "one": 4}),
        Finding("open and parked", "one", "lane"),
    ),
    "stray entry": (lambda r: r.zadd(P + "lanes", {ID2 + "one": 4}), Finding("stray entry", "one", ID2)),
    "group without head or park": (
        lambda r: r.zrem(P + "gp", "own"),
        Finding("lost", "own", "its first task is not a head"),
    ),
    "group parked and open": (
        lambda r: r.zadd(P + "heads:", {"000000000006own": 6}),
        Finding("open and parked", "own", "group"),
    ),
    "stray head": (
        lambda r: r.zadd(P + "heads:one", {ID1 + "shared": 1}),
        Finding("stray head", "shared", ID1),
    ),
    "empty and parked": (
        lambda r: r.zadd(P + "gp", {"plain": 1}),
        Finding("empty and parked", "plain", "group"),
    ),
    "unknown group": (lambda r: r.hdel(P + "g", "own"), Finding("group", ID2, "unknown group")),
    "unknown lane": (lambda r: r.hdel(P + "lane", "one"), Finding("lane", "one", "parked but unknown")),
    "waiter forgotten": (lambda r: r.delete(P + "w:one"), Finding("never woken", "one", "lane")),
    "state of a limit lost": (
        lambda r: r.hdel(P + "l", "one"),
        Finding("in flight", "one", "0, its leases have 1"),
    ),
    "ids to be given twice": (
        lambda r: r.setrange(P + "c", 3 * 8, struct.pack(">d", 5)),
        Finding("sequence", "000000000006", "the next push will take its id"),
    ),
    "event after its time": (
        lambda r: r.zadd(P + "delayed", {ID2: 5}),
        Finding("late", "delayed", "due before the next event"),
    ),
}


@pytest.mark.parametrize("name", BREAKS)
def test_each_kind_of_damage_is_found(store: redis.Redis, name: str) -> None:
    """Each change of the keys gives the expected finding."""
    queue(store)
    break_it, finding = BREAKS[name]
    break_it(store)
    assert finding in fsck_blocking(store, "q", page=2, test_clock=True).findings


def test_large_groups_and_lanes_are_checked_in_pages(store: redis.Redis) -> None:
    """A stray member is found in a group, and in a lane, of more than one page."""
    pair = Pair(store)
    pair.push([NewTask(i, group=Group("large")) for i in range(300)])
    pair.push([NewTask(i, group=Group(f"g{i}", ("wide",))) for i in range(300)])
    assert fsck_blocking(store, "q", page=50, test_clock=True).ok
    store.zadd(P + "r:large", {"000000009999": 9})
    store.zadd(P + "heads:wide", {"000000000001g7": 9})
    findings = fsck_blocking(store, "q", page=50, test_clock=True).findings
    assert Finding("missing record", "000000009999", "ready") in findings
    assert Finding("stray head", "g7", "000000000001") in findings


async def test_a_queue_in_use_has_no_findings(store: redis.Redis, astore: redis.asyncio.Redis) -> None:
    """fsck runs while tasks are pushed, popped, retried and acked."""
    pair = Pair(store)
    pair.define({"one": Limit(max_concurrency=3)})
    pair.push([NewTask(i, i % 7, group=(SHARED, OWN)[i % 2], key=f"{i}") for i in range(200)])
    stop = asyncio.Event()

    async def work() -> int:
        done = 0
        while not stop.is_set():
            await asyncio.sleep(0)
            pair.set_time(pair.model.server_us + US)
            for task in pair.pop(4, lease_s=3):
                assert task.lease
                verb = (c.ACK, c.RETRY, c.RELEASE)[done % 3]
                push = [NewTask(done, group=OWN)] if verb == c.ACK else []
                pair.settle([c.Entry(verb, task.lease, delay_s=done % 2, push=push)])
                done += 1
        return done

    working = asyncio.create_task(work())
    reports = [await fsck(astore, "q", page=20, test_clock=True) for _ in range(3)]
    stop.set()
    assert await working > 20
    assert [report.findings for report in reports] == [[]] * 3
