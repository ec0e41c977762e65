"""The bounds of one call: the next call does the rest, and nothing is lost."""

from __future__ import annotations

import redis
from queue_pair import US, Pair

from scrapeq.limit import Limit
from scrapeq.queue import commands as c
from scrapeq.task import Group, NewTask

EVENTS = 150  # time events that one pop processes
AGAIN_MAX = 20
CLOSURES = 128  # groups that one pop closes, or suspects that it postpones


def test_many_time_events_take_several_pops(store: redis.Redis) -> None:
    """400 delays end at once: two pops are unfinished, the third leases the best task."""
    pair = Pair(store)
    pair.push([NewTask(i, i, delay_s=1) for i in range(2 * EVENTS + 100)])
    pair.set_time(pair.model.server_us + 2 * US)
    pops = [pair.run(c.pop(1, lease_s=60)) for _ in range(3)]
    assert [popped.is_unfinished for popped in pops] == [True, True, False]
    assert pops[2].tasks[0].payload == 2 * EVENTS + 99


def test_a_pop_after_many_unfinished_ones_may_lease_out_of_order(store: redis.Redis) -> None:
    """Endless events do not starve a worker: the 21st pop leases, and counts as inexact."""
    pair = Pair(store)
    for i in range(13):
        pair.push([NewTask([i, j], delay_s=1) for j in range(1000)])
    pair.set_time(pair.model.server_us + 2 * US)
    pops = [pair.run(c.pop(1, lease_s=60)) for _ in range(AGAIN_MAX + 1)]
    assert [popped.is_unfinished for popped in pops] == [True] * AGAIN_MAX + [False]
    assert len(pops[-1].tasks) == 1
    assert pair.run(c.counts()).inexact == 1


def test_an_ack_may_push_ten_thousand_follow_ups(store: redis.Redis) -> None:
    """One script pushes them all with the ack."""
    pair = Pair(store)
    pair.push([NewTask("page")])
    (page,) = pair.pop(1, lease_s=60)
    assert page.lease
    (settled,) = pair.run(c.settle([c.Entry(c.ACK, page.lease, push=[NewTask(i) for i in range(10_000)])]))
    assert settled.outcome == "done" and len(settled.pushed) == 10_000
    counts = pair.run(c.counts())
    assert (counts.ready, counts.leased, counts.done) == (10_000, 0, 1)


def test_a_pop_leases_at_most_a_thousand_tasks(store: redis.Redis) -> None:
    """A pop of 9,000 leases the best 1,000 and wakes another worker."""
    pair = Pair(store)
    for i in range(5):
        pair.push([NewTask(1000 * i + j, 1000 * i + j) for j in range(1000)])
    store.delete(pair.prefix + "wake")
    popped = pair.run(c.pop(9000, lease_s=60))
    assert [task.payload for task in popped.tasks] == list(range(4999, 3999, -1))
    assert store.exists(pair.prefix + "wake")


def test_a_freed_slot_reopens_all_lanes_that_wait_for_it(store: redis.Redis) -> None:
    """1,000 lanes share one slot: after each ack the best task comes, although one call cannot reopen all lanes."""
    pair = Pair(store)
    pair.define({"one": Limit(max_concurrency=1)})
    lanes = 1000
    pair.push([NewTask(i, i, group=Group(f"g{i}", ("one", f"own{i}"))) for i in range(lanes)])
    done = []
    for _ in range(60):
        while True:
            popped = pair.run(c.pop(1, lease_s=60))
            if popped.tasks or (popped.wait_s is not None and popped.wait_s > 0 and not popped.is_unfinished):
                break
        done += [task.payload for task in popped.tasks]
        for _ in range(8):  # other workers pop too, and close the lanes that they find
            pair.run(c.pop(1, lease_s=60))
        pair.run(c.settle([c.Entry(c.ACK, task.lease) for task in popped.tasks if task.lease]))
    assert done == list(range(lanes - 1, lanes - 61, -1))


def test_many_suspects_are_postponed_in_bounded_pops(store: redis.Redis) -> None:
    """A worker that holds a suspect gets the one harmless task behind 600 suspects, after a few pops."""
    pair = Pair(store)
    pair.push([NewTask(i, 1) for i in range(600)])
    pair.run(c.pop(600, lease_s=1))
    pair.set_time(pair.model.server_us + 2 * US)
    while pair.run(c.sweep())[0]:
        pass
    pair.set_time(pair.model.server_us + 2 * US)
    while pair.run(c.sweep())[0]:
        pass
    pair.push([NewTask("harmless", 0)])
    pops = [pair.run(c.pop(1, lease_s=60, suspects=1)) for _ in range(600 // CLOSURES + 1)]
    assert [len(popped.tasks) for popped in pops] == [0] * (600 // CLOSURES) + [1]
    assert pops[-1].tasks[0].payload == "harmless"
