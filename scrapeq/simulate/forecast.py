"""What a simulation says, as values. Times are seconds from the beginning."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class LimitForecast:
    """
    One limit instance.

    Args:
        name: The instance.
        requests: Sent under it.
        first_s, last_s: When the first and the last one were granted.
        closed_s: When it first held a request back; None = never.
        held_s: Time in which requests waited for it.
        share: Of what its rates grant while the work goes on, how much is used; None = it has no rate.
        waiting: Requests that still wait for it, where it opens for none of them.
    """

    name: str
    requests: int
    first_s: float
    last_s: float
    closed_s: float | None
    held_s: float
    share: float | None
    waiting: int = 0


@dataclass(frozen=True, slots=True)
class BandForecast:
    """Requests of neighbouring priorities, and when the last of them is answered; None = never."""

    highest: float
    lowest: float
    requests: int
    done_s: float | None


@dataclass(frozen=True, slots=True)
class WorkForecast:
    """All work of one label: its requests, the first grant and the last answer; None = never."""

    label: str
    requests: int
    first_s: float | None
    done_s: float | None


@dataclass(frozen=True, slots=True)
class Forecast:
    """
    Args:
        requests: All that there were.
        left: Of them, not answered: a limit never opens, or the horizon came first.
        done_s: When the last answer comes.
        tenths_s: When each tenth of the requests is answered, as far as it is.
        limits: By held time, what holds back most first.
        bands: By priority, the highest first; at most ten.
        work: By label, in the order given.
        exact_to_s: Requests were counted in lots; a time may be off by so much.
    """

    requests: int
    left: int
    done_s: float
    tenths_s: tuple[float, ...]
    limits: tuple[LimitForecast, ...]
    bands: tuple[BandForecast, ...]
    work: tuple[WorkForecast, ...]
    exact_to_s: float = 0.0
