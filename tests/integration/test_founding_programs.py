"""The programs of the founding document run unchanged, with a test store in place of localhost:6379."""

from __future__ import annotations

import random
import runpy
import sys
import time
from pathlib import Path

import pytest
import redis

from scrapeq import DPQ

EXAMPLES = Path(__file__).parents[2] / "examples"
REAL_SLEEP = time.sleep


class Finished(Exception):
    """Ends a program that runs forever."""


@pytest.fixture
def queue(store: redis.Redis, store_socket: str, monkeypatch: pytest.MonkeyPatch) -> DPQ:
    """Return the queue of the programs, whose `Redis()` is the test's store."""
    real = redis.Redis
    monkeypatch.setattr(redis, "Redis", lambda: real(unix_socket_path=store_socket))
    monkeypatch.setattr(sys, "argv", ["program"])
    return DPQ(redis=store, queue_name="my_queue")


def test_the_producer_pushes_ten_delayed_tasks_with_their_priorities(queue: DPQ) -> None:
    """Each task has the priority in its payload, and none is handed out before its delay."""
    runpy.run_path(str(EXAMPLES / "producer.py"))
    assert queue.counts().delayed == 10
    assert queue.pop().task is None
    tasks = queue.get(*(str(number) for number in range(1, 11)))
    assert all(task is not None and task.priority == task["priority"] for task in tasks)
    assert all(task is not None and 8 < task.due_in_s <= 10 for task in tasks)


def test_the_consumer_takes_the_highest_priority_first_and_gives_back_refused_tasks(
    queue: DPQ, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It empties the queue although three tasks are refused once."""
    for number in range(9):
        queue.push({"body": number}, priority=number)
    refusals = iter([1, 1, 0] * 3 + [1] * 9)
    monkeypatch.setattr(random, "randrange", lambda stop: next(refusals) if stop == 3 else 0.5)

    def sleep(_seconds: float) -> None:
        if queue.get_size() == 0:
            raise Finished
        REAL_SLEEP(0.02)

    monkeypatch.setattr(time, "sleep", sleep)
    with pytest.raises(Finished):
        runpy.run_path(str(EXAMPLES / "consumer.py"))
    output = capsys.readouterr().out
    first = [line for line in output.splitlines() if line.startswith("got task")][:9]
    assert [f"'body': {number}" in line for number, line in zip(range(8, -1, -1), first, strict=True)] == [
        True
    ] * 9
    assert output.count("setting delay for 0.5") == 3
    assert "queue is empty" in output
    assert queue.counts().done == 9


def test_the_scheduler_makes_delayed_tasks_ready_without_a_pop(
    queue: DPQ, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Due tasks count as ready without any pop, within one pause of the scheduler."""
    queue.push("soon", delay=0.2)
    started = time.monotonic()

    def sleep(seconds: float) -> None:
        if queue.counts().ready == 1 or time.monotonic() - started > 5:
            raise Finished
        assert seconds <= 1.0
        REAL_SLEEP(min(seconds, 0.05))

    monkeypatch.setattr(time, "sleep", sleep)
    with pytest.raises(Finished):
        runpy.run_path(str(EXAMPLES / "delayed_tasks_scheduler.py"))
    assert queue.counts().ready == 1


def test_the_limitations_of_the_founding_document_are_lifted(queue: DPQ, store: redis.Redis) -> None:
    """Several queues on one client, a blocking pop, counts of attempts, dead letters, no daemon."""
    other = DPQ(redis=store, queue_name="other")
    other.push("elsewhere")
    assert queue.pop().task is None  # several queues on one client

    queue.push("later", delay=0.1)
    task = queue.pop(wait_s=5).task  # blocks until it is due, with no scheduler running
    assert task is not None and task.attempts == 0

    for attempt in range(1, 5):
        assert queue.retry(task, delay_s=0, error="503") is False
        task = queue.pop().task
        assert task is not None and task.attempts == attempt
    assert queue.retry(task, delay_s=0, error="503") is True
    (dead,) = queue.get(task.id)
    assert dead is not None and (dead.state, dead.last_error) == ("dead", "503")
    assert queue.redrive(task.id) == [True]
    assert queue.pop().task is not None
