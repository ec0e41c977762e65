"""Order `fair`: round-robin over the groups that are due, by priority within each; and changing the order."""

from __future__ import annotations

from collections import Counter

import pytest
import redis
import redis.asyncio
from queue_pair import US, Pair

from scrapeq.errors import UsageError
from scrapeq.limit import Limit, Rate
from scrapeq.queue import DPQ, Queue
from scrapeq.queue import commands as c
from scrapeq.queue.fsck import Finding, fsck_blocking
from scrapeq.task import Group, NewTask

LANES = [("all",), ("all", "few"), ("all", "none")]
GROUPS = [Group(f"host{i}", LANES[i % 3], f"own|{i}") for i in range(10)]
LIMITS = {
    "all": Limit((Rate(40, 1.048576),)),
    "few": Limit(max_concurrency=5),
    "own": Limit(max_concurrency=4),
}


def jain(counts: Counter[str]) -> float:
    """Return Jain's index of the groups' shares: 1 if all are equal, 1/n if one group has everything."""
    values = [counts[group.name] for group in GROUPS]
    return sum(values) ** 2 / (len(values) * sum(value**2 for value in values))


def served(pair: Pair, rounds: int, n: int) -> Counter[str]:
    """Return how many tasks each group got in `rounds` pops of n, each acked at once."""
    counts: Counter[str] = Counter()
    for _ in range(rounds):
        tasks = pair.pop(n, lease_s=60)
        counts.update(task.group for task in tasks)
        pair.settle([c.Entry(c.ACK, task.lease) for task in tasks if task.lease])
        pair.set_time(pair.model.server_us + US // 16)
    return counts


@pytest.mark.parametrize("n", [1, 7])
def test_hosts_get_equal_shares(store: redis.Redis, n: int) -> None:
    """Ten groups over three lanes, one with much higher priorities: Jain's index is at least 0.99."""
    pair = Pair(store)
    pair.define(LIMITS)
    pair.set_order("fair")
    pair.push([NewTask(i, (i % 10 == 3) * 1e9 + i, group=GROUPS[i % 10]) for i in range(400)])
    counts = served(pair, 280 // n, n)
    assert sum(counts.values()) >= 40
    assert jain(counts) >= 0.99
    pair.check()


def test_strict_order_may_serve_only_one_group(store: redis.Redis) -> None:
    """The same tasks in strict order: the highest priority goes first, whatever its group."""
    pair = Pair(store)
    pair.push([NewTask(i, i % 10 == 3, group=Group(GROUPS[i % 10].name)) for i in range(400)])
    assert jain(served(pair, 40, 1)) == pytest.approx(0.1)


def test_new_groups_do_not_starve_old_ones(store: redis.Redis) -> None:
    """While each turn adds a new group, the groups that wait longest still come first."""
    pair = Pair(store)
    pair.set_order("fair")
    pair.push([NewTask(i, group=Group(f"old{i % 3}")) for i in range(60)])
    order = []
    for i in range(30):
        pair.push([NewTask("new", 1e9, group=Group(f"new{i}"))])
        order += [task.group for task in pair.pop(1, lease_s=60)]
    assert order[:3] == ["old0", "old1", "old2"]
    assert sum(name.startswith("old") for name in order) >= 9
    pair.check()


def test_priority_decides_within_a_group(store: redis.Redis) -> None:
    """Each group hands out its best task; a raised task comes first in its group, whose turn does not change."""
    pair = Pair(store)
    pair.set_order("fair")
    pair.push([NewTask(i, i, group=Group("ab"[i % 2]), key=f"k{i}") for i in range(6)])
    pair.push([NewTask("alone", group=Group("c"), key="c")])
    pair.push(
        [NewTask("alone", 9, group=Group("c"), key="c"), NewTask(0, 9, group=Group("a"), key="k0")],
        dedup="raise_priority",
    )
    assert [task.payload for task in pair.pop(7, lease_s=60)] == [0, 5, "alone", 4, 3, 2, 1]


def test_the_order_changes_while_tasks_are_queued(store: redis.Redis) -> None:
    """Ready, delayed, leased and parked tasks follow the new order, and the first one after changing back."""
    pair = Pair(store)
    pair.define({"own": Limit(max_concurrency=1)})
    pair.push([NewTask(i, i, i % 5 == 4, GROUPS[i % 3]) for i in range(60)])
    for order in ("fair", "strict", "fair"):
        pair.pop(4, lease_s=60)
        pair.set_order(order)
        pair.check()
        assert fsck_blocking(store, "q", test_clock=True).ok
        pair.set_time(pair.model.server_us + 2 * US)
        pair.pop(2, lease_s=60)
        pair.check()


def test_the_order_cannot_be_changed_with_more_than_a_thousand_groups(store: redis.Redis) -> None:
    """One call changes at most 1,000 groups; the error names the remedy, and the order of an empty queue can change."""
    queue = DPQ(store, "q", order="strict")
    queue.push_many(NewTask(i, group=Group(f"g{i}")) for i in range(1100))
    with pytest.raises(
        UsageError, match=r"cannot leave strict .* in 1,1.. groups; let the queue run empty or purge"
    ):
        queue.set_order("fair")
    assert queue.set_order(None) == "strict"
    queue.cancel(*(str(i) for i in range(1, 1001)))
    queue.cancel(*(str(i) for i in range(1001, 1101)))
    assert queue.set_order("fair") == "fair"


async def test_the_order_holds_for_every_client(store: redis.Redis, astore: redis.asyncio.Redis) -> None:
    """The first call of one client sets it, also for clients without an order. An unknown order is refused."""
    async with Queue(astore, "q", order="fair") as queue:
        await queue.push_many(NewTask(i, i, group=Group("ab"[i // 2])) for i in range(4))
        other = DPQ(store, "q")
        assert other.set_order(None) == "fair"
        assert [task.payload for task in other.pop_many(4)] == [1, 3, 0, 2]
    with pytest.raises(UsageError, match="expected strict or fair"):
        DPQ(store, "q", order="random").push(1)  # type: ignore[arg-type]  # wrong on purpose


def test_fsck_finds_a_missing_turn(store: redis.Redis) -> None:
    """The finding names the group without a turn."""
    pair = Pair(store)
    pair.set_order("fair")
    pair.push([NewTask(1, group=Group("a"))])
    store.hdel("scrapeq:{q}:turn", "a")
    assert Finding("turn", "a", "missing") in fsck_blocking(store, "q", test_clock=True).findings
