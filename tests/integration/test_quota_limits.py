"""The queue tracks the server's count: responses that overtake each other, window changes and full buckets."""

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
    """Yield a queue with more tasks of one group than any test takes."""
    async with WorkerQueue(astore, "quota") as made:
        await made.push_many([NewTask({"n": n}, group=GROUP) for n in range(300)])
        yield made


async def take_leases(queue: WorkerQueue, most: int = 100, wait_s: float = 0.0) -> list[Lease]:
    """Return the leases that one pop grants, after waiting up to `wait_s` seconds."""
    return [task.lease for task in (await queue.poll(most, wait_s)).tasks if task.lease is not None]


async def report(queue: WorkerQueue, lease: Lease, remaining: int, reset_s: float = FAR_S) -> None:
    """Settle a response that reports the remaining budget."""
    await queue.settle(Entry(OBSERVE, lease, reported=[("core|host", remaining, reset_s)]))


async def remaining_budget(queue: WorkerQueue) -> float | None:
    """Return the remaining budget according to the queue."""
    return (await queue.limit_states(["core|host"]))[0].remaining


async def test_an_overtaken_response_does_not_raise_the_budget(queue: WorkerQueue) -> None:
    """A slow response that the server counted earlier than a known one does not raise the budget."""
    await queue.define({"core": Limit(learn=True)})
    (probe,) = await take_leases(queue)
    await report(queue, probe, 10)
    old = (await take_leases(queue, 2))[0]  # granted before the next report
    (first,) = await take_leases(queue, 1)
    await report(queue, first, 8)
    (late,) = await take_leases(queue, 1)  # granted after that report, but counted by the server before `old`
    await report(queue, old, 6)
    await report(queue, late, 7)
    assert await remaining_budget(queue) == 6


async def test_a_new_window_raises_the_budget_while_requests_overlap(queue: WorkerQueue) -> None:
    """If the server starts a new window while requests overlap, its report applies immediately."""
    await queue.define({"core": Limit(learn=True)})
    (probe,) = await take_leases(queue)
    await report(queue, probe, 10)
    (old, _, _) = await take_leases(queue, 3)
    await report(queue, old, 9)
    (new,) = await take_leases(queue, 1)
    await report(queue, new, 5000)
    assert await remaining_budget(queue) == 5000


async def test_a_response_of_the_previous_window_does_not_close_the_limit(queue: WorkerQueue) -> None:
    """A late response that reports an exhausted budget of the previous window does not affect the new one."""
    await queue.define({"core": Limit(learn=True)})
    (probe,) = await take_leases(queue)
    await report(queue, probe, 2, reset_s=FAR_S)
    straggler, last = await take_leases(queue)
    await report(queue, last, 0, reset_s=0.0)  # the window ends now
    (first,) = await take_leases(queue, wait_s=10)
    await report(queue, first, 100)
    await report(queue, straggler, 0, reset_s=FAR_S)
    assert (
        await remaining_budget(queue) == 99
    )  # the late response costs its weight, since the server may have counted it in either window


async def test_a_full_bucket_refills_after_the_first_response(queue: WorkerQueue) -> None:
    """Grants beyond the burst wait for a response, which shows that the server has counted the burst."""
    await queue.define({"core": Limit((Rate(2, 1.0, burst=10),))})
    leases = await take_leases(queue)
    assert len(leases) == 10
    assert await take_leases(queue, wait_s=0.7) == []
    await queue.settle(Entry(OBSERVE, leases[0]))
    assert len(await take_leases(queue, wait_s=10)) == 1


async def test_a_configured_concurrency_applies_after_the_first_response(queue: WorkerQueue) -> None:
    """A limit with only a concurrency allows all its slots after the first response."""
    await queue.define({"core": Limit(max_concurrency=20, learn=True)})
    (probe,) = await take_leases(queue)
    await queue.settle(Entry(OBSERVE, probe))
    assert len(await take_leases(queue)) == 20
