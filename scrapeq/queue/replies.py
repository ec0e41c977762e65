"""The values that go into the queue's commands and come out of their replies."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Literal, NamedTuple

from scrapeq.task import Lease, NewTask, Task

ACK, RETRY, RELEASE, BURY, OBSERVE, EXTEND, VISIBILITY = 1, 2, 3, 4, 5, 6, 7


class Delivery(IntEnum):
    """
    What became of the request under a lease.

    UNSENT: it never left, so its limits are refunded. RESPONDED: a response arrived. NO_RESPONSE: it timed out or the
    connection broke; it costs what a request with a response costs, but proves nothing about the limits.
    """

    UNSENT = 0
    RESPONDED = 1
    NO_RESPONSE = 2


UNSENT, RESPONDED, NO_RESPONSE = Delivery.UNSENT, Delivery.RESPONDED, Delivery.NO_RESPONSE


@dataclass(frozen=True, slots=True)
class Pushed:
    """
    The outcome of one push.

    Args:
        outcome: `pushed`: a new task. `duplicate`: the key is known. `raised`: the key is known, and the old task now
            has the higher priority. `dead`: the task with this key is a dead letter. `orphaned`: the lease that it
            depended on was stale.
        id: The new task's id; empty unless `pushed`.
    """

    outcome: Literal["pushed", "duplicate", "raised", "dead", "orphaned"]
    id: str = ""


@dataclass(frozen=True, slots=True)
class Popped:
    """
    The reply of a pop.

    Args:
        tasks: The leased tasks, best first.
        wait_s: Seconds until another pop is worth it; None = an event decides.
        live: How many tasks are in the queue and are not dead letters.
        is_unfinished: The script used up its budget: pop again at once.
        poll_at_us: The caller is the designated waiter and polls at this time of the queue's clock; 0 = another one is.
    """

    tasks: list[Task]
    wait_s: float | None
    live: int
    is_unfinished: bool = False
    poll_at_us: int = 0


class Entry(NamedTuple):
    """
    The outcome of one lease.

    Args:
        verb: ACK, RETRY, RELEASE, BURY, OBSERVE, EXTEND or VISIBILITY.
        lease: The lease.
        sent: What became of the request.
        age_s: Seconds since the response arrived.
        delay_s: RETRY and RELEASE: seconds before the task is handed out again. EXTEND and VISIBILITY: seconds until
            the lease ends.
        max_attempts: RETRY: the task is a dead letter after so many attempts.
        reported: (limit instance, requests remaining, seconds from the response to the reset).
        refused: (limit instance, seconds from the response to stay closed).
        guessed: Where the seconds of `refused` come from: 0 = the server, 1 = a guess, 2 = the configuration.
        rates: (limit instance, requests, seconds): size and window that the response named without what remains.
        error: Why the task failed.
        push: Follow-up tasks; they are pushed only if the lease is still valid.
        costs: (limit instance, weight): what the request cost, where that differs from what was charged.
    """

    verb: int
    lease: Lease
    sent: Delivery = RESPONDED
    age_s: float = 0.0
    delay_s: float = 0.0
    max_attempts: int = 5
    reported: Sequence[tuple[str, float, float]] = ()
    refused: Sequence[tuple[str, float]] = ()
    guessed: int = 0
    rates: Sequence[tuple[str, float, float]] = ()
    error: str = ""
    push: Sequence[NewTask] = ()
    costs: Sequence[tuple[str, float]] = ()


@dataclass(frozen=True, slots=True)
class Settled:
    """
    The result of one entry.

    Args:
        outcome: `done`, `dead` (the task is a dead letter now) or `lost` (the lease is stale; nothing was changed).
        pushed: The outcome of each follow-up task.
    """

    outcome: Literal["done", "lost", "dead"]
    pushed: list[Pushed] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Counts:
    """
    How many tasks are in each state, and totals since the queue was created.

    Args:
        now_us: The queue's clock, microseconds.
        ready, delayed, leased, dead: Tasks in each state.
        paused: Whether the whole queue is paused.
        next_event_s: Seconds until the next delay, lease or park ends; None = none will.
        pushed, done, granted, refused, expired, died, retried, released, duplicates, cancelled, answered: Totals.
        inexact: Times that a pop stopped looking at its budget, so that the order was not exact.
        created_us: When the store created the queue, microseconds; 0 = not yet. It changes only if the store has
            forgotten the queue meanwhile.
        is_damaged: Whether the store has lost tasks that other keys of the queue still name.
    """

    now_us: int
    ready: int
    delayed: int
    leased: int
    dead: int
    paused: bool
    next_event_s: float | None
    pushed: int
    done: int
    granted: int
    refused: int
    expired: int
    died: int
    retried: int
    released: int
    duplicates: int
    inexact: int
    cancelled: int
    answered: int
    created_us: int = field(default=0, compare=False, kw_only=True)
    is_damaged: bool = field(default=False, compare=False, kw_only=True)

    @property
    def live(self) -> int:
        """Tasks that are not dead letters."""
        return self.ready + self.delayed + self.leased
