"""The stored state of a run, in a real store: several machines start and finish one run without conflicts."""

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


async def complete_all(queue: Queue) -> None:
    """Pop and acknowledge every task."""
    while (task := await queue.pop()) is not None:
        assert task.lease is not None
        await queue.ack(task.lease)


async def test_machines_that_start_at_once_start_one_run(astore: redis.asyncio.Redis) -> None:
    """One machine starts the run; all of them know its id."""
    states = [RunState(astore, Queue(astore, "q")) for _ in range(8)]
    for _ in range(3):
        is_new = await asyncio.gather(*(state.start_or_resume() for state in states))
        assert is_new.count(True) == 1
        assert len({state.record.id for state in states}) == 1
        assert all(state.record.started_s > 0 for state in states)
        assert await states[0].finish()


async def test_a_machine_that_still_drains_does_not_finish_the_next_run(astore: redis.asyncio.Redis) -> None:
    """Each machine can finish only the run that it started or resumed; the next run's seen keys stay."""
    queue = Queue(astore, "q")
    first, second, third = (RunState(astore, queue) for _ in range(3))
    assert await first.start_or_resume()
    assert not await second.start_or_resume()
    await first.seed([SEED])
    assert not await first.finish(), "a task is live"
    await complete_all(queue)
    assert await first.finish()
    assert not await second.finish()
    assert await third.start_or_resume()
    await third.seed([SEED])
    assert (await queue.counts()).live == 1, "a new run fetches everything again"
    await complete_all(queue)
    assert not await second.finish()
    assert (await third.read()).state == "running"
    assert (await queue.push_many([SEED]))[0].outcome == "duplicate"


async def test_a_new_run_waits_until_the_last_one_is_purged(
    astore: redis.asyncio.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If the machine that finished the last run was killed before the purge, the new run purges after a while."""
    queue = Queue(astore, "q")
    state = RunState(astore, queue)
    await state.start_or_resume()
    await state.seed([SEED])
    await complete_all(queue)
    assert await state.finish()
    await queue.push_many([SEED])
    await complete_all(queue)  # its key is seen again
    await astore.hset(state._key, "ending", "1")
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(state.start_or_resume(), 0.1)
    monkeypatch.setattr(run_state, "ENDING_S", 0.0)
    assert await state.start_or_resume()
    await state.seed([SEED])
    assert (await queue.counts()).live == 1


async def test_a_redriven_dead_letter_is_the_only_work_of_the_next_run(store_url: str) -> None:
    """A finished run that has work again is resumed; it does not fetch everything again."""
    client = async_client(store_url)
    queue = Queue(client, "redriven")
    state = RunState(client, queue)
    assert await state.reopen() is False
    await state.start_or_resume()
    await state.seed([NewTask({"n": 1}, key="n1")])
    task = await queue.pop()
    assert task is not None and task.lease is not None
    await queue.bury(task.lease, "404 Not Found")
    assert await state.finish() is True
    await queue.redrive(task.id)
    assert await state.reopen() is True
    assert await RunState(client, queue).start_or_resume() is False
    assert (await state.read()).seeded
    assert (await queue.counts()).live == 1
    await client.aclose()
