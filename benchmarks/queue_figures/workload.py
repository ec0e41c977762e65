"""The workload: sizes, payloads of 100 bytes, groups under limits that never close."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import orjson

from scrapeq.queue import DPQ, Limit, Rate
from scrapeq.task import Group, NewTask, lease_of

PAYLOAD_BYTES = 100  # as JSON
BATCH = 100
GROUPS = 1_000
SEED = 20_240_229
NAME = "bench"


@dataclass(frozen=True, slots=True)
class Sizes:
    """
    Args:
        tasks: Tasks in the figures of speed.
        single: Tasks that are popped one at a time.
        order: Tasks whose order is checked.
        timers: Delayed tasks whose lateness is measured.
        timers_s: Seconds over which these are spread.
        idle_s: Seconds of idling.
        parked: Tasks in the parked group.
        memory: Tasks whose memory is measured.
        growth: Tasks in the small and in the large queue of the row growth.
        closed: Closed groups while the longest call is measured.
        due: Tasks that become due at once.
        repeats: Measurements, of which the best counts, since other load only slows them.
    """

    tasks: int
    single: int
    order: int
    timers: int
    timers_s: float
    idle_s: float
    parked: int
    memory: int
    growth: tuple[int, int]
    closed: int
    due: int
    repeats: int


FULL = Sizes(
    tasks=100_000,
    single=10_000,
    order=100_000,
    timers=1_000,
    timers_s=20.0,
    idle_s=20.0,
    parked=50_000,
    memory=100_000,
    growth=(10_000, 1_000_000),
    closed=20_000,
    due=100_000,
    repeats=3,
)
SMALL = Sizes(
    tasks=1_000,
    single=100,
    order=400,
    timers=20,
    timers_s=0.3,
    idle_s=0.5,
    parked=1_000,
    memory=1_000,
    growth=(400, 1_200),
    closed=400,
    due=1_000,
    repeats=1,
)


def payload(i: int) -> dict[str, str]:
    """Return a payload whose JSON has PAYLOAD_BYTES bytes."""
    path = f"https://example.org/items/{i}?"
    return {"url": path + "x" * (PAYLOAD_BYTES - len(path) - len('{"url":""}'))}


if len(orjson.dumps(payload(10**9))) != PAYLOAD_BYTES:
    raise AssertionError(f"a payload does not have {PAYLOAD_BYTES} bytes")

# Limits that always grant, but every part of which is computed at every grant and response.
SHARED = Limit(rates=(Rate(1e9, 10.0),), max_concurrency=1_000_000)
HOST = Limit(max_concurrency=1_000)
HOST_RATE = Limit(rates=(Rate(1e9, 10.0),), max_concurrency=1_000)
# One grant, then closed for longer than any measurement.
SLOW_HOST = Limit(rates=(Rate(1, 3600.0),))


def groups(count: int, *, shared: str = "shared", host: str = "host") -> list[Group]:
    """Return groups under a shared and a private limit each; an empty name leaves that limit out."""
    lane = (shared,) if shared else ()
    return [Group(f"h{i}.example.org", lane, f"{host}|h{i}" if host else "") for i in range(count)]


def tasks(count: int, into: Sequence[Group] = (), *, seed: int = SEED) -> Iterator[NewTask]:
    """Yield new tasks with random priorities in random groups; the same ones for the same seed."""
    chance = random.Random(seed)
    for i in range(count):
        if into:
            yield NewTask(payload(i), chance.random(), group=chance.choice(into))
        else:
            yield NewTask(payload(i), chance.random())


def batches(items: Iterable[NewTask], size: int = BATCH) -> Iterator[list[NewTask]]:
    """Split into batches of `size`."""
    source = iter(items)
    while batch := list(islice(source, size)):
        yield batch


def drain(queue: DPQ, n: int = BATCH) -> int:
    """Pop and ack all that is granted; return how many."""
    count = 0
    while taken := queue.pop_many(n):
        queue.ack_many([lease_of(task) for task in taken])
        count += len(taken)
    return count
