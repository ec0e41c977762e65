"""Tasks per second of one client process: push, pop and ack, single calls, and the loops of workers."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import uvloop

from benchmarks.queue_figures import workload as w
from benchmarks.queue_figures.engine import Server
from benchmarks.queue_figures.report import Figure, expect
from scrapeq.page import Page
from scrapeq.plan import Endpoint, Plan, Resource
from scrapeq.protocols import Extraction
from scrapeq.queue import DPQ, Limit, Queue
from scrapeq.queue.commands import ACK, Entry
from scrapeq.queue.connect import async_client
from scrapeq.queue.worker_queue import WorkerQueue
from scrapeq.task import Group, NewTask, Task, lease_of
from scrapeq.worker.loop import FetchWorker

T = TypeVar("T")

IN_FLIGHT = 4  # concurrent calls of one process: while the server works on one, the client builds the next
SLOTS = 100  # of a worker loop
SLICES = 10  # how often two compared measurements take turns, so that other load hits both
EMPTY_SCRIPT = "return 1"
URL = "https://example.org/items/"


def push(server: Server, sizes: w.Sizes) -> Iterator[Figure]:
    """Measure push_many, 100 tasks per call, into one group and into 1,000."""
    for count, target in ((1, 150_000), (w.GROUPS, 100_000)):
        into = w.groups(count) if count > 1 else []
        where = f"{count:,} groups" if into else "one group"
        rates = [uvloop.run(push_rate(server, sizes.tasks, into)) for _ in range(sizes.repeats)]
        best = max(rates)
        yield Figure("push", f"push_many, {w.BATCH} per call, into {where}", best, "tasks/s", target, "least")
    rate = max(_push_sync(server, sizes.tasks) for _ in range(sizes.repeats))
    yield Figure("push", f"the same with the blocking DPQ, one group, {w.BATCH} per call", rate, "tasks/s")


async def push_rate(server: Server, count: int, into: Sequence[Group] = ()) -> float:
    """Return tasks per second."""
    server.empty()
    async with open_queue(server) as queue:
        await queue.define({"shared": w.SHARED, "host": w.HOST})
        source = w.batches(w.tasks(count, into))

        async def pushing() -> None:
            for piece in source:
                await queue.push_many(piece)

        elapsed = await _elapsed(lambda: asyncio.gather(*(pushing() for _ in range(IN_FLIGHT))))
        expect((await queue.counts()).ready == count, "pushed tasks are missing")
    return count / elapsed


def _push_sync(server: Server, count: int) -> float:
    server.empty()
    queue = DPQ(server.client, w.NAME)
    started = time.perf_counter()
    for piece in w.batches(w.tasks(count)):
        queue.push_many(piece)
    elapsed = time.perf_counter() - started
    expect(queue.get_size() == count, "pushed tasks are missing")
    return count / elapsed


def pop_ack(server: Server, sizes: w.Sizes) -> Iterator[Figure]:
    """Measure pop_many(100) and ack under limits."""
    target = 50_000 if server.binary.engine == "valkey" else 60_000
    cases: tuple[tuple[str, list[Group], Limit, float | None], ...] = (
        ("1,000 groups, a shared and a private limit each", w.groups(w.GROUPS), w.HOST, target),
        ("the same, the private one with a rate too", w.groups(w.GROUPS), w.HOST_RATE, None),
        ("one group, no limits", [], w.HOST, None),
    )
    for what, into, host, least in cases:
        best = max(uvloop.run(pop_ack_rate(server, sizes.tasks, into, host)) for _ in range(sizes.repeats))
        yield Figure("pop_ack", f"pop_many({w.BATCH}) + ack, {what}", best, "tasks/s", least, "least")


async def pop_ack_rate(server: Server, count: int, into: Sequence[Group], host: Limit = w.HOST) -> float:
    """Return tasks per second."""
    async with filled(server, count, into, host) as queue:

        async def popping() -> None:
            while taken := await queue.pop_many(w.BATCH):
                await asyncio.gather(*[queue.settle_soon(Entry(ACK, lease_of(task))) for task in taken])

        elapsed = await _elapsed(lambda: asyncio.gather(*(popping() for _ in range(IN_FLIGHT))))
        await expect_done(queue, count)
    return count / elapsed


def one_at_a_time(server: Server, sizes: w.Sizes) -> Iterator[Figure]:
    """Measure single pops and acks with DPQ, in turns with two empty scripts over the same client."""
    for what, into in (
        ("one group, no limits", []),
        ("1,000 groups, two limits each", w.groups(w.GROUPS)),
    ):
        ours, empty = max(_single_rates(server, sizes.single, into) for _ in range(sizes.repeats))
        name = f"pop + ack one at a time, {what}"
        note = f"pairs of empty calls: {empty:,.0f}/s"
        yield Figure("single", name, ours, "tasks/s", None, "least", note=note)
        yield Figure("single", f"{name}, to two empty EVALSHA", ours / empty, "x", 0.45, "least")


def single_rate(server: Server, count: int) -> float:
    """Return tasks per second, popped and acked one at a time."""
    return _single_rates(server, count, ())[0]


def _single_rates(server: Server, count: int, into: Sequence[Group]) -> tuple[float, float]:
    """Return tasks per second, and pairs of empty scripts per second."""
    server.empty()
    queue = DPQ(server.client, w.NAME)
    queue.define({"shared": w.SHARED, "host": w.HOST})
    for piece in w.batches(w.tasks(count, into)):
        queue.push_many(piece)
    sha = server.raw.script_load(EMPTY_SCRIPT)
    ours = empty = 0.0
    piece_size = count // SLICES
    for _ in range(SLICES):
        started = time.perf_counter()
        for _ in range(piece_size):
            _, on_success, _ = queue.pop()
            on_success()
        between = time.perf_counter()
        for _ in range(piece_size * 2):
            server.raw.execute_command("EVALSHA", sha, 1, "scrapeq:{empty}:c")
        ours += between - started
        empty += time.perf_counter() - between
    done = piece_size * SLICES
    expect(queue.counts().done == done, "acked tasks are missing")
    return done / ours, done / empty


def loops(server: Server, sizes: w.Sizes) -> Iterator[Figure]:
    """Measure what a worker process does around a request, without requests."""
    best = max(uvloop.run(fetch_loop_rate(server, sizes.tasks)) for _ in range(sizes.repeats))
    yield Figure(
        "loop", f"fetch worker's own loop, {SLOTS} slots, empty responses", best, "tasks/s", 20_000, "least"
    )
    best = max(uvloop.run(slot_loop_rate(server, sizes.tasks)) for _ in range(sizes.repeats))
    yield Figure("loop", f"loop over Queue: pop, an empty coroutine, ack; {SLOTS} slots", best, "tasks/s")


async def slot_loop_rate(server: Server, count: int) -> float:
    """Return the tasks per second of the shortest loop around a queue that keeps all slots busy."""
    async with filled(server, count, (), w.HOST) as queue:
        done = 0
        running: dict[str, asyncio.Task[None]] = {}
        room = asyncio.Event()

        async def work(task: Task) -> None:
            nonlocal done
            await _nothing()
            await queue.settle(Entry(ACK, lease_of(task)))
            done += 1
            del running[task.id]
            room.set()

        async def run() -> None:
            while done < count:
                room.clear()
                free = SLOTS - len(running)
                taken = await queue.pop_many(free) if free else []
                for task in taken:
                    running[task.id] = asyncio.create_task(work(task))
                if not taken and running:
                    await room.wait()

        elapsed = await _elapsed(run)
        await expect_done(queue, count)
    return count / elapsed


async def _nothing() -> None:
    pass


class _NoEgress:
    """An egress that responds at once with an empty object."""

    credentials: tuple[str, ...] = ()

    async def __aenter__(self) -> _NoEgress:
        return self

    async def __aexit__(self, *_: object) -> None:
        pass

    def has_credential(self, credential: str) -> bool:
        return True

    async def send(self, method: str, url: str, **_: Any) -> Page:
        return Page(url, 200, (("content-type", "application/json"),), b"{}", 0.0, url, method)


class _NoExtractor:
    """An extractor that finds nothing, and sets `last` at the last page."""

    def __init__(self, count: int) -> None:
        self.left = count
        self.last = asyncio.Event()

    async def chunks(self, payload: dict[str, Any], priority: float, page: Page) -> AsyncIterator[Extraction]:
        self.left -= 1
        if self.left == 0:
            self.last.set()
        yield Extraction()


async def fetch_loop_rate(server: Server, count: int) -> float:
    """Return the tasks per second of the fetch worker, with an egress that responds at once."""
    plan = Plan(w.NAME, "", resources=(Resource("items", Endpoint()),))
    extractor = _NoExtractor(count)
    parts: Any = {"egress": _NoEgress(), "extractor": extractor, "sink": None, "cursor_store": None}
    server.empty()
    async with open_queue(server) as queue:
        await queue.define({"shared": w.SHARED})
        group = Group("example.org", ("shared",))

        def group_of(
            resource: str, method: str, url: str, seed: Mapping[str, Any] | None = None, parent: Any = None
        ) -> Group:
            return group

        for piece in w.batches(_fetch_task(i, group) for i in range(count)):
            await queue.push_many(piece)
        worker = FetchWorker(plan=plan, queue=queue, group_of=group_of, concurrency=SLOTS, **parts)

        async def run() -> None:
            running = asyncio.create_task(worker.run())
            last = asyncio.create_task(extractor.last.wait())
            await asyncio.wait((running, last), return_when=asyncio.FIRST_COMPLETED)
            last.cancel()
            worker.stop()
            await running

        elapsed = await _elapsed(run)
        await expect_done(queue, count)
    return count / elapsed


def _fetch_task(i: int, group: Group) -> NewTask:
    return NewTask({"v": 1, "resource": "items", "method": "GET", "url": f"{URL}{i}"}, i, group=group)


# --- shared by the rows


@asynccontextmanager
async def open_queue(server: Server) -> AsyncIterator[WorkerQueue]:
    """Open a queue with its own client."""
    client = async_client(server.url)
    try:
        async with WorkerQueue(client, w.NAME) as queue:
            yield queue
    finally:
        await client.aclose()


@asynccontextmanager
async def filled(
    server: Server, count: int, into: Sequence[Group], host: Limit
) -> AsyncIterator[WorkerQueue]:
    """Open a queue with `count` tasks in these groups."""
    server.empty()
    async with open_queue(server) as queue:
        await queue.define({"shared": w.SHARED, "host": host})
        for piece in w.batches(w.tasks(count, into)):
            await queue.push_many(piece)
        yield queue


async def expect_done(queue: Queue, count: int) -> None:
    """Check that all tasks were done, none twice, and none is left."""
    counts = await queue.counts()
    expect(counts.done == count, f"{counts.done} of {count} tasks are done")
    expect(counts.live == counts.dead == 0, "tasks are left over")


async def _elapsed(work: Callable[[], Awaitable[T]]) -> float:
    started = time.perf_counter()
    await work()
    return time.perf_counter() - started
