"""The running state of each limit and each piece of work in a simulation. Times are in microseconds."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from scrapeq.limit import LimitState
from scrapeq.limits.engine import US
from scrapeq.limits.fast_limit import NEVER, FastLimit
from scrapeq.simulate.work import Work

NOTICEABLE_US = 150_000  # a limit that holds requests back for less does not count as closed

Key = tuple[float, int, int]
"""The sort key of a lane: its negated priority, the index of its work, the index of its credential."""


@dataclass(eq=False)
class LimitRun:
    """A limit instance, the lanes that wait for it, and its statistics."""

    model: FastLimit
    waiting: list[tuple[Key, Lane]] = field(default_factory=list)
    rechecking: bool = False  # its first waiting lane is being tried again
    timer: float = NEVER
    in_flight: int = 0  # requests, also of weight 0
    requests: int = 0
    first: float = NEVER
    last: float = 0
    closed: float = NEVER
    held: float = 0
    held_since: float = NEVER

    def hold(self, now: float) -> None:
        """Update the time during which requests have waited for it."""
        if self.waiting and self.held_since == NEVER:
            self.held_since = now
        elif not self.waiting and self.held_since < NEVER:
            self.held += now - self.held_since
            if now - self.held_since > NOTICEABLE_US:
                self.closed = min(self.closed, self.held_since)
            self.held_since = NEVER


@dataclass(eq=False)
class Stream:
    """One piece of work; `ready` requests could be sent now if their limits granted."""

    work: Work
    lanes: list[Lane] = field(default_factory=list)
    lot: int = 1
    started: int = 0  # page sequences
    ready: int = 0
    granted: int = 0
    responded: int = 0
    first: float = NEVER
    last: float = 0

    def start(self, sequences: int) -> None:
        """Let more page sequences send their first request."""
        sequences = min(sequences, self.work.count - self.started)
        self.started += sequences
        self.ready += sequences

    def continue_after(self, responses: int) -> None:
        """Let page sequences send their next request after these responses."""
        open_pages = self.started * self.work.pages - self.granted - self.ready
        self.ready += min(responses, open_pages)


@dataclass(eq=False)
class Lane:
    """A stream's requests with one credential of a pool, or without a pool: they share the same limits."""

    stream: Stream
    key: Key
    limits: list[tuple[LimitRun, float]]  # with the weight of a request
    came_from: LimitRun | None = None  # the limit that it waited for until now
    is_queued: bool = False

    def grant_id(self, granted: float) -> str:
        """Return an id for a grant at this time. It only has to identify probes, and a lane has one at a time."""
        return f"{self.key[1]}.{self.key[2]}@{granted}"


def resume(model: FastLimit, state: LimitState, now: float) -> None:
    """Start from the state of a real limit."""
    model.paused, model.parked_until = state.paused, now + state.parked_s * US
    model.probation, model.consecutive_refusals = state.probing, state.consecutive_refusals
    if state.remaining is not None:
        model.remaining, model.reset_at = state.remaining, now + state.reset_s * US
    if state.learned is not None and model.learns:  # how far later trials would raise it is unknown
        model.definition = replace(model.definition, rates=(state.learned,), learn=False)
    for i, rate in enumerate(model.rates):
        if (
            state.used and not rate.burst
        ):  # assume that all responses arrived just now: their times are unknown
            model.add_response(i, now, now, min(state.used, rate.limit), rate.interval_s * US)
