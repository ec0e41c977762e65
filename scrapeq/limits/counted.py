"""
The engine's limit where time only goes on and definitions stay: what it knows is looked up once. Pure; microseconds.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

from scrapeq.limit import Limit
from scrapeq.limits.engine import US, LimitModel

PRUNED = 64  # stamps that have left the window are dropped so many at once


@dataclass
class CountedLimit(LimitModel):
    """Grants what the plain one grants; what a look costs does not grow with the answers in the window."""

    heads: dict[int, int] = field(
        default_factory=dict
    )  # the first stamp that is in the window, by the rate's place
    totals: dict[int, float] = field(default_factory=dict)  # weight from there on

    @cached_property
    def rules(self) -> Limit:
        """Its definition."""
        return super().rules

    def used(self, i: int, now: float) -> float:
        stamps, window = self.answered.get(i), self.rates[i].interval_s * US
        if not stamps:
            return 0.0
        head = self.heads.get(i, 0)
        while head < len(stamps) and stamps[head][0] + window <= now:
            self.totals[i] -= stamps[head][1]
            head += 1
        if head == len(stamps):
            self.totals[i] = 0.0  # sums of parts are not exact
        if head >= PRUNED:
            del stamps[:head]
            head = 0
        self.heads[i] = head
        return self.totals[i]

    def _stamp(self, i: int, now: float, at: float, weight: float, window: float) -> None:
        stamps = self.answered.setdefault(i, [])
        stamps.append((max(at, stamps[-1][0]) if stamps else at, weight))
        self.totals[i] = self.totals.get(i, 0.0) + weight

    def _new_window(self) -> None:
        super()._new_window()
        self.heads.pop(0, None)
        self.totals.pop(0, None)
