"""
Find the end of a rate limit window from responses that report whole seconds until the reset. Pure.

If the last response of a burst that took 1.7 s of a 10 s window reports 9, its face value puts the next window at
10.7 s. But the end is the same for all responses of one window, and each of them bounds it:

- A server that rounds up reports t to a request that arrives at r if the end is in (r + t - 1, r + t]. A server that
  rounds to the nearest second shifts that span by half a second, one that rounds down by a whole second. The request
  arrives between sending and response, so the end is at most 0, 1/2 or 1 s after the earliest `answered + t`.
- The rounding shows itself: a new window has begun earlier than one way of rounding allows, or the old one goes on
  later than another allows, or a full window is reported some time after the window was first observed.
- Until it does, the last request of a budget is reserved for the earliest possible end. It is either the first request
  of the new window or the last one of the old window. Budgets too small for that are taken at face value.

The end of a token bucket or of a sliding log moves, so its reset is taken at face value, plus a second if the server
has reported 0 requests for 0 s: it rounds down.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from scrapeq.responses.observation import Reported

WORTH_S = 120.0  # in a longer window, a second is less than 1 % and not worth the effort
WORTH_REQUESTS = 2.0  # requests per second of the window above which one request may be reserved
_TICK_S = 1.0  # servers report multiples of this
# The longest time from the earliest `answered + t` to the end: rounded up, to the nearest second, down.
_LATE_S = (0.0, 0.5, 1.0)
_SHORT_S = 2.0  # shorter countdowns do not show which window they belong to


@dataclass(slots=True)
class ResetCountdown:
    """The window of one limit as one process observes it; times are monotonic seconds."""

    late_s: tuple[float, ...] = _LATE_S  # the ways of rounding that are still possible
    moves: bool = False  # the end moves, so this is not a fixed window
    rounds_down: bool = False  # observed: 0 requests left for 0 seconds
    first_s: float = 0.0  # first response of this window
    after_s: float = -math.inf  # the end is later than this, if the server rounds up
    until_s: float = -math.inf  # and not later than this
    least: float = math.inf  # lowest remaining budget in this window
    least_s: float = 0.0  # when that was reported
    size: float = 0.0
    longest_s: float = 0.0

    def read(self, reported: Reported, sent_s: float, received_s: float) -> Reported:
        """Return the budget with a corrected reset; arguments as in `ServerClocks.read`."""
        self.size = max(self.size, reported.limit or 0.0, reported.remaining)
        self.longest_s = max(self.longest_s, reported.reset_s)
        self.rounds_down = self.rounds_down or not (reported.remaining or reported.reset_s)
        if self.longest_s < _SHORT_S or self.moves:
            return self._at_face_value(reported)
        after_s, until_s = sent_s + reported.reset_s - _TICK_S, received_s + reported.reset_s
        if after_s >= self.until_s:  # a later end: the former window is over
            self.moves = received_s < self.after_s  # it cannot be over yet
            self._restrict([late_s for late_s in self.late_s if self.after_s + late_s < received_s])
            self.first_s, self.after_s, self.until_s, self.least = received_s, after_s, until_s, math.inf
        elif until_s <= self.after_s:
            return reported  # overtaken by responses of a later window
        elif sent_s >= self.least_s and reported.remaining >= max(self.least, 1):
            self.moves = True  # the budget rose within the window
        if self.moves:
            return self._at_face_value(reported)
        if reported.remaining < self.least:
            self.least, self.least_s = reported.remaining, received_s
        self.after_s, self.until_s = max(self.after_s, after_s), min(self.until_s, until_s)
        ends_by_s = math.inf if reported.window_s is None else self.first_s + reported.window_s
        self._restrict(
            [late for late in self.late_s if self.after_s + late < ends_by_s and self.until_s + late > sent_s]
        )
        return self._at_face_value(reported) if self.moves else self._with_end(reported, received_s)

    def _at_face_value(self, reported: Reported) -> Reported:
        return (
            reported
            if reported.remaining or not self.rounds_down
            else replace(reported, reset_s=reported.reset_s + _TICK_S)
        )

    def _restrict(self, late_s: list[float]) -> None:
        """Restrict the ways of rounding to those that agree with all reports."""
        self.late_s = tuple(late_s)
        if not late_s:  # a fixed window cannot do that
            self.moves = True

    def _with_end(self, reported: Reported, received_s: float) -> Reported:
        early_s, late_s = self.until_s + self.late_s[0], self.until_s + self.late_s[-1]
        if len(self.late_s) > 1:
            if self.size < WORTH_REQUESTS * self.longest_s:
                return (
                    reported
                    if self.late_s[0] == 0
                    else replace(reported, reset_s=max(0.0, late_s - received_s))
                )
            if reported.remaining and received_s < early_s:
                return replace(reported, remaining=reported.remaining - 1, reset_s=early_s - received_s)
        return replace(reported, reset_s=max(0.0, late_s - received_s))
