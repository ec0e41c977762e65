"""What the queue is told and what it answers, as values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from scrapeq.task import Lease, NewTask, Task

ACK, RETRY, RELEASE, BURY, OBSERVE, EXTEND, VISIBILITY = 1, 2, 3, 4, 5, 6, 7
UNSENT, RESPONDED, NO_RESPONSE = 0, 1, 2  # what became of the request under a lease


@dataclass(frozen=True, slots=True)
class Pushed:
    """What became of a pushed task: `pushed` (with its id), `duplicate`, `raised`, `dead` (its twin is), `orphaned`."""

    outcome: Literal["pushed", "duplicate", "raised", "dead", "orphaned"]
    id: str = ""


@dataclass(frozen=True, slots=True)
class Popped:
    """
    A pop's answer: tasks; `wait_s` until it is worth asking again (None: an event says); `live` tasks not dead.

    `watch_us`: of all who wait it is the caller who looks again then, on the queue's clock; 0: it is another one.
    """

    tasks: list[Task]
    wait_s: float | None
    live: int
    again: bool = False
    watch_us: int = 0


class Entry(NamedTuple):
    """
    What became of one lease.

    Args:
        verb: ACK … VISIBILITY.
        lease: The lease.
        sent: UNSENT is refunded to its limits; UNANSWERED (time-out, broken connection) has cost what an answered one
            costs, and opens nothing.
        age_s: Seconds since the answer came.
        delay_s: For retry, release (not before), extend and visibility (the lease ends then).
        max_attempts: Retry: dead at that many.
        told: (limit instance, remaining, reset seconds from the answer).
        refused: (limit instance, seconds from the answer to stay closed).
        guessed: The server did not say how long to stay closed: 1 = those seconds are a guess, 2 = the file says them.
        rates: (limit instance, requests, seconds): the size and window that the answer named, with no `remaining`.
        costs: (limit instance, weight): what the request has cost there, where that is not what it was charged.
        error: Why it failed.
        push: Tasks that follow; pushed only if the lease still stands.
    """

    verb: int
    lease: Lease
    sent: int = RESPONDED
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
    """One entry's result: `done`, `lost` (stale token: nothing changed) or `dead`; and what its follow-ups became."""

    outcome: Literal["done", "lost", "dead"]
    pushed: list[Pushed] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Counts:
    """How many tasks are where, and what happened since the queue was made."""

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

    @property
    def live(self) -> int:
        """Tasks that are not dead."""
        return self.ready + self.delayed + self.leased
