"""
The order of tasks: any finite priority, higher first, ties first in, first out, whatever happened to a task before.

SCRAPEQ_ORDER_TASKS sets the number of tasks (10,000).
"""

from __future__ import annotations

import math
import os
import random
import struct
from typing import TypeVar

import redis

from scrapeq.queue import commands as c
from scrapeq.queue.scripts import scripts
from scrapeq.task import Group, NewTask, Task

TASKS = int(os.environ.get("SCRAPEQ_ORDER_TASKS", "10000"))
GROUPS = 300
LANES = 20
BATCH = 100
START_US = 1_600_000_000_000_000
LEASE_S, DELAY_S = 5.0, 3.0
PASSED_US = 10_000_000  # longer than the lease, the delay, and the time over which expired tasks are spread


T = TypeVar("T")


class Store:
    """A queue on a real store whose clock the test sets."""

    def __init__(self, store: redis.Redis) -> None:
        self.store, self.scripts = store, scripts(test_clock=True)
        for script in self.scripts.values():
            store.script_load(script.text)

    def set_time(self, us: int) -> None:
        """Set the server's clock."""
        self.store.set("scrapeq:{q}:testclock", us)

    def run(self, *commands: c.Command[T]) -> list[T]:
        """Run commands in one pipeline; return their replies."""
        pipe = self.store.pipeline(transaction=False)
        for command in commands:
            pipe.evalsha(self.scripts[command.script].sha, 1, "scrapeq:{q}:c", *command.args)
        return [command.parse(reply) for command, reply in zip(commands, pipe.execute(), strict=True)]

    def events(self) -> None:
        """Process all events that are due."""
        while self.run(c.sweep())[0][0]:
            pass

    def pop(self, calls: int, n: int) -> list[Task]:
        """Pop n tasks in each of `calls` calls."""
        self.events()
        tasks: list[Task] = []
        for popped in self.run(*(c.pop(n, lease_s=LEASE_S) for _ in range(calls))):
            assert isinstance(popped, c.Popped) and not popped.is_unfinished
            tasks += popped.tasks
        return tasks


def any_float(r: random.Random) -> float:
    """Return any finite float64 by random bits; in a quarter of all cases one of a few, for ties."""
    if r.random() < 0.25:
        return float(r.randrange(-3, 4))
    while True:
        (value,) = struct.unpack("<d", r.getrandbits(64).to_bytes(8, "little"))
        if math.isfinite(value):
            return float(value)


def test_no_inversion_among_fresh_delayed_retried_and_expired_tasks(store: redis.Redis) -> None:
    """All tasks come out in the order of (-priority, id)."""
    r = random.Random(TASKS)
    q = Store(store)
    q.set_time(START_US)
    groups = [
        Group(f"g{i}", (f"lane{i % LANES}",) if i % LANES else (), f"own{i}" if i % 3 == 0 else "")
        for i in range(GROUPS)
    ]
    priorities: dict[str, float] = {}
    tasks = [
        NewTask(None, any_float(r), r.choice([0.0, 0.0, 0.0, DELAY_S]), r.choice(groups))
        for _ in range(TASKS)
    ]
    for pushed in q.run(*c.push(tasks, max_tasks=0, dedup="only_new")):
        assert isinstance(pushed, list)
        priorities.update({task.id: 0.0 for task in pushed})
    priorities = dict(zip(sorted(priorities), (float(task.priority) for task in tasks), strict=True))

    # Some tasks were popped before: they are retried or released, now or later, or their lease expires.
    popped = q.pop(TASKS // BATCH // 4, BATCH)
    for i in range(0, len(popped), BATCH):
        entries = [
            c.Entry(r.choice([c.RETRY, c.RELEASE]), task.lease, delay_s=r.choice([0.0, DELAY_S]))
            for task in popped[i : i + BATCH]
            if task.lease and r.random() < 0.8
        ]
        q.run(c.settle(entries))
    q.set_time(START_US + PASSED_US)
    q.events()
    q.set_time(START_US + 2 * PASSED_US)

    # One at a time, since a call hands out one suspect at most.
    order: list[Task] = []
    while batch := q.pop(BATCH * 5, 1):
        order += batch
    assert len(order) == TASKS
    assert sum(task.expiries for task in order) > TASKS // 50
    assert [(task.id, task.priority) for task in order] == sorted(
        priorities.items(), key=lambda entry: (-entry[1], entry[0])
    )


def test_batches_are_ordered(store: redis.Redis) -> None:
    """A hundred tasks per pop over many groups: in order within and between calls."""
    r = random.Random(1)
    q = Store(store)
    q.set_time(START_US)
    tasks = [NewTask(i, any_float(r), 0.0, Group(f"g{r.randrange(GROUPS)}")) for i in range(TASKS // 4)]
    q.run(*c.push(tasks, max_tasks=0, dedup="only_new"))
    order = q.pop(TASKS // 4 // BATCH + 1, BATCH)
    assert [task.payload for task in order] == sorted(range(len(tasks)), key=lambda i: -tasks[i].priority)
