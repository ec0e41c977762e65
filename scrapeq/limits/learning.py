"""
The learner of an undeclared limit: how many requests the server accepts in which window.

It starts slowly until the first refusal. That refusal, and the response that ends its park, give a first size and
window. From then on the limit is paced like a configured one, lowered by what refusals show, and tried a little higher
after a few calm windows. `docs/explanation/limits.md` explains why. The queue's scripts do the same
(`include/learn.lua`).

Pure; all times are in microseconds.
"""

from __future__ import annotations

from dataclasses import dataclass

from scrapeq.limit import UNPACED, Rate

S = 1_000_000
START_IN_FLIGHT = 2  # the most requests in flight before a rate is known, after the first response
GROWTH = 256  # responses that allow one more in flight: a first refusal then hits about 1 % of them
IDLE_US = 10 * S  # a longer pause does not count as sending time
STEPS = (1.05, 1.2, 1.5, 2.0)  # factors of consecutive successful trials, each bolder than the last
NEAR = 1.01  # bounds this close to each other are equal
WIDE = 1.04  # bounds further apart are worth a trial after one calm window
CALM_WINDOWS, CALM_US = (
    7,
    40 * S,
)  # before a trial that is likely to be refused: this many windows, at least this long
TRIAL_US = (
    5 * S
)  # a trial takes one window, and at least this long: a bucket's tokens hide a rate that is too high
COARSE = 20  # fewer requests in an uncommon window are scaled up to this many
LOWER, LOWER_MAX = (
    0.02,
    0.25,
)  # share taken off after a refusal that shows no size; doubled after each further one
OTHER_WINDOW = 1.25  # a refusal that implies a window longer by this factor shows another window
COST_TIMES = 12  # the next trial waits this many times as long as the last refused one closed the limit
OUTAGE = (
    2  # consecutive refused probes after which the whole server is closed, which says nothing about the limit
)
FRESH = 1.5  # windows after a reopening in which all requests since then count against one window
LATE_US = 250_000  # a window that differs from the known one by less is the same
TRAVEL, TRAVEL_US = 1.5, 10_000  # share of the round trip, plus a constant, by which a window may seem longer
SOON_US = 500_000  # a refused probe with a shorter wait does not know when the limit opens
FAST = 0.7  # share of a window: a quota spent sooner was spent at once
SHOWN_BURST = 0.5  # share of a window: a first refusal sooner than this suggests that bursts are allowed
FULL = 0.9  # share of the limit that a refused burst must have reached to say anything about its size
LEAST, LEAST_WINDOW_US = 0.1, 10_000  # the smallest limit (requests) and window
WINDOWS_S = (
    *(60, 1, 10, 3600, 86400, 30, 5, 300, 900, 15, 20, 2, 3, 600, 1800, 120),
    *(6, 12, 4, 43200, 21600, 7200),
)  # the windows of real APIs, the most common first

PACED, TRYING, AT_ONCE = (
    -1,
    1,
    2,
)  # whether the whole quota may be spent at once: no, being tried, yes; 0: not tried
REPORTED, GUESSED = 1, 2  # how the end of a pending window estimate is known
LEARNED, DECLARED = 1, 2  # the source of the limit: refusals, or a response that stated it


def rounding_us(wait: float) -> float:
    """Return by how much a stated wait may be too long: servers round to whole seconds."""
    return S if wait % S == 0 else 0


def likely_window(known: float, least: float, most: float, end: int, rounding: float) -> float:
    """
    Return the window (us) between two bounds: the known one, else the most common one, else the upper bound.

    A reported end may be late by `rounding`.
    """
    least = max(least, most - rounding) if end == REPORTED else least
    if known and least - LATE_US < known <= most + LATE_US:
        return known
    return next((w * S for w in WINDOWS_S if least < w * S <= most), most)


