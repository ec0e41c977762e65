"""The order of tasks, how late due tasks start, and what an idle worker costs."""

from __future__ import annotations

import asyncio
import math
import random
import statistics
import struct
import time
from collections.abc import Iterator

import uvloop

from benchmarks.queue_figures import workload as w
from benchmarks.queue_figures.engine import Server
from benchmarks.queue_figures.report import Figure, expect
from benchmarks.queue_figures.speed import open_queue
from scrapeq.queue import DPQ
from scrapeq.task import Group, Lease, NewTask, lease_of

KINDS = 4  # fresh, delayed, retried, expired
LEASE_S = 0.3
POPS_PER_S = 10_000  # fewer than any machine reaches
TIE_SHARE = 0.1  # of the tasks have one of the few priorities in TIES
TIES = (0.0, -1.5, 1e300)
LATE_MS = 10
IDLE_PER_S = 10
SETTLE_S = 0.2


def order(server: Server, sizes: w.Sizes) -> Iterator[Figure]:
    """Count inversions over random float64 priorities of fresh, delayed, retried and expired tasks."""
    for what, into in (
        ("one group", [Group()]),
        (f"{w.GROUPS:,} groups, two limits each", w.groups(w.GROUPS)),
    ):
        inversions, count = _inversions(server, sizes.order, into)
        name = f"inversions in {count:,} tasks, {what}"
        note = "fresh, delayed, retried, expired; ties first in, first out"
        yield Figure("order", name, inversions, "tasks", 0, exact=True, note=note)


def _priorities(count: int) -> list[float]:
    """Return finite float64 values of random bits, and some equal ones."""
    chance = random.Random(w.SEED)
    found: list[float] = []
    while len(found) < count:
        value: float = struct.unpack(">d", chance.randbytes(8))[0]
        if chance.random() < TIE_SHARE:
            value = chance.choice(TIES)
        if math.isfinite(value):
            found.append(value)
    return found


def _inversions(server: Server, count: int, into: list[Group]) -> tuple[int, int]:
    server.empty()
    lease_s = LEASE_S + count / POPS_PER_S  # leases must not expire while other tasks are still being popped
    queue = DPQ(server.client, w.NAME)
    expiring = DPQ(server.client, w.NAME, lease_s=lease_s)
    queue.define({"shared": w.SHARED, "host": w.HOST})
    chance = random.Random(w.SEED)
    tasks = [
        NewTask(w.payload(i), priority, group=chance.choice(into))
        for i, priority in enumerate(_priorities(count))
    ]
    part = count // KINDS
    retried, expired, delayed, fresh = (tasks[i * part : (i + 1) * part] for i in range(KINDS))
    for piece in w.batches(retried):
        queue.push_many(piece)
        for task in queue.pop_many(w.BATCH):
            queue.retry(task, delay_s=lease_s)
    for piece in w.batches(expired):
        expiring.push_many(piece)
        expiring.pop_many(w.BATCH)
    for piece in w.batches(delayed):
        queue.push_many([NewTask(task.payload, task.priority, lease_s, task.group) for task in piece])
    for piece in w.batches(fresh):
        queue.push_many(piece)
    while (wait_s := queue.sweep()) is not None:
        time.sleep(wait_s)
    reported = queue.counts()
    total = part * KINDS
    expect(
        reported.ready == total and reported.expired > 0 and reported.retried > 0,
        f"not {total} ready tasks: {reported}",
    )
    return _out_of_order(queue, total), total


def _out_of_order(queue: DPQ, count: int) -> int:
    """Count inversions, popping one at a time, since a call hands out at most one task with an expired lease."""
    last = (-math.inf, "")
    wrong = 0
    leases: list[Lease] = []
    for _ in range(count):
        taken = queue.pop_many(1)
        expect(len(taken) == 1, "a ready task was not handed out")
        rank = (-taken[0].priority, taken[0].id)
        wrong += rank < last
        last = rank
        leases.append(lease_of(taken[0]))
        if len(leases) >= w.BATCH:
            queue.ack_many(leases)
            leases.clear()
    queue.ack_many(leases)
    expect(queue.counts().done == count, "tasks were lost")
    return wrong


def due(server: Server, sizes: w.Sizes) -> Iterator[Figure]:
    """Measure the time from a due time to the start in a sleeping worker, and what a sleeping worker costs."""
    late = sorted(uvloop.run(_lateness_ms(server, sizes)))
    p99 = late[min(len(late) - 1, math.ceil(len(late) * 0.99) - 1)]
    note = f"of {len(late)}; longest {late[-1]:.2f}"
    yield Figure("due", "from due to running, p50", statistics.median(late), "ms", note=note)
    yield Figure("due", "from due to running, p99", p99, "ms", LATE_MS, note=note)
    blocking, every = uvloop.run(_idle(server, sizes.idle_s))
    per = f"per process in {IDLE_PER_S} s"
    note = f"over {sizes.idle_s:g} s"
    yield Figure("due", f"idle: blocking waits {per}", blocking, "commands", 1, note=note)
    yield Figure("due", f"idle: all commands {per}", every, "commands", note=note)


async def _lateness_ms(server: Server, sizes: w.Sizes) -> list[float]:
    """Return the delays by the wall clock, which the server on the same machine shares."""
    server.empty()
    late: list[float] = []
    chance = random.Random(w.SEED)
    async with open_queue(server) as queue:
        await queue.push({"due": 0.0}, delay_s=60.0)  # loads the scripts

        async def work() -> None:
            while len(late) < sizes.timers:
                task = await queue.pop(sizes.timers_s)
                now = time.time()
                expect(task is not None, "a due task was not handed out")
                assert task is not None
                late.append((now - task["due"]) * 1000)
                await queue.ack(lease_of(task))

        working = asyncio.create_task(work())
        for _ in range(sizes.timers):
            delay_s = SETTLE_S + chance.random() * sizes.timers_s
            await queue.push({"due": time.time() + delay_s}, delay_s=delay_s)
        await working
    return late


async def _idle(server: Server, seconds: float) -> tuple[float, float]:
    """Return the commands that a waiting worker sends in ten seconds: blocking waits, and all."""
    server.empty()
    async with open_queue(server) as queue:
        waiting = asyncio.create_task(queue.pop(seconds * 2))
        await asyncio.sleep(SETTLE_S)
        before = server.calls()
        await asyncio.sleep(seconds)
        after = server.calls()
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
    spent = {name: after[name] - before.get(name, 0) for name in after}
    ours = {name: count for name, count in spent.items() if name in ("fcall", "bzpopmin")}
    scale = IDLE_PER_S / seconds
    return ours.get("bzpopmin", 0) * scale, sum(ours.values()) * scale
