"""Scheduled runs: each run requests everything again, and no task is in the queue twice."""

from __future__ import annotations

import redis

from scrapeq.queue.fsck import fsck_blocking
from scrapeq.queue.sync_queue import DPQ
from scrapeq.task import NewTask


def page(number: int, scheduled_run: int, page_sequence: str = "s") -> NewTask:
    """Return a page of a page sequence in a scheduled run."""
    return NewTask(
        {"page": number}, key=f"page {number}", scheduled_run=scheduled_run, page_sequence=page_sequence
    )


def outcome(queue: DPQ, task: NewTask) -> str:
    """Push a task and return the outcome."""
    return queue.push_many([task])[0].outcome


def test_a_later_run_pushes_again_what_is_done(store: redis.Redis) -> None:
    """A task that waits or is leased is a duplicate; so is a done one in its own run, so loops end."""
    queue = DPQ(store, "q")
    assert outcome(queue, page(1, 1)) == "pushed"
    assert outcome(queue, page(1, 2)) == "duplicate", "it waits"
    taken = queue.pop()
    assert outcome(queue, page(1, 2)) == "duplicate", "it is leased"
    taken.on_success()
    assert outcome(queue, page(1, 1)) == "duplicate"
    assert outcome(queue, NewTask(0, key="page 1")) == "duplicate", (
        "a push without a run is done once and for all"
    )
    assert outcome(queue, page(1, 2)) == "pushed"
    queue.pop().on_success()
    assert outcome(queue, page(1, 1)) == "duplicate", "a later run has done it"
    assert fsck_blocking(store, "q").ok


def test_a_run_pushes_again_what_was_done_without_one(store: redis.Redis) -> None:
    """A schedule may be added after the first, unscheduled run."""
    queue = DPQ(store, "q")
    assert outcome(queue, NewTask(0, key="page 1")) == "pushed"
    queue.pop().on_success()
    assert outcome(queue, page(1, 1)) == "pushed"


def test_a_page_sequence_has_one_page_in_the_queue(store: redis.Redis) -> None:
    """Its first page is a duplicate while it goes on; its next page enters with the ack of the page before."""
    queue = DPQ(store, "q")
    queue.push_many([page(1, 1)])
    for number in (1, 2, 3):
        task = queue.pop().task
        assert task is not None and task.lease is not None and task["page"] == number
        queue.ack(task.lease, push=[page(number + 1, 1)])
        assert outcome(queue, page(1, 2)) == "duplicate"
    queue.pop().on_success()
    assert outcome(queue, page(1, 3)) == "pushed"
    assert fsck_blocking(store, "q").ok


def test_the_next_run_replaces_a_dead_letter(store: redis.Redis) -> None:
    """A dead page does not block its sequence; the same run does not push it again."""
    queue = DPQ(store, "q")
    queue.push_many([page(1, 1)])
    task = queue.pop().task
    assert task is not None and task.lease is not None
    queue.bury(task.lease, "404")
    assert outcome(queue, page(1, 1)) == "dead"
    assert outcome(queue, page(2, 1)) == "pushed", "the sequence has no page in the queue"
    queue.pop().on_success()
    assert outcome(queue, page(1, 2)) == "pushed"
    counts = queue.counts()
    assert (counts.dead, counts.live) == (0, 1)
    assert fsck_blocking(store, "q").ok


def test_a_cancelled_page_frees_its_sequence(store: redis.Redis) -> None:
    """So does one that is redriven and done."""
    queue = DPQ(store, "q")
    (pushed,) = queue.push_many([page(5, 1)])
    assert outcome(queue, page(1, 2)) == "duplicate"
    queue.cancel(pushed.id)
    assert outcome(queue, page(1, 2)) == "pushed"
    task = queue.pop().task
    assert task is not None and task.lease is not None
    queue.bury(task.lease, "500")
    queue.redrive(task.id)
    assert outcome(queue, page(5, 3)) == "duplicate"
    queue.pop().on_success()
    assert outcome(queue, page(5, 3)) == "pushed"
    assert fsck_blocking(store, "q").ok
