"""A limit instance in a simulation: the engine's, and when it opens by itself. Pure; microseconds."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, field

from scrapeq.limit import Limit
from scrapeq.limits.engine import PACE_TOLERANCE_US, US, LimitModel

NEVER = math.inf
FARTHEST_US = 1000 * 86_400 * US  # beyond it nothing is looked for
SEARCH_STEP_US = US
SEARCH_TO_US = 1000


@dataclass
class SimulatedLimit(LimitModel):
    """
    The engine's limit, with stamps that are counted once: time only goes on here.

    `own` is a definition of this instance alone, such as what was learned of it.
    """

    own: Limit | None = None
    stamps: dict[int, deque[tuple[float, float]]] = field(default_factory=dict)
    totals: dict[int, float] = field(default_factory=dict)

    @property
    def rules(self) -> Limit:
        """Its definition."""
        return self.own or super().rules

    def used(self, i: int, now: float) -> float:
        window = self.rates[i].interval_s * US
        total = self.totals.get(i, 0.0)
        for at, weight in self.stamps.get(i, ()):
            if at + window > now:
                break
            total -= weight
        return total

    def _stamp(self, i: int, now: float, at: float, weight: float, window: float) -> None:
        stamps = self.stamps.setdefault(i, deque())
        while stamps and stamps[0][0] + window <= now:
            self.totals[i] -= stamps.popleft()[1]
        stamps.append((max(at, stamps[-1][0]) if stamps else at, weight))
        self.totals[i] = self.totals.get(i, 0.0) + weight


def opens_at(model: SimulatedLimit, now: float, weight: float, priority: float = math.inf) -> float:
    """The time from which it grants this weight; `now` = it does, NEVER = only an answer or a person opens it."""
    if model.grants(now, weight, priority):
        return now
    remaining, probation = model.known(now)
    if model.paused or (probation and model.probe):
        return NEVER
    keep = model.rules.reserve.kept(priority, now) if model.rules.reserve else 0.0
    at = max(now, model.parked_until, model.probe_after if probation else 0)
    if remaining is not None and remaining - model.in_flight - keep * model.most_told < weight:
        at = max(at, model.reset_at)
    for i, rate in enumerate(model.rates):
        if rate.aligned_s is not None:
            if model.in_flight + model.in_window(i, now) + weight > rate.limit * (1 - keep):
                at = max(at, rate.window_end(now))
        else:
            at = max(at, _paced(model, i, now, weight, keep), _freed(model, i, now, weight, keep))
    if at < NEVER:
        at = math.ceil(at)
        for moment in (at, at + 1):
            if model.grants(moment, weight, priority):
                return moment
    return NEVER if model.in_flight else _searched(model, now, weight, priority)


def _paced(model: SimulatedLimit, i: int, now: float, weight: float, keep: float) -> float:
    rate = model.rates[i]
    period = rate.interval_s * US / rate.limit
    spare = rate.burst - min(weight, rate.burst) - keep * rate.burst
    early = spare * period if rate.burst else min(period, PACE_TOLERANCE_US)
    paced_to, began = model.paced_to.get(i, 0.0), model.began.get(i, 0.0)
    if began and paced_to > now and paced_to - early > began:
        return paced_to
    return paced_to - early


def _freed(model: SimulatedLimit, i: int, now: float, weight: float, keep: float) -> float:
    """When enough answers have left the window."""
    rate = model.rates[i]
    if rate.burst:
        return now
    window, most = rate.interval_s * US, rate.limit * (1 - keep)
    taken = model.in_flight + model.used(i, now)
    for at, w in model.stamps.get(i, ()):
        if not taken or taken + weight <= most:
            break
        if at + window > now:
            taken, now = taken - w, at + window
    return now if not taken or taken + weight <= most else NEVER


def _searched(model: SimulatedLimit, now: float, weight: float, priority: float) -> float:
    """By asking the limit itself, where nothing is in flight that could change its mind."""
    closed, step = now, float(SEARCH_STEP_US)
    while not model.grants(closed + step, weight, priority):
        closed, step = closed + step, step * 2
        if step > FARTHEST_US:
            return NEVER
    opened = closed + step
    while opened - closed > SEARCH_TO_US:
        middle = (closed + opened) / 2
        if model.grants(middle, weight, priority):
            opened = middle
        else:
            closed = middle
    return math.ceil(opened)
