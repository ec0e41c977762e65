"""
What is learned of a limit that nobody declared: how many requests in which window. Pure; microseconds.

Slow start until the first refusal; it and the answer that ends its park give a first size and window. From then on the
limit is paced like a configured one, lowered by what a refusal shows, and tried a little higher after some calm
windows. docs/explanation/limits.md tells why; the scripts of the queue do the same (`include/learn.lua`).
"""

from __future__ import annotations

from dataclasses import dataclass

from scrapeq.limit import UNPACED, Rate

S = 1_000_000
START_IN_FLIGHT = 2  # while nothing is known, after the first answer
GROWTH = (
    256  # answers that allow one more: a wall that is met refuses about one percent of what it let through
)
IDLE_US = 10 * S  # a longer pause is no part of the time in which requests were sent
STEPS = (
    1.05,
    1.2,
    1.5,
    2.0,
)  # of trials whether a limit was raised: each that goes well is followed by a bolder one
NEAR = 1.01  # bounds so near to each other are one
WIDE = 1.04  # bounds so far apart are worth a trial after one calm window
CALM_WINDOWS, CALM_US = 7, 40 * S  # before a trial that is likely refused: so many windows, so long at least
TRIAL_US = 5 * S  # a trial lasts a window, and so long at least: a bucket's tokens hide that it is too fast
COARSE = 20  # a window with less requests is made longer, where it is no real one
LOWER, LOWER_MAX = 0.02, 0.25  # taken off after a refusal that shows nothing; twice that after the next one
OTHER_WINDOW = 1.25  # a refusal's window this much longer than the known one is another one
COST_TIMES = 12  # a trial's refusal closed the limit for a time: after so many of it the next one
OUTAGE = 2  # probes refused in a row: it is closed as a whole, and that says nothing of its size
FRESH = 1.5  # windows since a reopening in which all that was sent since then counts against one window
LATE_US = 250_000  # so much apart from the known one, a window is the same
TRAVEL, TRAVEL_US = 1.5, 10_000  # of the way to the server and back: so much longer, at most, a window seems
SOON_US = 500_000  # a refused probe that tells less than this does not know when it opens
FAST = 0.7  # of a window in which it is spent at once
SHOWN_BURST = 0.5  # of a window in which the first refusal came: all was let through at once
FULL = 0.9  # of the limit that a refused burst has shown
LEAST, LEAST_WINDOW_US = 0.1, 10_000  # requests in a window
WINDOWS_S = (
    *(60, 1, 10, 3600, 86400, 30, 5, 300, 900, 15, 20, 2, 3, 600, 1800, 120),
    *(6, 12, 4, 43200, 21600, 7200),
)  # that APIs have, the commonest first

PACED, TRYING, AT_ONCE = -1, 1, 2  # whether all slots may be spent at once; 0: not tried
TOLD, GUESSED = 1, 2  # how the end of a pending estimate's window is known
LEARNED, DECLARED = 1, 2  # where the limit is from: refusals, or an answer that named it


def rounding_us(wait: float) -> float:
    """How much too long a told wait may be: servers say whole seconds."""
    return S if wait % S == 0 else 0


def likely_window(known: float, least: float, most: float, end: int, rounding: float) -> float:
    """
    The window (us) between two bounds: the known one, or one of those that APIs have, else the longer bound.

    A told end may be late by `rounding`; of several windows that fit, the commonest.
    """
    least = max(least, most - rounding) if end == TOLD else least
    if known and least - LATE_US < known <= most + LATE_US:
        return known
    return next((w * S for w in WINDOWS_S if least < w * S <= most), most)


