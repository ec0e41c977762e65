"""The definition of a limit, stored in the queue under its name, and the state of its instances (`name|partition`)."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

from scrapeq.errors import UsageError

_US = 1_000_000
UNPACED = -1  # a `burst` value that only learned limits use
RATES_MAX = 8
WEEK_S, FIRST_MONDAY_S = 7 * 86_400, 4 * 86_400
_POOL = re.compile(r"\*[\w-]*", re.ASCII)


@dataclass(frozen=True, slots=True)
class Rate:
    """
    A number of grants per interval, and how they are spread.

    Without a burst, grants are paced one by one, and each slot is freed one interval after its response.

    Args:
        limit: Grants in an interval.
        interval_s: Seconds.
        burst: Size of a token bucket that refills at this rate; 0: none; `UNPACED`: slots without pacing.
        aligned_s: If set, grants are not paced but counted in calendar windows: these start this many seconds after
            1970-01-01T00:00Z, and then every `interval_s`.
    """

    limit: float
    interval_s: float
    burst: int = 0
    aligned_s: float | None = None
    # Calendar windows in other words: the time zone (UTC or an IANA name) of their starts; it sets `aligned_s`.
    aligned: str = field(default="", compare=False)

    def __post_init__(self) -> None:
        if self.aligned and self.aligned_s is None:
            object.__setattr__(self, "aligned_s", aligned_s(self.aligned, self.interval_s, time.time()))

    @property
    def has_slots(self) -> bool:
        """Whether each response takes a slot for one interval."""
        return self.burst <= 0 and self.aligned_s is None

    @property
    def is_single(self) -> bool:
        """Whether grants are paced one by one."""
        return self.burst in (0, 1) and self.aligned_s is None

    @property
    def most_ahead_us(self) -> float:
        """How far ahead of now pacing reaches at most (us), whatever was charged."""
        return max(self.interval_s * _US, max(self.burst, 0) * (self.interval_s * _US) / self.limit)

    def window_end(self, now_us: float) -> float:
        """Return the end of the calendar window that contains this time (us); for aligned rates only."""
        offset, interval = (self.aligned_s or 0.0) * _US, self.interval_s * _US
        return offset + ((now_us - offset) // interval + 1) * interval

    def wire(self) -> list[float]:
        """Return the rate as the scripts read it (us)."""
        aligned = [] if self.aligned_s is None else [self.aligned_s * _US]
        return [self.limit, self.interval_s * _US, self.burst, *aligned]


def aligned_s(zone: str, interval_s: float, now_s: float) -> float | None:
    """
    Return the seconds after 1970-01-01T00:00Z at which a calendar window of this time zone starts; None without zone.

    Windows of whole weeks start on Mondays. The offset of the zone is the current one: when its clocks change, windows
    are off by an hour until the next run defines the limits again. Raises UsageError for an unknown zone.
    """
    from datetime import datetime
    from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

    if not zone:
        return None
    try:
        offset = None if zone == "UTC" else datetime.fromtimestamp(now_s, ZoneInfo(zone)).utcoffset()
    except (ZoneInfoNotFoundError, ValueError) as error:
        raise UsageError(
            f"aligned: expected UTC or an IANA time zone such as Europe/Paris, got {zone!r}"
        ) from error
    monday_s = FIRST_MONDAY_S if interval_s % WEEK_S == 0 else 0.0
    return (monday_s - (offset.total_seconds() if offset else 0.0)) % interval_s


@dataclass(frozen=True, slots=True)
class Reserve:
    """
    Keeps the last part of each quota for tasks of high priority.

    Args:
        fraction: Share of the quota, between 0 and 1.
        threshold: The lowest priority that may use it.
        of_now: Add the current time (Unix seconds) to the threshold.
    """

    fraction: float
    threshold: float = 0.0
    of_now: bool = False

    def __post_init__(self) -> None:
        if not 0 < self.fraction < 1:
            raise UsageError(f"reserve: the fraction is {self.fraction!r}; it must be between 0 and 1")

    def withheld(self, priority: float, now_us: float) -> float:
        """Return the fraction of the quota that a task of this priority may not use."""
        return self.fraction if priority < self.threshold + self.of_now * now_us / _US else 0.0


@dataclass(frozen=True, slots=True)
class Limit:
    """
    A rate and concurrency limit.

    Args:
        rates: All of them must grant.
        max_concurrency: The most requests in flight; None: unlimited.
        learn: Learn the rates from refusals if there are none (docs/explanation/limits.md): one request first, then
            a few at once. Budgets reported by responses (`remaining`, `reset`) are obeyed either way.
        version: Of two definitions with the same name, the higher version wins.
        reserve: The part of each quota kept for high priorities; None: nothing.
        since_us: When the queue's definition last changed; 0: never.
    """

    rates: tuple[Rate, ...] = ()
    max_concurrency: int | None = None
    learn: bool = False
    version: float = 0
    reserve: Reserve | None = None
    since_us: float = field(default=0, compare=False)

    def __post_init__(self) -> None:
        if len(self.rates) > RATES_MAX:
            raise UsageError(f"rates: found {len(self.rates)}; a limit has at most {RATES_MAX}")
        for rate in self.rates:
            if rate.limit <= 0 or rate.interval_s <= 0 or rate.burst < 0:
                raise UsageError(
                    f"{rate}: limit and interval must be more than 0, and burst must not be negative"
                )
        if self.max_concurrency is not None and self.max_concurrency < 1:
            raise UsageError(f"max_concurrency is {self.max_concurrency}; it must be at least 1")

    def wire(self) -> list[object]:
        """Return the definition as the scripts read it (us)."""
        wire: list[object] = [self.version, self.max_concurrency or 0, int(self.learn)]
        wire += [rate.wire() for rate in self.rates]
        if self.reserve is not None:
            reserve = self.reserve
            wire.append({"reserve": [reserve.fraction, reserve.threshold, int(reserve.of_now)]})
        return wire

    @classmethod
    def from_wire(cls, wire: Sequence[Any]) -> Limit:
        """Read a definition written by `wire`."""
        version, most, learn, *rates = wire
        options: dict[str, Any] = rates.pop() if rates and isinstance(rates[-1], dict) else {}
        read = tuple(
            Rate(limit, interval_us / _US, int(burst), *(offset / _US for offset in aligned))
            for limit, interval_us, burst, *aligned in rates
        )
        stored = options.get("reserve")
        reserve = Reserve(stored[0], stored[1], stored[2] == 1) if stored else None
        return cls(read, int(most) or None, bool(learn), version, reserve, options.get("since", 0))


Source = Literal["", "learned", "named"]
SOURCES: tuple[Source, ...] = ("", "learned", "named")


class Change(NamedTuple):
    """
    One change of a learned limit.

    Args:
        at_us: When, on the queue's clock.
        limit: Requests in the window; 0: unknown.
        interval_s: The window.
        source: Where the limit comes from: refusals (`learned`) or a response that stated it (`named`).
        trial: The higher limit being tried; 0: none.
    """

    at_us: int
    limit: float
    interval_s: float
    source: Source
    trial: float


def is_pooled(instance: str) -> bool:
    """
    Return whether an instance stands for those of a pool's credentials, as in `core|host,*pool`: one of them grants.

    Limit names cannot contain `*`, and partition values encode it.
    """
    return "*" in instance


def of_credential(instance: str, credential: str) -> str:
    """Return the instance for one credential of a pool: `core|host,*pool` becomes `core|host,9f1c`; others stay."""
    return _POOL.sub(credential, instance, count=1) if credential else instance


@dataclass(frozen=True, slots=True)
class LimitState:
    """
    The current state of one limit instance.

    Args:
        name: The instance.
        parked_s: Seconds until its park ends; 0: not parked.
        paused: The user paused it.
        in_flight: Total weight of the requests in flight.
        probing: One request at a time is sent, until one is accepted.
        remaining: Requests left as the server reported; None: not reported.
        reset_s: Seconds until the reported window ends.
        cap: The most requests in flight while the rate is unknown.
        consecutive_refusals: Refusals since the last accepted request.
        learned: The rate in force, learned or stated by responses; None: unknown.
        in_trial: That rate is a trial, a little higher than what is known to be accepted.
        source: Whether refusals showed the rate (`learned`) or a response stated it (`named`).
        opens_s: Seconds until it grants: 0: it grants now; None: when a response arrives or the user resumes it.
        used: Weight of the responses in the current window, if it has rates.
        heaviest: Weight of the heaviest request that exceeded the whole limit; 0: none did.
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
