"""What a limit is, for the queue: a definition under a name; its instances (`name|partition`) carry the state."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from scrapeq.errors import UsageError

_US = 1_000_000
_POOL = re.compile(r"\*[\w-]*", re.ASCII)


@dataclass(frozen=True, slots=True)
class Rate:
    """`limit` grants in `interval_s` seconds; `burst` > 0: a token bucket of that size, refilled at that rate."""

    limit: float
    interval_s: float
    burst: int = 0


@dataclass(frozen=True, slots=True)
class Limit:
    """
    A rate and concurrency limit.

    Args:
        rates: All of them must grant. Paced, and each slot is freed one interval after its answer.
        max_concurrency: Requests in flight at once; None = no bound.
        learn: Nothing is known until an answer tells: one request first, then at most 8 in flight, halved at each
            refusal. What answers tell (`remaining`, `reset`) is obeyed either way.
        version: Of two definitions under one name the higher wins.
    """

    rates: tuple[Rate, ...] = ()
    max_concurrency: int | None = None
    learn: bool = False
    version: float = 0

    def __post_init__(self) -> None:
        for rate in self.rates:
            if rate.limit <= 0 or rate.interval_s <= 0 or rate.burst < 0:
                raise UsageError(f"{rate}: limit and interval must be more than 0, burst 0 or more")
        if self.max_concurrency is not None and self.max_concurrency < 1:
            raise UsageError(f"max_concurrency: {self.max_concurrency} is too small; it must be at least 1")

    def wire(self) -> list[object]:
        """The definition as the scripts read it (microseconds)."""
        rates = [[rate.limit, rate.interval_s * _US, rate.burst] for rate in self.rates]
        return [self.version, self.max_concurrency or 0, int(self.learn), *rates]

    @classmethod
    def from_wire(cls, wire: Sequence[Any]) -> Limit:
        """The inverse of `wire`."""
        version, most, learn, *rates = wire
        read = tuple(Rate(limit, interval_us / _US, int(burst)) for limit, interval_us, burst in rates)
        return cls(read, int(most) or None, bool(learn), version)


Source = Literal["", "learned", "named"]
SOURCES: tuple[Source, ...] = ("", "learned", "named")


class Change(NamedTuple):
    """One step of what was learned of a limit: `at_us` on the queue's clock; `trial`: the limit tried out, 0 = none."""

    at_us: int
    limit: float
    interval_s: float
    source: Source
    trial: float


def is_pooled(instance: str) -> bool:
    """
    Whether it stands for the instances of a pool's members, of which one grants: `core|host,*pool`.

    Names of limits hold no `*`, and partitions have theirs encoded.
    """
    return "*" in instance


def of_member(instance: str, member: str) -> str:
    """The instance of one member: `core|host,*pool` of `9f1c` is `core|host,9f1c`; any other instance is itself."""
    return _POOL.sub(member, instance, count=1) if member else instance


@dataclass(frozen=True, slots=True)
class LimitState:
    """
    What is known of one limit instance now.

    Args:
        parked_s: Seconds until its park ends; 0 = not parked.
        paused: A person paused it.
        in_flight: Weight of the requests sent and not answered.
        probing: One request at a time, until one is answered well.
        remaining: Requests left as told; None = not told.
        reset_s: Seconds until that window ends.
        cap: Requests in flight allowed while unknown.
        streak: Refusals in a row.
        learned: Size and window learned of it, or named by answers, as in force now; None = nothing is known.
        in_trial: That is a little more than is known to be granted: is it, too?
        source: Whether refusals showed it or an answer named it.
        opens_s: 0 = grants now; None = when an answer comes or a person resumes it; else seconds.
        used: Answered requests in the current window, where it has rates.
    """

    name: str
    parked_s: float
    paused: bool
    in_flight: float
    probing: bool
    remaining: float | None
    reset_s: float
    cap: int
    streak: int
    learned: Rate | None
    in_trial: bool
    source: Source
    opens_s: float | None
    used: float