@dataclass
class Learned:
    """What is learned about one limit instance. A phase is a time in which the limit in force did not change."""

    limit: float = 0  # requests in a window; 0: unknown
    window: float = 0
    trial: float = 0  # the limit being tried; 0: none
    refused_limit: float = 0  # the lowest limit known to be refused; 0: none
    phase_start: float = 0
    accepted: float = 0  # weight of the successful responses to requests granted in this phase
    step: int = 0  # consecutive successful trials; negative: consecutive refusals
    reopened: bool = True  # the phase began with an empty or reopened limit, and so did the server's window
    pending: int = (
        0  # a window estimate waits for the response that ends its park: REPORTED or GUESSED; 0: none
    )
    shortest_window: float = 0  # lower bound of the pending estimate
    window_ends: float = 0  # the end of that window, as reported
    rounding: float = 0
    source: int = 0
    limit_before_refusals: float = 0  # restored if the refusals turn out to be an outage; 0: no refusals now
    pacing: int = 0
    refused_trial_wait: float = 0  # how long the last refused trial closed the limit

    @property
    def rate(self) -> Rate | None:
        """The rate in force; None: unknown."""
        if not self.limit:
            return None
        burst = UNPACED if self.pacing > 0 and not self.trial else 0
        return Rate(self.trial or self.limit, self.window / S, burst)

    @property
    def in_flight_max(self) -> int:
        """The most requests in flight while the rate is unknown."""
        return START_IN_FLIGHT + int(self.accepted // GROWTH)

    def record_grant(self, now: float, last_grant: float, is_alone: bool) -> None:
        """A request is granted; `is_alone`: none is in flight. Leave long pauses out of an unknown limit's phase."""
        if self.limit or self.pending:
            return
        if not self.phase_start:
            self.phase_start = now
        elif is_alone and now - last_grant > IDLE_US:
            self.phase_start += now - last_grant

    def record_success(self, now: float, granted: float, weight: float, is_open: bool) -> None:
        """A response other than a refusal arrived. `is_open`: the limit is neither parked nor on probation."""
        if granted < self.phase_start:
            return
        self.accepted += weight
        if self.pacing == TRYING and self.accepted >= self.limit * FULL:
            self.pacing = AT_ONCE if now - self.phase_start <= self.window * FAST else PACED
        if self.limit and is_open and not self.pending:
            self._advance(now)

    def _start_phase(self, now: float, *, reopened: bool) -> None:
        self.phase_start, self.accepted, self.reopened = now, 0, reopened

    def _calm_requests(self) -> float:
        """Return how many requests must succeed before the next trial."""
        if not self.refused_limit or self.refused_limit > self.limit * WIDE:
            return self.limit
        calm_us = max(CALM_US, COST_TIMES * self.refused_trial_wait)
        return self.limit * max(CALM_WINDOWS, calm_us / self.window)

    def _advance(self, now: float) -> None:
        """End a trial that succeeded, or start the next one, once enough requests have succeeded."""
        if self.trial:
            if self.accepted < self.trial * max(1.0, TRIAL_US / self.window):
                return
            self.limit, self.trial, self.step, self.source = self.trial, 0, self.step + 1, LEARNED
            if self.refused_limit > self.limit * WIDE:
                self._start_phase(now, reopened=False)
                return
            self.refused_limit = 0
        elif self.source == DECLARED or self.accepted < self._calm_requests():
            return
        if self.refused_limit > self.limit * WIDE:
            self.trial = (self.limit + self.refused_limit) / 2
        elif self.refused_limit > self.limit * NEAR:
            self.trial = self.refused_limit
        else:
            self.trial = self.limit * STEPS[min(max(self.step, 0), len(STEPS) - 1)]
        self._start_phase(now, reopened=False)

    def record_refusal(
        self,
        granted: float,
        at: float,
        until: float,
        guessed: bool,
        in_window: float,
        consecutive_refusals: int,
    ) -> None:
        """
        Learn from a refusal. The caller counts simultaneous refusals as one.

        Args:
            granted: When the refused request was granted.
            at: When the refusal arrived.
            until: When the limit opens.
            guessed: The server did not state `until`.
            in_window: Weight of the responses in the window that ends at `until`.
            consecutive_refusals: Refusals before this one since the last success.
        """
        end = GUESSED if guessed else REPORTED
        late = (at - granted) * TRAVEL + TRAVEL_US
        if consecutive_refusals:  # the probe was refused
            if consecutive_refusals >= OUTAGE and self.limit and not guessed:
                self.pending = 0
                if self.limit_before_refusals:
                    self.limit, self.limit_before_refusals = self.limit_before_refusals, 0
                    self.refused_limit = self.limit * NEAR
            elif self.pending:
                self.shortest_window = max(self.shortest_window, at - self.phase_start - late)
                self.window_ends, self.pending = until, GUESSED if until - at < SOON_US else end
                self.rounding = late + rounding_us(until - at)
            return
        if self.pacing > 0 and not self.trial:
            tried, self.pacing = self.pacing == TRYING, PACED
            if tried and self.accepted < self.limit * FULL:
                return  # only the burst was refused; its size is still unknown
        longer = not guessed and until - at > self.window * OTHER_WINDOW + S
        fresh = self.reopened and at - self.phase_start <= self.window * FRESH
        if not self.limit or ((fresh or longer) and not self.trial):
            self.pending, self.shortest_window, self.window_ends = end, at - self.phase_start - late, until
        elif self.trial:
            shown = (self.limit + self.trial) / 2 if guessed else in_window
            self.refused_trial_wait, self.limit_before_refusals = until - at, self.limit
            self.limit = min(self.limit, max(shown, self.limit * (1 - LOWER_MAX)))
            self.refused_limit = min(max(shown, self.limit * NEAR), self.trial)
            self.trial, self.step = 0, 0
            return
        else:
            shown = self.limit if guessed else max(in_window, self.limit * (1 - LOWER_MAX))
            self._lower(shown, self.limit, shown=not guessed)
        self.rounding = late + rounding_us(until - at)

    def _lower(self, to: float, limit: float, *, shown: bool) -> None:
        """Lower a refused `limit`, at most to `to`; `shown`: the refusal showed that `to` would have been accepted."""
        self.step = min(self.step, 0) - 1
        self.limit_before_refusals = self.limit_before_refusals or limit
        less = min(LOWER * 2.0 ** min(-self.step - 1, 4), LOWER_MAX)
        self.limit = max(LEAST, min(to, limit * (1 - less)))
        self.refused_limit = self.limit * NEAR if shown else limit
        self.source = LEARNED

    def record_probe_success(self, now: float, granted: float, weight: float) -> bool:
        """Use the probe's success to complete a pending estimate. Return whether the window changed."""
        changed = False
        if self.pending:
            counted, reported = max(self.accepted, LEAST), self.pending == REPORTED
            most = (self.window_ends if reported else now) - self.phase_start
            window = likely_window(self.window, self.shortest_window, most, self.pending, self.rounding)
            if reported and self.rounding >= S:
                window = max(window, S)
            if not self.accepted:
                pass  # nothing was accepted in this phase, so its length says nothing about the size
            elif not self.limit:
                if counted < COARSE and window / S not in WINDOWS_S:
                    counted, window = COARSE, window * COARSE / counted
                self.limit, self.window = counted, max(window, LEAST_WINDOW_US)
                self.refused_limit = counted * NEAR if reported else 0
                # An early refusal in a common window suggests that the server allows bursts of the full quota.
                is_common = self.window / S in WINDOWS_S
                fast = self.shortest_window <= self.window * SHOWN_BURST
                self.pacing = TRYING if reported and is_common and fast else PACED
                changed, self.source = True, LEARNED
            elif window > self.window * OTHER_WINDOW:
                old = self.limit * window / self.window
                self.window, changed = window, True
                self._lower(counted, old, shown=reported)
            elif window * NEAR >= self.window:
                self._lower(counted, self.limit, shown=reported)
            else:  # a bucket that refills gradually; assume a high limit rather than a low one
                span = max(self.shortest_window, most - self.rounding, LEAST_WINDOW_US)
                self._lower(counted * self.window / span, self.limit, shown=reported)
            self.pending = 0
        self.trial, self.limit_before_refusals = 0, 0
        self._start_phase(granted, reopened=True)
        self.accepted = weight
        return changed

    def declare(self, limit: float, window: float) -> bool:
        """Use the size and window that a response stated. Return whether the window changed."""
        window = max(window, LEAST_WINDOW_US)
        if self.source == LEARNED or (limit, window) == (self.limit, self.window):
            return False
        changed = window != self.window
        self.limit, self.window, self.trial, self.refused_limit, self.source = limit, window, 0, 0, DECLARED
        self.pacing = PACED
        return changed
