"""What a server counts and what the queue grants: answers that overtake each other, full buckets, lateness."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import redis.asyncio

from scrapeq.queue import Entry, Limit, Rate
from scrapeq.queue.commands import OBSERVE
from scrapeq.queue.worker_queue import WorkerQueue
from scrapeq.task import Group, Lease, NewTask

pytestmark = pytest.mark.serial  # it measures

FAR_S = 1000.0
GROUP = Group("core|host", (), "core|host")


@pytest.fixture
async def queue(astore: redis.asyncio.Redis) -> AsyncIterator[WorkerQueue]:
    """A queue with more tasks of one group than any test takes."""
    async with WorkerQueue(astore, "quota") as made:
        await made.push_many([NewTask({"n": n}, group=GROUP) for n in range(300)])
        yield made


async def granted(queue: WorkerQueue, most: int = 100, wait_s: float = 0.0) -> list[Lease]:
    """The leases that one pop grants, after a wait if need be."""
    return [task.lease for task in (await queue.poll(most, wait_s)).tasks if task.lease is not None]


async def reported(queue: WorkerQueue, lease: Lease, remaining: int, reset_s: float = FAR_S) -> None:
    """The answer to a request says what is left."""
    await queue.settle(Entry(OBSERVE, lease, reported=[("core|host", remaining, reset_s)]))


async def left(queue: WorkerQueue) -> float | None:
    """What the queue believes is left."""
    return (await queue.limit_states(["core|host"]))[0].remaining


async def test_an_answer_overtaken_by_a_later_count_raises_nothing(queue: WorkerQueue) -> None:
    """A slow answer that the server counted before one that is known already may not raise the budget."""
    await queue.define({"core": Limit(learn=True)})
    (probe,) = await granted(queue)
    await reported(queue, probe, 10)
    old = (await granted(queue, 2))[0]  # granted before what comes next is known
    (first,) = await granted(queue, 1)
    await reported(queue, first, 8)
    (late,) = await granted(queue, 1)  # granted after it, and counted by the server before `old`
    await reported(queue, old, 6)
    await reported(queue, late, 7)
    assert await left(queue) == 6


async def test_a_new_window_under_way_raises_the_budget(queue: WorkerQueue) -> None:
    """Where requests overlap and the server begins a new window, what it tells counts at once."""
    await queue.define({"core": Limit(learn=True)})
    (probe,) = await granted(queue)
    await reported(queue, probe, 10)
    (old, _, _) = await granted(queue, 3)
    await reported(queue, old, 9)
    (new,) = await granted(queue, 1)
    await reported(queue, new, 5000)
    assert await left(queue) == 5000


async def test_an_answer_of_the_window_before_closes_nothing(queue: WorkerQueue) -> None:
    """A straggler that says that nothing is left of a window that is over leaves the new one as it is."""
    await queue.define({"core": Limit(learn=True)})
    (probe,) = await granted(queue)
    await reported(queue, probe, 2, reset_s=FAR_S)
    straggler, last = await granted(queue)
    await reported(queue, last, 0, reset_s=0.0)  # the window is over now
    (first,) = await granted(queue, wait_s=10)
    await reported(queue, first, 100)
    await reported(queue, straggler, 0, reset_s=FAR_S)
    assert await left(queue) == 99  # it has cost its weight, for it may have been counted in either


async def test_a_full_bucket_refills_from_the_first_answer_on(queue: WorkerQueue) -> None:
    """Nothing beyond the burst is granted before an answer shows that the server has seen it."""
    await queue.define({"core": Limit((Rate(2, 1.0, burst=10),))})
    leases = await granted(queue)
    assert len(leases) == 10
    assert await granted(queue, wait_s=0.7) == []
    await queue.settle(Entry(OBSERVE, leases[0]))
    assert len(await granted(queue, wait_s=10)) == 1


async def test_a_configured_concurrency_is_not_cut_to_the_unknown_one(queue: WorkerQueue) -> None:
    """A limit that says only how many may be in flight lets so many be, once the first is answered."""
    await queue.define({"core": Limit(max_concurrency=20, learn=True)})
    (probe,) = await granted(queue)
    await queue.settle(Entry(OBSERVE, probe))
    assert len(await granted(queue)) == 20
