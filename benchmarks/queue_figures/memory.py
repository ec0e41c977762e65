"""The server's memory: bytes per task, per limit, per seen URL."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator

from benchmarks.queue_figures import workload as w
from benchmarks.queue_figures.engine import Server
from benchmarks.queue_figures.report import Figure, expect
from scrapeq.queue import DPQ, Limit, Rate
from scrapeq.task import NewTask, lease_of

TASK, LONELY_TASK, LIMIT, SEEN = 300, 550, 2_500, 20
LIMITS = 20
BUSY_S = 1.0  # the window: long enough to fill all its 256 parts
BUSY_LIMIT = Limit(rates=(Rate(10_000, BUSY_S),), max_concurrency=10_000)


def memory(server: Server, sizes: w.Sizes) -> Iterator[Figure]:
    """Measure the memory per task with a payload of 100 bytes, per busy limit, per URL of a done task."""
    for what, count, target in (
        ("one group", 1, TASK),
        (f"{w.GROUPS:,} groups", w.GROUPS, TASK),
        ("one task per host", sizes.memory, LONELY_TASK),
    ):
        into = w.groups(count) if count < sizes.memory else None
        each = _per_task(server, sizes.memory, w.tasks(sizes.memory, into) if into else _lonely(sizes.memory))
        yield Figure("memory", f"bytes per task, {what}", each, "bytes", target)
    yield Figure("memory", "bytes per limit with a full window", _per_limit(server), "bytes", LIMIT)
    yield Figure("memory", "bytes per seen URL", _per_seen(server, sizes.memory), "bytes", SEEN)


def _lonely(count: int) -> Iterator[NewTask]:
    return (NewTask(w.payload(i), float(i), group=group) for i, group in enumerate(w.groups(count)))


def _empty_queue(server: Server) -> DPQ:
    server.empty()
    queue = DPQ(server.client, w.NAME)
    queue.define({"shared": w.SHARED, "host": w.HOST})
    queue.push_many([NewTask(w.payload(0))])  # loads the scripts and creates what exists once
    w.drain(queue)
    return queue


def _per_task(server: Server, count: int, tasks: Iterable[NewTask]) -> float:
    queue = _empty_queue(server)
    before = server.memory()
    for piece in w.batches(tasks):
        queue.push_many(piece)
    expect(queue.get_size() == count, "pushed tasks are missing")
    return (server.memory() - before) / count


def _per_limit(server: Server) -> float:
    queue = _empty_queue(server)
    queue.define({"busy": BUSY_LIMIT})
    into = w.groups(LIMITS, shared="", host="busy")
    before = server.memory()
    until = time.monotonic() + BUSY_S * 1.2
    while time.monotonic() < until:
        queue.push_many([NewTask(w.payload(0), group=group) for group in into])
        queue.ack_many([lease_of(task) for task in queue.pop_many(LIMITS)])
    expect(queue.counts().done > LIMITS, "no task passed the limits")
    w.drain(queue)
    return (server.memory() - before) / LIMITS


def _per_seen(server: Server, count: int) -> float:
    queue = _empty_queue(server)
    before = server.memory()
    for piece in w.batches(NewTask(w.payload(i), key=f"https://example.org/items/{i}") for i in range(count)):
        queue.push_many(piece)
        w.drain(queue)
    again = queue.push_many([NewTask(w.payload(0), key="https://example.org/items/0")])
    expect(again[0].outcome == "duplicate", "a seen URL was not recognized")
    return (server.memory() - before) / count
