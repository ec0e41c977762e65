"""What a limit is, for the queue: a definition under a name; its instances (`name|partition`) carry the state."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

from scrapeq.errors import UsageError

_US = 1_000_000
UNPACED = -1  # as a burst: only learned limits have it
RATES_MAX = 8
_POOL = re.compile(r"\*[\w-]*", re.ASCII)


@dataclass(frozen=True, slots=True)
class Rate:
    """
    `limit` grants in `interval_s` seconds; `burst` > 0: a token bucket of that size, refilled at that rate. Else paced
    one by one, each slot freed one interval after its answer; `UNPACED`: the same, but not paced.

    `aligned_s`: not paced, but counted in windows that begin so many seconds after 1970-01-01T00:00Z, and every
    `interval_s` from there.
    """

    limit: float
    interval_s: float
    burst: int = 0
    aligned_s: float | None = None

    @property
    def has_slots(self) -> bool:
        """Whether each answer takes a slot for one interval."""
        return self.burst <= 0 and self.aligned_s is None

    @property
    def is_single(self) -> bool:
        """Whether each grant keeps its distance from the last."""
        return self.burst in (0, 1) and self.aligned_s is None

    @property
    def most_ahead_us(self) -> float:
        """How far ahead it is paced at most, whatever was charged."""
        return max(self.interval_s * _US, max(self.burst, 0) * (self.interval_s * _US) / self.limit)

    def window_end(self, now_us: float) -> float:
        """Of an aligned rate: the end of the window that holds this time (microseconds)."""
        offset, interval = (self.aligned_s or 0.0) * _US, self.interval_s * _US
        return offset + ((now_us - offset) // interval + 1) * interval

    def wire(self) -> list[float]:
        """As the scripts read it (microseconds)."""
        aligned = [] if self.aligned_s is None else [self.aligned_s * _US]
        return [self.limit, self.interval_s * _US, self.burst, *aligned]


@dataclass(frozen=True, slots=True)
class Reserve:
    """
    The last `fraction` of each quota is for tasks whose priority is at least `line`.

    With `of_now` the line is `line` plus the time (Unix seconds).
    """

    fraction: float
    threshold: float = 0.0
    of_now: bool = False

    def __post_init__(self) -> None:
        if not 0 < self.fraction < 1:
            raise UsageError(f"reserve: a fraction of {self.fraction!r} is not between 0 and 1")

    def withheld(self, priority: float, now_us: float) -> float:
        """The fraction that a task of this priority has to leave."""
        return self.fraction if priority < self.threshold + self.of_now * now_us / _US else 0.0


@dataclass(frozen=True, slots=True)
class Limit:
    """
    A rate and concurrency limit.

    Args:
        rates: All of them must grant. Paced, and each slot is freed one interval after its answer.
        max_concurrency: Requests in flight at once; None = no bound.
        learn: Without rates they are learned from refusals (docs/limits.md): one request first, then a few at once.
            What answers tell (`remaining`, `reset`) is obeyed either way.
        version: Of two definitions under one name the higher wins.
        reserve: A share of each quota that is kept for what matters most.
        since_us: When it was last changed in the queue; 0 = never.
    """

    rates: tuple[Rate, ...] = ()
    max_concurrency: int | None = None
    learn: bool = False
    version: float = 0
    reserve: Reserve | None = None
    since_us: float = field(default=0, compare=False)

    def __post_init__(self) -> None:
        if len(self.rates) > RATES_MAX:
            raise UsageError(f"rates: {len(self.rates)} are too many; a limit has at most {RATES_MAX}")
        for rate in self.rates:
            if rate.limit <= 0 or rate.interval_s <= 0 or rate.burst < 0:
                raise UsageError(f"{rate}: limit and interval must be more than 0, burst 0 or more")
        if self.max_concurrency is not None and self.max_concurrency < 1:
            raise UsageError(f"max_concurrency: {self.max_concurrency} is too small; it must be at least 1")

    def wire(self) -> list[object]:
        """The definition as the scripts read it (microseconds)."""
        wire: list[object] = [self.version, self.max_concurrency or 0, int(self.learn)]
        wire += [rate.wire() for rate in self.rates]
        if self.reserve is not None:
            withheld = self.reserve
            wire.append({"reserve": [withheld.fraction, withheld.threshold, int(withheld.of_now)]})
        return wire

    @classmethod
    def from_wire(cls, wire: Sequence[Any]) -> Limit:
        """The inverse of `wire`."""
        version, most, learn, *rates = wire
        options: dict[str, Any] = rates.pop() if rates and isinstance(rates[-1], dict) else {}
        read = tuple(
            Rate(limit, interval_us / _US, int(burst), *(offset / _US for offset in aligned))
            for limit, interval_us, burst, *aligned in rates
        )
        withheld = options.get("reserve")
        reserve = Reserve(withheld[0], withheld[1], withheld[2] == 1) if withheld else None
        return cls(read, int(most) or None, bool(learn), version, reserve, options.get("since", 0))


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


def of_credential(instance: str, credential: str) -> str:
    """The instance of one member: `core|host,*pool` of `9f1c` is `core|host,9f1c`; any other instance is itself."""
    return _POOL.sub(credential, instance, count=1) if credential else instance


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
        heaviest: The weight of the heaviest request that was more than the whole limit; 0 = none was.
    """

    name: str
    parked_s: float
    paused: bool
    in_flight: float
    probing: bool
    remaining: float | None
    reset_s: float
    cap: int
    consecutive_refusals: int
    learned: Rate | None
    in_trial: bool
    source: Source
    opens_s: float | None
    used: float
    heaviest: float = 0
