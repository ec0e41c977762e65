"""
When a window ends of which each answer says how many whole seconds are to go. Pure.

The last answer of a burst that took 1.7 s of a window of ten says 9, and read as it stands the next window begins at
10.7 s. But each answer bounds the end, and within one window it is the same one:

- A server that rounds up says t to a request that reaches it at r where the end is in (r + t - 1, r + t]; one that
  rounds to the nearest, in that span half a second later; one that cuts off, a whole second later. r lies between
  sending and answer. So the end is not after the earliest `answered + t` of the window, plus 0, 1/2 or 1 s.
- Which of these it is, is seen: a new window that has begun before one of them allows, or an old one that goes on
  after it, or a full window to go some time after the window was seen first.
- Until it is seen, the last request of a budget is kept for the earliest end: it is the first of the new window, or
  the old one's last. Where too few are told to keep one, what is told is taken as it stands.

The end of a bucket, or of a log of requests, moves; what is told of it is taken as it stands, and a second longer where
the server has said that nothing is left for 0 s: it cuts off.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from scrapeq.responses.observation import Reported

WORTH_S = 120.0  # a longer window is not worth the care: a second is less than a hundredth of it
WORTH_REQUESTS = 2.0  # a window's requests a second from which on the last one may be kept
_TICK_S = 1.0  # what the times are rounded to
_LATE_S = (
    0.0,
    0.5,
    1.0,
)  # the end after the earliest `answered + t`, at most: rounded up, to the nearest, down
_SHORT_S = 2.0  # of shorter times to go, one window's cannot be told from the next one's


@dataclass(slots=True)
class ResetCountdown:
    """One limit's, as one process hears it; monotonic seconds. `late_s`: of `_LATE_S`, what may be so."""

    late_s: tuple[float, ...] = _LATE_S
    moves: bool = False  # its end is not that of a window
    cuts: bool = False  # seen: nothing left, for no second more
    first_s: float = 0.0  # this window's first answer
    after_s: float = -math.inf  # the end is later than this, if rounded up
    until_s: float = -math.inf  # and not later than this
    least: float = math.inf  # remaining in this window
    least_s: float = 0.0  # when that was here
    size: float = 0.0
    longest_s: float = 0.0

    def read(self, reported: Reported, sent_s: float, answered_s: float) -> Reported:
        """The budget with the end of its window; arguments as in `ServerClocks.read`."""
        self.size = max(self.size, reported.limit or 0.0, reported.remaining)
        self.longest_s = max(self.longest_s, reported.reset_s)
        self.cuts = self.cuts or not (reported.remaining or reported.reset_s)
        if self.longest_s < _SHORT_S or self.moves:
            return self._as_it_stands(reported)
        after_s, until_s = sent_s + reported.reset_s - _TICK_S, answered_s + reported.reset_s
        if after_s >= self.until_s:  # a later end: the former one is over
            self.moves = answered_s < self.after_s  # before it can be over
            self._keep([late_s for late_s in self.late_s if self.after_s + late_s < answered_s])
            self.first_s, self.after_s, self.until_s, self.least = answered_s, after_s, until_s, math.inf
        elif until_s <= self.after_s:
            return reported  # of a window that is over: overtaken
        elif sent_s >= self.least_s and reported.remaining >= max(self.least, 1):
            self.moves = True  # it was filled up, in the same window
        if self.moves:
            return self._as_it_stands(reported)
        if reported.remaining < self.least:
            self.least, self.least_s = reported.remaining, answered_s
        self.after_s, self.until_s = max(self.after_s, after_s), min(self.until_s, until_s)
        ends_by_s = math.inf if reported.window_s is None else self.first_s + reported.window_s
        self._keep(
            [late for late in self.late_s if self.after_s + late < ends_by_s and self.until_s + late > sent_s]
        )
        return self._as_it_stands(reported) if self.moves else self._with_end(reported, answered_s)

    def _as_it_stands(self, reported: Reported) -> Reported:
        return (
            reported
            if reported.remaining or not self.cuts
            else replace(reported, reset_s=reported.reset_s + _TICK_S)
        )

    def _keep(self, late_s: list[float]) -> None:
        """The ways of rounding that agree with all that was told."""
        self.late_s = tuple(late_s)
        if not late_s:  # no window of one server does that
            self.moves = True

    def _with_end(self, reported: Reported, answered_s: float) -> Reported:
        early_s, late_s = self.until_s + self.late_s[0], self.until_s + self.late_s[-1]
        if len(self.late_s) > 1:
            if self.size < WORTH_REQUESTS * self.longest_s:
                return (
                    reported
                    if self.late_s[0] == 0
                    else replace(reported, reset_s=max(0.0, late_s - answered_s))
                )
            if reported.remaining and answered_s < early_s:
                return replace(reported, remaining=reported.remaining - 1, reset_s=early_s - answered_s)
        return replace(reported, reset_s=max(0.0, late_s - answered_s))
