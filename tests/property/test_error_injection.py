"""
Errors before any command of a script: either nothing has changed, or fsck reports the inconsistency.

Redis keeps what a script wrote before it failed. The scripts read and check whatever can fail before their first write.
These tests make even other commands fail, and show that fsck detects any damage.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import orjson
import pytest
import redis
from queue_pair import Pair, as_bytes

from scrapeq.limit import Limit, Rate
from scrapeq.queue import commands as c
from scrapeq.queue.fsck import fsck_blocking
from scrapeq.queue.scripts import scripts
from scrapeq.task import Group, Lease, NewTask

AT = "scrapeq:{q}:failat"
INJECTED = "injected"
# Counts commands and fails before the chosen one. The scripts do not use pcall, so they cannot catch the error.
COUNTING = f"""
local _made = 0
local function _counted(...)
  _made = _made + 1
  if _made == tonumber(redis.call('GET', '{AT}')) then error('{INJECTED}') end
  return redis.call(...)
end
"""
SHARED = Group("shared", ("lanewide",), "own|shared")
OTHER = Group("other", ("lanewide",))
LIMITS = {"lanewide": Limit((Rate(100, 1.0),), max_concurrency=4), "own": Limit(max_concurrency=2)}


def world(store: redis.Redis) -> tuple[Pair, list[Lease]]:
    """Return a queue with tasks in every state, and two leases."""
    store.flushall()
    pair = Pair(store)
    pair.define(LIMITS)
    pair.push([NewTask(i, i % 3, delay_s=i % 2, group=(SHARED, OTHER)[i % 2], key=f"k{i}") for i in range(8)])
    leases = []
    for _ in range(2):
        leases += [task.lease for task in pair.pop(1, lease_s=5) if task.lease]
        pair.set_time(pair.model.server_us + 20_000)
    pair.set_time(pair.model.server_us + 2_000_000)
    assert len(leases) == 2
    return pair, leases


def push(_: list[Lease]) -> c.Command[list[c.Pushed] | None]:
    """Push tasks into a known and a new group, a duplicate and a delayed one."""
    tasks = [
        NewTask("a", 9, group=SHARED),
        NewTask("b", group=Group("new", ("lanewide", "more"))),
        NewTask("c", key="k1"),
        NewTask("g", 2, group=SHARED, key="new"),
        NewTask("d", delay_s=3),
    ]
    (command,) = c.push(tasks, max_tasks=0, dedup="raise_priority")
    return command


def pop(_: list[Lease]) -> c.Command[c.Popped]:
    """Pop several tasks, with delays that are over and limits that close."""
    return c.pop(5, lease_s=9)


def settle(leases: list[Lease]) -> c.Command[list[c.Settled]]:
    """Ack with follow-ups, and retry after a refusal."""
    ack = c.Entry(c.ACK, leases[0], push=[NewTask("e", 1, group=OTHER), NewTask("f", group=Group("new"))])
    retry = c.Entry(c.RETRY, leases[1], refused=[("lanewide", 3.0)], reported=[("own|shared", 3, 9.0)])
    return c.settle([ack, retry])


def cancel(_: list[Lease]) -> c.Command[list[bool]]:
    """Cancel tasks in every state."""
    return c.edit("cancel", [f"{i}" for i in range(1, 9)])


def drained(pair: Pair) -> None:
    """Check that a queue without findings works: all its tasks and new ones come out once, and nothing else does."""
    store, p = pair.store, pair.prefix
    stored = Counter(c.read_record(as_bytes(record))[2] for record in store.hvals(p + "task"))
    assert not store.zcard(p + "dead")
    (command,) = c.push([NewTask(i, group=SHARED) for i in "xyz"], max_tasks=0, dedup="only_new")
    pair.run(command)
    out: Counter[bytes] = Counter()
    for _ in range(200):
        pair.set_time(pair.model.server_us + 3_600_000_000)
        popped = pair.run(c.pop(5, lease_s=60))
        pair.run(c.settle([c.Entry(c.ACK, task.lease) for task in popped.tasks if task.lease]))
        out.update(orjson.dumps(task.payload) for task in popped.tasks)
        if not popped.live:
            break
    assert out == stored + Counter([b'"x"', b'"y"', b'"z"'])
    assert store.hlen(p + "task") == 0
    assert fsck_blocking(store, "q", test_clock=True).ok


@pytest.mark.parametrize(("make", "reads"), [(push, 4), (pop, 4), (settle, 8), (cancel, 4)])
def test_fsck_detects_the_damage_of_a_failed_command(
    store: redis.Redis, make: Callable[[list[Lease]], c.Command[Any]], reads: int
) -> None:
    """Fail before each command in turn: the queue is unchanged (during the first reads), reported, or works."""
    outcomes: Counter[str] = Counter()
    for k in range(1, 400):
        pair, leases = world(store)
        before = pair.content()
        command = make(leases)
        head, _, body = scripts(test_clock=True)[command.script].text.partition("\n")
        text = head + "\n" + COUNTING + body.replace("= redis.call,", "= _counted,", 1)
        assert "= _counted," in text
        store.set(AT, k)
        try:
            store.eval(text, 1, pair.prefix + "c", *command.args)
        except redis.ResponseError as error:
            assert INJECTED in str(error)
        else:
            break
        store.delete(AT)
        unchanged = pair.content() == before
        assert unchanged or k > reads
        if fsck_blocking(store, "q", test_clock=True).ok:
            outcomes["unchanged" if unchanged else "sound"] += 1
            drained(pair)
        else:
            assert not unchanged
            outcomes["reported"] += 1
    else:
        pytest.fail("the script never ended")
    assert outcomes["unchanged"] >= reads and outcomes["reported"]
