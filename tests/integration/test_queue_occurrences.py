"""What is asked for again and again: each occurrence asks for everything, and nothing is in the queue twice."""

from __future__ import annotations

import redis

from scrapeq.queue.fsck import fsck_blocking
from scrapeq.queue.sync_queue import DPQ
from scrapeq.task import NewTask


def page(number: int, scheduled_run: int, page_sequence: str = "w") -> NewTask:
    """A page of a walk, in an occurrence."""
    return NewTask(
        {"page": number}, key=f"page {number}", scheduled_run=scheduled_run, page_sequence=page_sequence
    )


def outcome(queue: DPQ, task: NewTask) -> str:
    """What becomes of a push."""
    return queue.push_many([task])[0].outcome


def test_what_is_done_is_asked_for_again_in_a_later_occurrence(store: redis.Redis) -> None:
    """What waits or is under way is a duplicate; so is, in its own occurrence, what is done: circles end."""
    queue = DPQ(store, "q")
    assert outcome(queue, page(1, 1)) == "pushed"
    assert outcome(queue, page(1, 2)) == "duplicate", "it waits"
    taken = queue.pop()
    assert outcome(queue, page(1, 2)) == "duplicate", "it is under way"
    taken.on_success()
    assert outcome(queue, page(1, 1)) == "duplicate"
    assert outcome(queue, NewTask(0, key="page 1")) == "duplicate", "once for all that is asked for once"
    assert outcome(queue, page(1, 2)) == "pushed"
    queue.pop().on_success()
    assert outcome(queue, page(1, 1)) == "duplicate", "a later one has asked"
    assert fsck_blocking(store, "q").ok


def test_what_was_asked_for_once_is_asked_for_again(store: redis.Redis) -> None:
    """An occurrence begins after a run that knew of none."""
    queue = DPQ(store, "q")
    assert outcome(queue, NewTask(0, key="page 1")) == "pushed"
    queue.pop().on_success()
    assert outcome(queue, page(1, 1)) == "pushed"


def test_a_walk_is_at_one_page(store: redis.Redis) -> None:
    """Its first page is no second walk while it goes on; its next page enters with the ack of the one before."""
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


def test_a_dead_letter_is_replaced_by_the_next_occurrence(store: redis.Redis) -> None:
    """And holds up no walk; the same occurrence does not ask again."""
    queue = DPQ(store, "q")
    queue.push_many([page(1, 1)])
    task = queue.pop().task
    assert task is not None and task.lease is not None
    queue.bury(task.lease, "404")
    assert outcome(queue, page(1, 1)) == "dead"
    assert outcome(queue, page(2, 1)) == "pushed", "the walk is at no page"
    queue.pop().on_success()
    assert outcome(queue, page(1, 2)) == "pushed"
    counts = queue.counts()
    assert (counts.dead, counts.live) == (0, 1)
    assert fsck_blocking(store, "q").ok


def test_what_is_cancelled_frees_its_walk(store: redis.Redis) -> None:
    """Or dropped, or redriven and done."""
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
