"""How much is measured, and with what: sizes, payloads of 100 bytes, groups under limits that never close."""

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
        tasks: For the figures of speed.
        single: Tasks one at a time.
        order: Tasks whose order is checked.
        timers: Delayed tasks whose lateness is measured.
        timers_s: Seconds over which these are spread.
        idle_s: Seconds of idling.
        parked: Tasks in the group that is parked.
        memory: Tasks whose memory is measured.
        growth: Tasks in the small and the large queue that pops are compared on.
        closed: Groups that are closed while the longest call is looked for.
        due: Tasks that become due at once.
        repeats: Measurements of which the best counts: what disturbs only ever slows.
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
    """A payload whose JSON has PAYLOAD_BYTES bytes."""
    path = f"https://example.org/items/{i}?"
    return {"url": path + "x" * (PAYLOAD_BYTES - len(path) - len('{"url":""}'))}


if len(orjson.dumps(payload(10**9))) != PAYLOAD_BYTES:
    raise AssertionError("the payload has another size than it says")

# Wide enough to grant all that is asked, yet every part of them is reckoned with at every grant and answer.
SHARED = Limit(rates=(Rate(1e9, 10.0),), max_concurrency=1_000_000)
HOST = Limit(max_concurrency=1_000)
HOST_RATE = Limit(rates=(Rate(1e9, 10.0),), max_concurrency=1_000)
# One request, then closed for longer than any measurement lasts.
SLOW_HOST = Limit(rates=(Rate(1, 3600.0),))


def groups(count: int, *, shared: str = "shared", host: str = "host") -> list[Group]:
    """Groups under one shared and one private limit each; an empty name leaves that limit out."""
    lane = (shared,) if shared else ()
    return [Group(f"h{i}.example.org", lane, f"{host}|h{i}" if host else "") for i in range(count)]


def tasks(count: int, into: Sequence[Group] = (), *, seed: int = SEED) -> Iterator[NewTask]:
    """New tasks at random priorities in random groups; the same ones each time."""
    chance = random.Random(seed)
    for i in range(count):
        if into:
            yield NewTask(payload(i), chance.random(), group=chance.choice(into))
        else:
            yield NewTask(payload(i), chance.random())


def batches(items: Iterable[NewTask], size: int = BATCH) -> Iterator[list[NewTask]]:
    """In pieces of `size`."""
    source = iter(items)
    while piece := list(islice(source, size)):
        yield piece


def drain(queue: DPQ, n: int = BATCH) -> int:
    """Pop and ack all that is granted; how many."""
    count = 0
    while taken := queue.pop_many(n):
        queue.ack_many([lease_of(task) for task in taken])
        count += len(taken)
    return count
