"""The limit engine for monotonic time and fixed definitions: it keeps running totals instead of summing responses."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, field
from functools import cached_property

from scrapeq.limit import Limit, Rate
from scrapeq.limits.engine import US, LimitModel

NEVER = math.inf


@dataclass
class FastLimit(LimitModel):
    """
    Grants what `LimitModel` grants, at a cost that does not grow with the responses in the window.

    Calls that change the state must come in the order of time; `grants`, `closed_until` and `opens_at` may look ahead.
    All times are in microseconds.
    """

    totals: dict[int, float] = field(default_factory=dict)  # weight of `responses`, by the rate's index

    @cached_property
    def definition(self) -> Limit:
        """The definition of this instance; assign another one to replace it."""
        return super().definition

    def refresh(self, now: float) -> None:
        """Bring the stored state up to date, and drop the responses that have left their windows."""
        super().refresh(now)
        for i, rate in enumerate(self.rates):
            responses = self.responses.get(i)
            while responses and responses[0][0] + rate.interval_s * US <= now:
                self.totals[i] -= responses.popleft()[1]
            if responses is not None and not responses:
                self.totals[i] = 0.0  # discard the rounding errors of fractional weights

    def used(self, i: int, now: float) -> float:
        """Return the weight of the responses in the window of rate i that ends now."""
        window, total = self.rates[i].interval_s * US, self.totals.get(i, 0.0)
        for at, weight in self.responses.get(i, ()):
            if at + window > now:
                return total
            total -= weight
        return 0.0

    def add_response(self, i: int, now: float, at: float, weight: float, window: float) -> None:
        """Count a response for one window (us) of rate i, but no shorter than the responses reported before it."""
        responses = self.responses.setdefault(i, deque())
        responses.append((max(at, responses[-1][0]) if responses else at, weight))
        self.totals[i] = self.totals.get(i, 0.0) + weight

    def _forget_responses(self) -> None:
        super()._forget_responses()
        self.totals.pop(0, None)

    def opens_at(self, now: float, weight: float, priority: float = math.inf) -> float:
        """Return the first time at which it grants this weight by itself; NEVER: only a response or a user opens it."""
        at = now
        while (until := self.closed_until(at, weight, priority)) is not None:
            withheld = self.definition.reserve.withheld(priority, at) if self.definition.reserve else 0.0
            freed = [self._freed_at(i, rate, at, weight, withheld) for i, rate in enumerate(self.rates)]
            at = max([until, *freed])
            if at == NEVER:
                return NEVER
            at = math.ceil(at)
        return at

    def _freed_at(self, i: int, rate: Rate, now: float, weight: float, withheld: float) -> float:
        """Return when enough responses have left the window of rate i; NEVER if the requests in flight fill it."""
        room = rate.limit * (1 - withheld) - weight
        if rate.aligned_s is not None:
            return NEVER if 0 < self.in_flight > room else now
        taken, window = self.in_flight + self.used(i, now), rate.interval_s * US
        for at, freed in self.responses.get(i, ()) if rate.has_slots else ():
            if not taken or taken <= room:
                break
            if at + window > now:
                taken, now = taken - freed, at + window
        return NEVER if rate.has_slots and 0 < taken > room else now
