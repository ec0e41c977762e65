"""A new definition that counts in another way does not inherit the counts of the old one."""

from __future__ import annotations

import pytest
import redis
from queue_pair import US, Pair

from scrapeq.limit import Limit, Rate
from scrapeq.queue import commands as c
from scrapeq.task import Group, NewTask

KINDS = [Rate(30, 60.0, aligned_s=0.0), Rate(30, 60.0, burst=5), Rate(30, 60.0)]


@pytest.mark.parametrize("old", KINDS)
@pytest.mark.parametrize("new", KINDS)
def test_a_changed_limit_opens_within_two_windows(store: redis.Redis, old: Rate, new: Rate) -> None:
    """Covers all pairs of old and new ways to count requests."""
    pair = Pair(store)
    group = Group("g", ("a",))
    pair.define({"a": Limit((old,))})
    pair.push([NewTask(i, group=group) for i in range(8)])
    leases = []
    for _ in range(3):
        pair.set_time(pair.model.server_us + 3 * US)
        leases += [task.lease for task in pair.pop(1, lease_s=600) if task.lease]
    pair.settle([c.Entry(c.ACK, leases[0])])
    pair.run(c.define({"a": Limit((new,))}))
    pair.set_time(pair.model.server_us + 3 * US)
    pair.run(c.settle([c.Entry(c.ACK, lease) for lease in leases[1:]]))
    (state,) = pair.run(c.limit_states(["a"]))
    assert state.opens_s is not None and state.opens_s <= new.interval_s
    pair.set_time(pair.model.server_us + 120 * US)
    assert len(pair.run(c.pop(1, lease_s=600)).tasks) == 1