@dataclass
class Learned:
    """The state of the learner of one limit instance."""

    limit: float = 0  # requests in a window; 0 = nothing is known yet
    window: float = 0
    trial: float = 0  # the limit in force in a trial; 0 = none goes on
    refused_at: float = 0  # the least limit that was refused, as far as known; 0 = none
    since: float = 0  # the phase's begin
    answered: float = 0  # weight answered well of what was granted since then
    step: int = 0  # trials in a row that went well; below 0: refusals in a row
    reopened: bool = True  # the phase began with an empty or reopened limit, so the window began then, too
    pending: int = 0  # an estimate waits for the answer that ends its park
    shortest: float = 0  # its window is longer than that
    ends: float = 0  # its window's end, as told
    rounding: float = 0
    source: int = 0
    before: float = 0  # the limit before refusals lowered it; 0 once they are over
    shape: int = 0
    cost: float = 0  # the wait after the last trial that was refused

    @property
    def rate(self) -> Rate | None:
        """What is in force; None: nothing is known."""
        if not self.limit:
            return None
        return Rate(
            self.trial or self.limit, self.window / S, UNPACED if self.shape > 0 and not self.trial else 0
        )

    @property
    def in_flight_max(self) -> int:
        """Requests in flight while nothing is known."""
        return START_IN_FLIGHT + int(self.answered // GROWTH)

    def granted(self, now: float, last_grant: float, is_alone: bool) -> None:
        """One more request goes; `is_alone`: none is in flight."""
        if self.limit or self.pending:
            return
        if not self.since:
            self.since = now
        elif is_alone and now - last_grant > IDLE_US:
            self.since += now - last_grant

    def accepted(self, now: float, granted: float, weight: float, is_open: bool) -> None:
        """An answer that is no refusal. `is_open`: the limit is not parked, nor waits for a probe."""
        if granted < self.since:
            return
        self.answered += weight
        if self.shape == TRYING and self.answered >= self.limit * FULL:
            self.shape = AT_ONCE if now - self.since <= self.window * FAST else PACED
        if self.limit and is_open and not self.pending:
            self._go_on(now)

    def _begin(self, now: float, *, reopened: bool) -> None:
        self.since, self.answered, self.reopened = now, 0, reopened

    def _calm(self) -> float:
        """Requests without a refusal before the next trial."""
        if not self.refused_at or self.refused_at > self.limit * WIDE:
            return self.limit
        return self.limit * max(CALM_WINDOWS, CALM_US / self.window, COST_TIMES * self.cost / self.window)

    def _go_on(self, now: float) -> None:
        if self.trial:
            if self.answered < self.trial * max(1.0, TRIAL_US / self.window):
                return
            self.limit, self.trial, self.step, self.source = self.trial, 0, self.step + 1, LEARNED
            if self.refused_at > self.limit * WIDE:
                self._begin(now, reopened=False)
                return
            self.refused_at = 0
        elif self.source == DECLARED or self.answered < self._calm():
            return
        if self.refused_at > self.limit * WIDE:
            self.trial = (self.limit + self.refused_at) / 2
        elif self.refused_at > self.limit * NEAR:
            self.trial = self.refused_at
        else:
            self.trial = self.limit * STEPS[min(max(self.step, 0), len(STEPS) - 1)]
        self._begin(now, reopened=False)

    def refused(
        self, granted: float, at: float, until: float, guessed: bool, in_window: float, in_a_row: int
    ) -> None:
        """
        A refusal at `at`, of a request granted at `granted`, that closes the limit until `until`.

        Refusals of one moment are one. `in_window`: weight answered in the window that ends with the wait; `in_a_row`:
        how many there were before it, since any request was answered well.
        """
        end = GUESSED if guessed else TOLD
        late = (at - granted) * TRAVEL + TRAVEL_US
        if in_a_row:  # the probe was refused
            if in_a_row >= OUTAGE and self.limit and not guessed:
                self.pending = 0
                if self.before:
                    self.limit, self.before = self.before, 0
                    self.refused_at = self.limit * NEAR
            elif self.pending:
                self.shortest = max(self.shortest, at - self.since - late)
                self.ends, self.pending = until, GUESSED if until - at < SOON_US else end
                self.rounding = late + rounding_us(until - at)
            return
        if self.shape > 0 and not self.trial:
            tried, self.shape = self.shape == TRYING, PACED
            if tried and self.answered < self.limit * FULL:
                return  # that says nothing of its size
        longer = not guessed and until - at > self.window * OTHER_WINDOW + S
        fresh = self.reopened and at - self.since <= self.window * FRESH
        if not self.limit or ((fresh or longer) and not self.trial):
            self.pending, self.shortest, self.ends = end, at - self.since - late, until
        elif self.trial:
            shown = (self.limit + self.trial) / 2 if guessed else in_window
            self.cost, self.before = until - at, self.limit
            self.limit = min(self.limit, max(shown, self.limit * (1 - LOWER_MAX)))
            self.refused_at = min(max(shown, self.limit * NEAR), self.trial)
            self.trial, self.step = 0, 0
            return
        else:
            shown = self.limit if guessed else max(in_window, self.limit * (1 - LOWER_MAX))
            self._lower(shown, self.limit, shown=not guessed)
        self.rounding = late + rounding_us(until - at)

    def _lower(self, to: float, limit: float, *, shown: bool) -> None:
        """`limit` was refused; `shown`: the refusal showed what would not have been."""
        self.step = min(self.step, 0) - 1
        self.before = self.before or limit
        less = min(LOWER * 2.0 ** min(-self.step - 1, 4), LOWER_MAX)
        self.limit = max(LEAST, min(to, limit * (1 - less)))
        self.refused_at = self.limit * NEAR if shown else limit
        self.source = LEARNED

    def reopen(self, now: float, granted: float, weight: float) -> bool:
        """The probe, granted at `granted`, was answered well. -> whether the window changed."""
        changed = False
        if self.pending:
            counted, told = max(self.answered, LEAST), self.pending == TOLD
            most = (self.ends if self.pending == TOLD else now) - self.since
            window = likely_window(self.window, self.shortest, most, self.pending, self.rounding)
            if told and self.rounding >= S:
                window = max(window, S)
            if not self.answered:
                pass  # nothing was let through since: that says nothing of the size
            elif not self.limit:
                if counted < COARSE and window / S not in WINDOWS_S:
                    counted, window = COARSE, window * COARSE / counted
                self.limit, self.window = counted, max(window, LEAST_WINDOW_US)
                self.refused_at = counted * NEAR if told else 0
                is_common = self.window / S in WINDOWS_S
                fast = self.shortest <= self.window * SHOWN_BURST
                self.shape = TRYING if told and is_common and fast else PACED
                changed, self.source = True, LEARNED
            elif window > self.window * OTHER_WINDOW:
                old = self.limit * window / self.window
                self.window, changed = window, True
                self._lower(counted, old, shown=told)
            elif window * NEAR >= self.window:
                self._lower(counted, self.limit, shown=told)
            else:  # it refills bit by bit; rather too much than too little
                span = max(self.shortest, most - self.rounding, LEAST_WINDOW_US)
                self._lower(counted * self.window / span, self.limit, shown=told)
            self.pending = 0
        self.trial, self.before = 0, 0
        self._begin(granted, reopened=True)
        self.answered = weight
        return changed

    def declare(self, limit: float, window: float) -> bool:
        """An answer named size and window. -> whether the window changed."""
        window = max(window, LEAST_WINDOW_US)
        if self.source == LEARNED or (limit, window) == (self.limit, self.window):
            return False
        changed = window != self.window
        self.limit, self.window, self.trial, self.refused_at, self.source = limit, window, 0, 0, DECLARED
        self.shape = PACED
        return changed
