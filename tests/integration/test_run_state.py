"""The run of a queue in a real store: several machines begin and end it, and no two of them disagree."""

from __future__ import annotations

import asyncio

import pytest
import redis.asyncio

from scrapeq.queue import Queue
from scrapeq.queue.connect import async_client
from scrapeq.supervise import run_state
from scrapeq.supervise.run_state import RunState
from scrapeq.task import NewTask

SEED = NewTask({"n": 1}, key="one")


async def work_off(queue: Queue) -> None:
    """Do all there is."""
    while (task := await queue.pop()) is not None:
        assert task.lease is not None
        await queue.ack(task.lease)


async def test_machines_that_begin_at_once_begin_one_run(astore: redis.asyncio.Redis) -> None:
    """One of them begins it, all know its id."""
    states = [RunState(astore, Queue(astore, "q")) for _ in range(8)]
    for _ in range(3):
        fresh = await asyncio.gather(*(state.begin() for state in states))
        assert fresh.count(True) == 1
        assert len({state.record.id for state in states}) == 1
        assert all(state.record.started_s > 0 for state in states)
        assert await states[0].finish()


async def test_a_machine_that_still_drains_does_not_end_the_next_run(astore: redis.asyncio.Redis) -> None:
    """The end is told once, for the run that it began, and what the next run has seen stays."""
    queue = Queue(astore, "q")
    first, second, third = (RunState(astore, queue) for _ in range(3))
    assert await first.begin()
    assert not await second.begin()
    await first.seed([SEED])
    assert not await first.finish(), "a task lives"
    await work_off(queue)
    assert await first.finish()
    assert not await second.finish()
    assert await third.begin()
    await third.seed([SEED])
    assert (await queue.counts()).live == 1, "the new run asks anew"
    await work_off(queue)
    assert not await second.finish()
    assert (await third.read()).state == "running"
    assert (await queue.push_many([SEED]))[0].outcome == "duplicate"


async def test_a_new_run_waits_until_the_last_one_is_forgotten(
    astore: redis.asyncio.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And forgets by itself what a machine that was killed at its end has left."""
    queue = Queue(astore, "q")
    state = RunState(astore, queue)
    await state.begin()
    await state.seed([SEED])
    await work_off(queue)
    assert await state.finish()
    await queue.push_many([SEED])
    await work_off(queue)  # seen again
    await astore.hset(state._key, "ending", "1")
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(state.begin(), 0.1)
    monkeypatch.setattr(run_state, "ENDING_S", 0.0)
    assert await state.begin()
    await state.seed([SEED])
    assert (await queue.counts()).live == 1


async def test_a_redriven_dead_letter_is_the_next_runs_only_work(store_url: str) -> None:
    """A finished run that has work again is resumed; it does not ask for everything anew."""
    client = async_client(store_url)
    queue = Queue(client, "redriven")
    state = RunState(client, queue)
    assert await state.reopen() is False
    await state.begin()
    await state.seed([NewTask({"n": 1}, key="n1")])
    task = await queue.pop()
    assert task is not None and task.lease is not None
    await queue.bury(task.lease, "404 Not Found")
    assert await state.finish() is True
    await queue.redrive(task.id)
    assert await state.reopen() is True
    assert await RunState(client, queue).begin() is False
    assert (await state.read()).seeded
    assert (await queue.counts()).live == 1
    await client.aclose()
