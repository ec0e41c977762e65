"""The result of a simulation. Times are seconds from its start."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class LimitForecast:
    """
    The forecast of one limit instance.

    Args:
        name: The instance.
        requests: Requests sent under it.
        first_s, last_s: When the first and the last of them were granted.
        closed_s: When it first held a request back; None: never.
        held_s: How long requests waited for it.
        share: Share of its quota that is used between the first and the last grant; None: without a rate.
        waiting: Requests that still wait because it never opens for them.
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
    """Requests of neighboring priorities, and when the last of them gets its response; None: never."""

    highest: float
    lowest: float
    requests: int
    done_s: float | None


@dataclass(frozen=True, slots=True)
class WorkForecast:
    """The work with one label: its requests, the first grant and the last response; None: never."""

    label: str
    requests: int
    first_s: float | None
    done_s: float | None


@dataclass(frozen=True, slots=True)
class Forecast:
    """
    The forecast of all work.

    Args:
        requests: All requests.
        left: Requests without a response, because a limit never opens or the horizon is reached first.
        done_s: When the last response arrives.
        tenths_s: When each tenth of the requests has its responses, without the tenths that never get them.
        limits: The limits, in descending order of the time that they hold requests back.
        bands: The requests in bands of priority, the highest first; at most ten.
        work: The work by label, in the given order.
        exact_to_s: The largest error of a time, because requests are simulated in lots.
    """

    requests: int
    left: int
    done_s: float
    tenths_s: tuple[float, ...]
    limits: tuple[LimitForecast, ...]
    bands: tuple[BandForecast, ...]
    work: tuple[WorkForecast, ...]
    exact_to_s: float = 0.0
