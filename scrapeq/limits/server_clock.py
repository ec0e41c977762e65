"""
Find the end of a rate limit window whose reset is reported as a Unix time in whole seconds. Pure.

Taken at face value (reset minus Date), both roundings add up to two seconds, which leaves a window of ten used to 91 %.
Two observations narrow that down without costing a refusal:

- Each response bounds the server's clock: a Date of D that arrives at t means that the clock showed D or later at t.
  The highest of these bounds is exact to the fastest response.
- A window starts with a request and lasts whole seconds, so it ends whole seconds after its first response at the
  latest. One such moment lies in the second before the reported reset (the end for servers that round up), one in the
  second after it (the end, at the latest, for servers that round down or not at all). The last request of a budget is
  reserved for the first of them: if the server has started a new window, it opens that; if not, it is the last one of
  the old window, and the rest wait for the second moment.

Reserving one request may waste it, so this is done only where one second of the window is worth more.

`reset_countdown` does the same for resets reported as seconds to wait.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from scrapeq.limits.reset_countdown import WORTH_REQUESTS, WORTH_S, ResetCountdown
from scrapeq.responses.observation import Reported

EMPTY_LEAST_S = (
    0.2  # an empty budget stays empty this long, so that a limit that refills one by one has several
)
MAX_CLOCKS = 10_000
_TICK_S = 1.0  # servers report multiples of this
_EXACT_TO_S = 1e-3  # differences below this are rounding errors
_UNBOUND = -math.inf


@dataclass(slots=True)
class _Clock:
    ahead_s: float = _UNBOUND  # lower bound of the server's clock minus the local clock
    reset_at: float = 0.0
    first_s: float = 0.0  # first response that reported this reset
    window_s: float = 0.0
    size: float = 0.0
    rounds_up: bool = False  # observed: a new window began before the reported second


class ServerClocks:
    """The server clocks that one process has observed. Not stored: a few responses show them again."""

    def __init__(self) -> None:
        self._clocks: dict[str, _Clock] = {}
        self._countdowns: dict[str, ResetCountdown] = {}

    def read(self, limit: str, reported: Reported, sent_s: float, received_s: float) -> Reported:
        """
        Return a budget with its reset as exact as it can be known.

        Args:
            limit: The limit instance of the budget.
            reported: The budget as the response reported it.
            sent_s: When the request was sent, monotonic seconds.
            answered_s: When the response arrived; `reset_s` counts from then.
        """
        if reported.reset_s > WORTH_S:
            return reported
        read = self._read(limit, reported, sent_s, received_s)
        if read.remaining or read.reset_s >= EMPTY_LEAST_S:
            return read
        return replace(read, reset_s=EMPTY_LEAST_S)

    def _read(self, limit: str, reported: Reported, sent_s: float, received_s: float) -> Reported:
        if reported.reset_at is None or reported.server_s is None:
            return self._read_countdown(limit, reported, sent_s, received_s)
        clock = self._clocks.get(limit)
        # The server's clock showed D to D + 1 after the request left; less than the known bound means another clock.
        if clock is None or reported.server_s + _TICK_S - sent_s < clock.ahead_s:
            if len(self._clocks) >= MAX_CLOCKS:
                self._clocks.pop(next(iter(self._clocks)))
            clock = self._clocks[limit] = _Clock()
        clock.ahead_s = max(clock.ahead_s, reported.server_s - received_s)
        reported_s = reported.reset_at - clock.ahead_s  # latest time by the local clock
        if reported.reset_at % _TICK_S:  # only the Date was rounded
            return replace(reported, reset_s=max(0.0, reported_s - received_s))
        if reported.reset_at > clock.reset_at:
            clock.rounds_up = clock.rounds_up or reported.server_s < clock.reset_at
            clock.reset_at, clock.first_s = reported.reset_at, received_s
            clock.window_s = max(reported_s - received_s, _TICK_S)
        clock.size = max(clock.size, reported.limit or 0.0, reported.remaining)
        if clock.size < WORTH_REQUESTS * clock.window_s:
            return reported
        early_s = clock.first_s + math.floor(reported_s - clock.first_s + _EXACT_TO_S)
        late_s = early_s + _TICK_S
        if reported.remaining and received_s < early_s:
            return replace(reported, remaining=reported.remaining - 1, reset_s=early_s - received_s)
        ends_s = min(late_s, reported_s) if clock.rounds_up else late_s
        return replace(reported, reset_s=max(0.0, ends_s - received_s))

    def _read_countdown(self, limit: str, reported: Reported, sent_s: float, received_s: float) -> Reported:
        if reported.reset_s % _TICK_S:
            return reported
        countdown = self._countdowns.get(limit)
        if countdown is None:
            if len(self._countdowns) >= MAX_CLOCKS:
                self._countdowns.pop(next(iter(self._countdowns)))
            countdown = self._countdowns[limit] = ResetCountdown()
        return countdown.read(reported, sent_s, received_s)
