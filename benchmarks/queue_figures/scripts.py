"""The time that the server spends in scripts: per task, per park, the longest call, and as the queue grows."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator, Sequence

import uvloop

from benchmarks.queue_figures import workload as w
from benchmarks.queue_figures.engine import Server
from benchmarks.queue_figures.order import LEASE_S, POPS_PER_S
from benchmarks.queue_figures.report import Figure, expect
from benchmarks.queue_figures.speed import open_queue
from scrapeq.queue import DPQ, RESPONDED, Limit
from scrapeq.task import Group, Lease, NewTask, lease_of

AT_ONCE = (1, 10, 100)
ONE_US, MANY_US, PARKING_US, PARK_US, LONGEST_MS, GROWTH = 30, 20, 45, 50, 5, 2
PARK_ROUNDS = 50
PARK_S = 600.0
EXPIRED_SHARE = 10  # one lease expires for so many tasks of the row that are due at once
LANES_SHARE = 10  # one lane for so many of the closed groups
NAMES_PER_CALL = 500
BIG_PUSH = 1_000


def per_task(server: Server, sizes: w.Sizes) -> Iterator[Figure]:
    """Measure script microseconds per task by batch size: with open limits, and if every grant closes its host."""
    into = w.groups(w.GROUPS)
    for n in AT_ONCE:
        count = max(n * 10, min(sizes.tasks, sizes.single * n))
        runs = [_per_task(server, n, w.HOST, w.tasks(count, into)) for _ in range(sizes.repeats)]
        yield _script_figure(
            f"script time per task, {n} per call", n, min(runs), ONE_US if n == 1 else MANY_US
        )
    for n in AT_ONCE:
        count = max(n * 10, min(sizes.tasks, sizes.single * n) // 2)
        runs = [_per_task(server, n, w.SLOW_HOST, _twice(count)) for _ in range(sizes.repeats)]
        name = f"script time per task, {n} per call, every grant parks its host"
        yield _script_figure(name, n, min(runs), PARKING_US)


def _script_figure(name: str, n: int, run: tuple[float, float, float, float], target: float) -> Figure:
    total, pop, ack, median = run
    note = f"pop {pop:.1f} + ack {ack:.1f}; by medians {median:.1f}"
    return Figure("script", name, total, "us", target, note=note)


def _twice(hosts: int) -> Iterator[NewTask]:
    """Yield two tasks per host, next to each other in the order: the second finds the host closed by the first."""
    for i, group in enumerate(w.groups(hosts)):
        for twin in range(2):
            yield NewTask(w.payload(i * 2 + twin), float(-i), group=group)


def _per_task(
    server: Server, n: int, host: Limit, tasks: Iterator[NewTask]
) -> tuple[float, float, float, float]:
    """Return microseconds per task: pop and ack, pop, ack, and pop and ack by the median call."""
    queue = _queue(server, {"shared": w.SHARED, "host": host})
    for piece in w.batches(tasks):
        queue.push_many(piece)
    leased: list[list[Lease]] = []
    with server.timed_scripts() as pops:
        while taken := queue.pop_many(n):
            leased.append([lease_of(task) for task in taken])
    with server.timed_scripts() as acks:
        for leases in leased:
            expect(all(queue.ack_many(leases)), "a lease was lost")
    count = sum(map(len, leased))
    pop, ack = sum(pops) / count, sum(acks) / count
    median = (statistics.median(pops) + statistics.median(acks)) / n
    return pop + ack, pop, ack, median


def park(server: Server, sizes: w.Sizes) -> Iterator[Figure]:
    """Measure parks of a group of many tasks, by a refusal and by an operator."""
    refused, manual, closed_pops = uvloop.run(_park(server, sizes.parked))
    for name, times in (
        ("park by a refusal: release and close, one script", refused),
        ("park by an operator", manual),
        ("the pop that finds it closed", closed_pops),
    ):
        note = f"median of {len(times)}; longest {max(times):.0f}"
        value = statistics.median(times)
        yield Figure("park", f"{name}, {sizes.parked:,} tasks", value, "us", PARK_US, note=note)


async def _park(server: Server, count: int) -> tuple[list[float], list[float], list[float]]:
    server.empty()
    group = w.groups(1)[0]
    refused: list[float] = []
    manual: list[float] = []
    closed_pops: list[float] = []
    async with open_queue(server) as queue:
        await queue.define({"shared": w.SHARED, "host": w.HOST})
        for piece in w.batches(w.tasks(count, [group])):
            await queue.push_many(piece)
        for _ in range(PARK_ROUNDS):
            task = await queue.pop()
            expect(task is not None, "an open group handed out no task")
            assert task is not None
            with server.timed_scripts() as times:
                await queue.release(lease_of(task), sent=RESPONDED, park=[(group.private, PARK_S)])
            refused += times
            with server.timed_scripts() as times:
                expect(await queue.pop() is None, "a parked group handed out a task")
            closed_pops += times
            await queue.unpark([group.private])
            with server.timed_scripts() as times:
                await queue.park([group.private], for_s=PARK_S)
            manual += times
            await queue.unpark([group.private])
            probe = await queue.pop()  # after a park one probe goes first; its ack opens the limit
            expect(probe is not None, "a reopened group handed out no task")
            assert probe is not None
            await queue.ack(lease_of(probe))
    return refused, manual, closed_pops


def longest(server: Server, sizes: w.Sizes) -> Iterator[Figure]:
    """Measure the longest single call in scenarios with much that is closed or due."""
    for name, scenario, target in (
        ("every host closed but one", _hosts_closed, LONGEST_MS),
        ("one shared limit closed over all hosts", _shared_closed, LONGEST_MS),
        ("a freed slot that many lanes wait for", _lanes_wait, LONGEST_MS),
        ("many tasks due at once", _all_due, LONGEST_MS),
        ("many leases expire at once", _all_expired, LONGEST_MS),
        (f"push of {BIG_PUSH:,} tasks into {w.GROUPS:,} groups in one call", _big_push, None),
    ):
        # Other load lengthens some call of some runs; the script's own work lengthens a call of each run.
        worst = min(max(scenario(server, sizes)) for _ in range(sizes.repeats))
        yield Figure("longest", f"longest call: {name}", worst / 1000, "ms", target)


def _queue(server: Server, limits: dict[str, Limit], lease_s: float = 600.0) -> DPQ:
    server.empty()
    queue = DPQ(server.client, w.NAME, lease_s=lease_s)
    queue.define(limits)
    return queue


def _push_each(queue: DPQ, into: Sequence[Group]) -> None:
    for piece in w.batches(NewTask(w.payload(i), float(-i), group=group) for i, group in enumerate(into)):
        queue.push_many(piece)


def _hosts_closed(server: Server, sizes: w.Sizes) -> list[float]:
    queue = _queue(server, {"shared": w.SHARED, "host": w.SLOW_HOST})
    into = w.groups(sizes.closed)
    _push_each(queue, into)
    names = [group.private for group in into[:-1]]  # the last one has the lowest priority
    for start in range(0, len(names), NAMES_PER_CALL):
        queue.park(names[start : start + NAMES_PER_CALL], for_s=PARK_S)
    with server.timed_scripts() as times:
        until_popped(queue, 1)
    return times


def until_popped(queue: DPQ, count: int) -> None:
    """Pop until `count` tasks are leased; each pop must find some within a second."""
    leased = 0
    while leased < count:
        tasks = queue.pop_many(w.BATCH, wait_s=1)
        expect(bool(tasks), f"{leased} of {count} tasks were handed out, then none")
        leased += len(tasks)


def _shared_closed(server: Server, sizes: w.Sizes) -> list[float]:
    queue = _queue(server, {"shared": w.SHARED, "host": w.HOST})
    _push_each(queue, w.groups(sizes.closed))
    with server.timed_scripts() as times:
        queue.park(["shared"], for_s=PARK_S)
        expect(not queue.pop_many(w.BATCH), "a parked limit handed out a task")
        queue.unpark(["shared"])
        expect(bool(queue.pop_many(w.BATCH)), "a reopened limit handed out no task")
    return times


def _lanes_wait(server: Server, sizes: w.Sizes) -> list[float]:
    """Many lanes share a limit of one at a time: each freed slot reopens those that wait for it."""
    queue = _queue(server, {"one": Limit(max_concurrency=1), "own": w.HOST})
    lanes = sizes.closed // LANES_SHARE
    _push_each(queue, [Group(f"g{i}", ("one", f"own|{i}")) for i in range(lanes)])
    with server.timed_scripts() as times:
        for _ in range(min(PARK_ROUNDS, lanes)):
            until_popped_one(queue)
    return times


def until_popped_one(queue: DPQ) -> None:
    """Pop one task and ack it; many closed lanes may come before it."""
    for _ in range(w.GROUPS):
        if taken := queue.pop_many(w.BATCH):
            queue.ack_many([lease_of(task) for task in taken])
            return
    expect(False, "a free slot went unused")


def _all_due(server: Server, sizes: w.Sizes) -> list[float]:
    queue = _queue(server, {"shared": w.SHARED, "host": w.HOST})
    started = time.monotonic()
    delay_s = sizes.due / 20_000 + 0.1
    for piece in w.batches(w.tasks(sizes.due, w.groups(w.GROUPS))):
        left = max(0.0, started + delay_s - time.monotonic())
        queue.push_many([NewTask(task.payload, task.priority, left, task.group) for task in piece])
    time.sleep(max(0.0, started + delay_s - time.monotonic()))
    with server.timed_scripts() as times:
        until_popped(queue, sizes.due)
    return times


def _all_expired(server: Server, sizes: w.Sizes) -> list[float]:
    count = sizes.due // EXPIRED_SHARE
    lease_s = LEASE_S + count / POPS_PER_S  # none expires while others are still being popped
    queue = _queue(server, {"shared": w.SHARED, "host": w.HOST}, lease_s)
    for piece in w.batches(w.tasks(count, w.groups(w.GROUPS))):
        queue.push_many(piece)
    for _ in range(0, count, w.BATCH):
        queue.pop_many(w.BATCH)
    time.sleep(lease_s)
    with server.timed_scripts() as times:
        queue.sweep()
    expect(queue.counts().expired > 0, "no lease expired")
    return times


def _big_push(server: Server, sizes: w.Sizes) -> list[float]:
    queue = _queue(server, {"shared": w.SHARED, "host": w.HOST})
    with server.timed_scripts() as times:
        queue.push_many(list(w.tasks(BIG_PUSH, w.groups(w.GROUPS))))
    return times


def growth(server: Server, sizes: w.Sizes) -> Iterator[Figure]:
    """Compare pop and ack in a small and in a large queue."""
    queue = _queue(server, {"shared": w.SHARED, "host": w.HOST})
    into = w.groups(w.GROUPS)
    measured: list[dict[int, float]] = []
    have = 0
    for size in sizes.growth:
        for piece in w.batches(w.tasks(size - have, into, seed=size)):
            queue.push_many(piece)
        measured.append({n: _pop_at(server, queue, n, min(sizes.single, size // 4)) for n in (1, 100)})
        have = queue.get_size()
    small, large = sizes.growth
    for n in (1, 100):
        before, after = measured[0][n], measured[1][n]
        note = f"{before:.1f} us, then {after:.1f} us per task"
        name = f"pop, {n} per call, at {large:,} tasks to at {small:,}"
        yield Figure("growth", name, after / before, "x", GROWTH, note=note)


def _pop_at(server: Server, queue: DPQ, n: int, count: int) -> float:
    """Return microseconds per task by the median call."""
    leased: list[Lease] = []
    with server.timed_scripts() as times:
        while len(leased) < count:
            leased += [lease_of(task) for task in queue.pop_many(n)]
    for start in range(0, len(leased), w.BATCH):
        queue.ack_many(leased[start : start + w.BATCH])
    return statistics.median(times) / n
