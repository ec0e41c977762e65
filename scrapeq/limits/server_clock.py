"""
When a window ends whose reset is told in whole seconds. Pure.

As a Unix time, on a clock that is told in whole seconds too: read as they stand (reset minus Date), both roundings add
up to two seconds; a window of ten is then used to 91 %. Two things narrow that down, and neither costs a refusal:

- Each answer bounds the server's clock: a Date of D that is here at t says that it was D or later at t. The highest
  of these bounds is exact to the shortest way of an answer.
- A window begins with a request and lasts whole seconds, so it ends whole seconds after its first answer, at the
  latest. Of such moments one lies in the second before the told one (servers that round up end there) and one in
  the second after it (servers that round down, or not at all, end there or before). The last request of a budget is
  kept for the first of them: if the server has begun a new window it opens that, if not it is the old window's
  last, and the rest wait for the second.

Keeping one request may waste it, so this is done only where a second of the window is worth more than that.

As seconds to go: `to_go`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from scrapeq.limits.reset_countdown import WORTH_REQUESTS, WORTH_S, ResetCountdown
from scrapeq.responses.observation import Reported

EMPTY_LEAST_S = 0.2  # what is empty stays so: where it fills one by one, several are there at once then
MAX_CLOCKS = 10_000
_TICK_S = 1.0  # what the times are rounded to
_EXACT_TO_S = 1e-3  # doubles hold Unix times to less than a microsecond
_UNBOUND = -math.inf


@dataclass(slots=True)
class _Clock:
    ahead_s: float = _UNBOUND  # the server's clock minus ours, at least
    reset_at: float = 0.0
    first_s: float = 0.0  # the first answer that told this reset
    window_s: float = 0.0
    size: float = 0.0
    rounds_up: bool = False  # seen: a new window had begun before the told second


class ServerClocks:
    """What one process knows of the clocks behind its limits; forgotten with it, for a few answers tell it anew."""

    def __init__(self) -> None:
        self._clocks: dict[str, _Clock] = {}
        self._countdowns: dict[str, ResetCountdown] = {}

    def read(self, limit: str, reported: Reported, sent_s: float, answered_s: float) -> Reported:
        """
        A budget with its reset as exact as can be told.

        Args:
            limit: The limit instance that it is of.
            told: As the answer said it.
            sent_s: When its request was sent, monotonic seconds.
            answered_s: When it was here; `reset_s` counts from then.
        """
        if reported.reset_s > WORTH_S:
            return reported
        read = self._read(limit, reported, sent_s, answered_s)
        if read.remaining or read.reset_s >= EMPTY_LEAST_S:
            return read
        return replace(read, reset_s=EMPTY_LEAST_S)

    def _read(self, limit: str, reported: Reported, sent_s: float, answered_s: float) -> Reported:
        if reported.reset_at is None or reported.server_s is None:
            return self._to_go(limit, reported, sent_s, answered_s)
        clock = self._clocks.get(limit)
        # it was D to D + 1 at some time since the request left: less than was known before is another clock
        if clock is None or reported.server_s + _TICK_S - sent_s < clock.ahead_s:
            if len(self._clocks) >= MAX_CLOCKS:
                self._clocks.pop(next(iter(self._clocks)))
            clock = self._clocks[limit] = _Clock()
        clock.ahead_s = max(clock.ahead_s, reported.server_s - answered_s)
        reported_s = reported.reset_at - clock.ahead_s  # by our clock, at the latest
        if reported.reset_at % _TICK_S:  # nothing was rounded off but of the Date
            return replace(reported, reset_s=max(0.0, reported_s - answered_s))
        if reported.reset_at > clock.reset_at:
            clock.rounds_up = clock.rounds_up or reported.server_s < clock.reset_at
            clock.reset_at, clock.first_s = reported.reset_at, answered_s
            clock.window_s = max(reported_s - answered_s, _TICK_S)
        clock.size = max(clock.size, reported.limit or 0.0, reported.remaining)
        if clock.size < WORTH_REQUESTS * clock.window_s:
            return reported
        early_s = clock.first_s + math.floor(reported_s - clock.first_s + _EXACT_TO_S)
        late_s = early_s + _TICK_S
        if reported.remaining and answered_s < early_s:
            return replace(reported, remaining=reported.remaining - 1, reset_s=early_s - answered_s)
        ends_s = min(late_s, reported_s) if clock.rounds_up else late_s
        return replace(reported, reset_s=max(0.0, ends_s - answered_s))

    def _to_go(self, limit: str, reported: Reported, sent_s: float, answered_s: float) -> Reported:
        if reported.reset_s % _TICK_S:
            return reported
        countdown = self._countdowns.get(limit)
        if countdown is None:
            if len(self._countdowns) >= MAX_CLOCKS:
                self._countdowns.pop(next(iter(self._countdowns)))
            countdown = self._countdowns[limit] = ResetCountdown()
        return countdown.read(reported, sent_s, answered_s)
