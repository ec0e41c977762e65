"""What a simulation keeps of each limit and of each piece of work. Microseconds."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from scrapeq.limit import LimitState
from scrapeq.limits.engine import US
from scrapeq.limits.fast_limit import NEVER, FastLimit
from scrapeq.simulate.work import Work

NOTICEABLE_US = 150_000  # a shorter wait is no closed limit


Key = tuple[float, int, int]
"""Who goes first: the priority turned round, the place of the work, that of the pool's member."""


@dataclass(eq=False)
class LimitRun:
    """A limit instance, and who waits for it."""

    model: FastLimit
    waiting: list[tuple[Key, Lane]] = field(default_factory=list)
    asked: bool = False  # the first of them is being looked at again
    timer: float = NEVER
    flying: int = 0  # requests
    requests: int = 0
    first: float = NEVER
    last: float = 0
    closed: float = NEVER
    held: float = 0
    held_since: float = NEVER

    def hold(self, now: float) -> None:
        """Keep the books of how long requests wait for it."""
        if self.waiting and self.held_since == NEVER:
            self.held_since = now
        elif not self.waiting and self.held_since < NEVER:
            self.held += now - self.held_since
            if now - self.held_since > NOTICEABLE_US:
                self.closed = min(self.closed, self.held_since)
            self.held_since = NEVER


@dataclass(eq=False)
class Stream:
    """One piece of work: `ready` requests could be sent now, if the limits let them."""

    work: Work
    lanes: list[Lane] = field(default_factory=list)
    lot: int = 1
    begun: int = 0  # walks
    ready: int = 0
    granted: int = 0
    answered: int = 0
    first: float = NEVER
    last: float = 0

    def begin(self, walks: int) -> None:
        """More walks may send their first page."""
        walks = min(walks, self.work.count - self.begun)
        self.begun += walks
        self.ready += walks

    def go_on(self, requests: int) -> None:
        """So many pages are answered: the next ones of their walks may be sent."""
        open_pages = self.begun * self.work.pages - self.granted - self.ready
        self.ready += min(requests, open_pages)


@dataclass(eq=False)
class Lane:
    """A way for requests of one stream: the limits that one member of a pool, or no pool, has for them."""

    stream: Stream
    key: Key
    limits: list[tuple[LimitRun, float]]  # and what a request weighs there
    came_from: LimitRun | None = None  # waited there until now
    is_queued: bool = False

    def name(self, granted: float) -> str:
        """Whose grant it is; only one at a time is a probe."""
        return f"{self.key[1]}.{self.key[2]}@{granted}"


def resume(model: FastLimit, state: LimitState, now: float) -> None:
    """Start from the state of a real limit."""
    model.paused, model.parked_until = state.paused, now + state.parked_s * US
    model.probation, model.consecutive_refusals = state.probing, state.consecutive_refusals
    if state.remaining is not None:
        model.remaining, model.reset_at = state.remaining, now + state.reset_s * US
    if state.learned is not None and model.learns:  # how far later trials would raise it is unknown
        model.rules = replace(model.rules, rates=(state.learned,), learn=False)
    for i, rate in enumerate(model.rates):
        if (
            state.used and not rate.burst
        ):  # assume that all responses arrived just now: their times are unknown
            model.add_response(i, now, now, min(state.used, rate.limit), rate.interval_s * US)
