"""
One limit instance: what it grants now, and what grants, answers and people change of it. Pure: time is handed in.

The scripts of the queue do the same to the state that they keep; the property tests hold one against the other.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

from scrapeq.limit import SOURCES, UNPACED, Limit, LimitState, Rate
from scrapeq.limits.learning import TRYING, Learned, rounding_us

US = 1_000_000
PROBE_GAP_US = 1_000_000
GROWTH_MAX_US = 300_000_000
GUESS, BY_FILE = 1, 2  # who says how long a refusal closes a limit, where the answer does not
TOO_SHORT = 0.1  # of a told wait that a refused probe adds at most, or a second
TOLD_LEAST_US = 1_000_000  # what is told to be left stays so for this time at least
PACE_TOLERANCE_US = 20_000
SLOWER, SLOW_MAX = 0.05, 3  # what a refusal within the declared rate adds to `slow`, and the most
FASTER = 0.01  # ... and what a window takes off again

How = Literal["answered", "unsent", "expired"]
NO_LIMIT = Limit()


@dataclass
class LimitModel:
    """Microseconds throughout; `definitions` is the queue's, by the name before the "|"."""

    name: str
    definitions: Mapping[str, Limit]
    parked_until: float = 0
    paused: bool = False
    in_flight: float = 0  # their weight
    busy: int = 0  # their number
    probation: bool = False  # one request at a time, until one is answered well
    probe: str = ""  # the lease that is it
    probe_after: float = 0
    remaining: float | None = None
    reset_at: float = 0
    most_told: float = 0  # in this told window
    told_at: float = 0
    heard: float = 0  # weight answered since told_at
    since: float = 0  # the end of the last told window
    refused_at: float = 0
    streak: int = 0
    slow: float = 0  # declared rates are paced so much slower (1 = half)
    slowed_at: float = 0
    heaviest: float = 0  # request that was more than the whole limit
    defined_at: float = 0  # the definition's, which `paced_to` fits
    paced_to: dict[int, float] = field(default_factory=dict)  # by the rate's place
    counted: dict[int, tuple[float, float]] = field(default_factory=dict)  # aligned: window's end, weight
    began: dict[int, float] = field(default_factory=dict)  # when a full bucket was asked, until an answer
    answered: dict[int, list[tuple[float, float]]] = field(default_factory=dict)  # (when, weight), in order
    learned: Learned = field(default_factory=Learned)

    def __post_init__(self) -> None:
        self.probation = self.rules.learn
        self.defined_at = self.rules.since_us

    @property
    def rules(self) -> Limit:
        """Its definition now."""
        return self.definitions.get(self.name.partition("|")[0], NO_LIMIT)

    @property
    def learns(self) -> bool:
        """Whether its rate is unknown but for what is learned."""
        return self.rules.learn and not self.rules.rates

    @property
    def rates(self) -> tuple[Rate, ...]:
        """The rates in force."""
        rate = self.learned.rate if self.learns else None
        return (rate,) if rate else self.rules.rates

    def known(self, now: float) -> tuple[float | None, bool]:
        """
        What is left of a told budget and whether it is on probation.

        A told window that is over says nothing any more; where nothing else is known a probe goes first.
        """
        over = self.remaining is not None and self.reset_at <= now
        return (None, self.probation or not self.rates) if over else (self.remaining, self.probation)

    def look(self, now: float) -> None:
        """Keep what is known now."""
        if self.remaining is not None and self.reset_at <= now:
            self.since, self.most_told = self.reset_at, 0
        self.remaining, self.probation = self.known(now)
        for i, rate in enumerate(self.rates):
            self.paced_to[i] = self._paced(i, rate)
            if i in self.counted:
                end, weight = self.counted[i]
                self.counted[i] = self._not_later(end, rate), weight
        self.defined_at = self.rules.since_us

    def _paced(self, i: int, rate: Rate) -> float:
        """Until when rate i is paced."""
        return self._not_later(self.paced_to.get(i, 0.0), rate)

    def _not_later(self, at: float, rate: Rate) -> float:
        """What an older definition closes, it closes no longer than this one ever does."""
        since = self.rules.since_us
        return at if self.defined_at == since else min(at, since + rate.most_ahead_us)

    @property
    def cap(self) -> int:
        """Requests in flight at most while nothing is known."""
        return self.rules.max_concurrency or self.learned.in_flight_max

    def used(self, i: int, now: float) -> float:
        """Answered requests in the window of rate i that ends now."""
        window = self.rates[i].interval_s * US
        return sum(weight for at, weight in self.answered.get(i, ()) if at + window > now)

    def grants(self, now: float, weight: float = 1, priority: float = math.inf) -> bool:
        """May a request of this weight and priority go now? What is heavier than the whole limit goes alone."""
        return self.closed_until(now, weight, priority) is None

    def closed_until(self, now: float, weight: float = 1, priority: float = math.inf) -> float | None:
        """When it is worth looking again; infinity: only an answer or a person opens it. None: it grants now."""
        rules = self.rules
        remaining, probation = self.known(now)
        if self.paused:
            return math.inf
        if self.parked_until > now:
            return self.parked_until
        if probation:
            if self.probe:
                return math.inf
            if self.probe_after > now:
                return self.probe_after
        most = rules.max_concurrency
        if most and self.busy >= most:
            return math.inf
        if weight == 0:
            return None
        keep = rules.reserve.kept(priority, now) if rules.reserve else 0
        if remaining is not None:
            if remaining - self.in_flight - keep * self.most_told < weight:
                return self.reset_at
        elif rules.learn and not self.rates and not probation and 0 < self.in_flight > self.cap - weight:
            return math.inf
        for i, rate in enumerate(self.rates):
            until = self._rate_closed_until(i, rate, now, weight, keep)
            if until is not None:
                return until
        return None

    def _rate_closed_until(self, i: int, rate: Rate, now: float, weight: float, keep: float) -> float | None:
        if rate.aligned_s is not None:
            taken = self.in_flight + self.in_window(i, now)
            return rate.window_end(now) if taken and taken + weight > rate.limit * (1 - keep) else None
        period, burst = self._pace(rate, now), max(rate.burst, 0)
        spare = burst - min(weight, burst) - keep * burst
        early = spare * period if burst else min(period, PACE_TOLERANCE_US)
        if rate.burst == UNPACED:
            early = math.inf
            if self.learned.shape == TRYING and not self.probation and 0 < self.in_flight > self.cap - weight:
                return math.inf
        paced_to, began = self._paced(i, rate), self.began.get(i, 0.0)
        if paced_to - early > now:
            return paced_to - early
        if began and paced_to > now and paced_to - early > began:
            return paced_to
        if rate.has_slots:
            taken = self.in_flight + self.used(i, now)
            if taken and taken + weight - rate.limit * (1 - keep) > 0:
                window = rate.interval_s * US
                stamps = self.answered.get(i, ())  # in order
                return next((at + window for at, _ in stamps if at + window > now), math.inf)
        return None

    def spend(self, now: float, who: str, weight: float) -> None:
        """A request goes; while on probation it is the probe."""
        self.look(now)
        rates = self.rates
        if self.learns:
            self.learned.granted(now, self.paced_to.get(0, 0.0), self.in_flight == 0)
            if not rates:
                self.paced_to[0] = now
        self.in_flight += weight
        self.busy += 1
        for i, rate in enumerate(rates):
            if weight > max(1, rate.burst if rate.burst > 0 else rate.limit):
                self.heaviest = max(self.heaviest, weight)
            if rate.aligned_s is not None or weight == 0 or rate.burst == UNPACED:
                continue
            if self.paced_to.get(i, 0.0) <= now:
                self.paced_to[i], self.began[i] = now, now if rate.burst > 1 else 0
            ahead = self.paced_to[i] + self._pace(rate, now) * weight
            self.paced_to[i] = min(ahead, now + rate.most_ahead_us)
        if self.probation:
            paced = rates and rates[0].aligned_s is None
            period = rates[0].interval_s * US / rates[0].limit if paced else 0
            self.probe, self.probe_after = who, now + max(period, PROBE_GAP_US)

    def settle(
        self,
        now: float,
        who: str,
        how: How,
        at: float,
        weight: float,
        granted: float,
        refused: bool,
        paid: float | None = None,
    ) -> None:
        """
        The request is answered (at a time), was never sent, or its lease has ended and nobody knows.

        `weight` is what it was charged, `paid` what it has cost (None: the same).
        """
        self.look(now)
        paid = weight if paid is None else paid
        self.in_flight = max(0, self.in_flight - weight)
        self.busy = max(0, self.busy - 1)
        opened = self.probe == who and how == "answered" and not refused
        if self.learns and how == "answered" and not refused:
            if not opened:
                is_open = not self.probation and self.parked_until <= now
                self.learned.accepted(now, granted, paid, is_open)
            elif self.learned.reopen(now, granted, paid):
                self._new_window()
        for i, rate in enumerate(self.rates):
            if rate.aligned_s is not None:
                self._count(i, rate, now, 0 if how == "unsent" else paid, at)
                continue
            if how == "unsent":
                if rate.burst != UNPACED:
                    self.paced_to[i] = self.paced_to.get(i, 0.0) - self._pace(rate, now) * weight
                continue
            if paid != weight and rate.burst != UNPACED:
                ahead = self.paced_to[i] + self._pace(rate, now) * (paid - weight)
                self.paced_to[i] = min(ahead, now + rate.most_ahead_us)
            if rate.has_slots:
                if paid:
                    self._stamp(i, now, at, paid, rate.interval_s * US)
            elif self.began.get(i) and granted >= self.began[i]:  # full until then, at the latest
                self.paced_to[i] += max(0, at - self.began[i])
                self.began[i] = 0
            if opened and rate.is_single:
                # a request after a pause reaches the server later than the next one would after it
                ahead = min(at + self._pace(rate, now), now + rate.most_ahead_us)
                self.paced_to[i] = max(self.paced_to.get(i, 0.0), ahead)
        if self.probe == who:
            self.probe = ""
            if opened:
                self.probation, self.streak, self.probe_after = False, 0, 0
            elif how == "unsent":
                self.probe_after = 0

    def _new_window(self) -> None:
        """Stamps of another window say nothing."""
        self.answered.pop(0, None)

    def name_rate(self, now: float, limit: float, window: float) -> None:
        """An answer named size and window (us) of the limit, without what is left."""
        self.look(now)
        if self.learns and self.learned.declare(limit, window):
            self._new_window()

    def in_window(self, i: int, now: float) -> float:
        """Weight answered in the calendar window of rate i that holds now."""
        end, weight = self.counted.get(i, (0.0, 0.0))
        return weight if self._not_later(end, self.rates[i]) > now else 0

    def _count(self, i: int, rate: Rate, now: float, paid: float, at: float) -> None:
        """What is answered counts in the window in which it is."""
        end = max(self.counted.get(i, (0.0, 0.0))[0], 0)
        if end <= now:
            end = rate.window_end(now)
        inside = at >= end - rate.interval_s * US
        self.counted[i] = (end, self.in_window(i, now) + (paid if inside else 0))

    def _stamp(self, i: int, now: float, at: float, weight: float, window: float) -> None:
        """Stamps stand in the order in which they were reported: none is freed before an earlier one."""
        inside = [(when, w) for when, w in self.answered.get(i, ()) if when + window > now]
        self.answered[i] = [*inside, (max(at, inside[-1][0]) if inside else at, weight)]

    def cost(self, now: float, weight: float) -> None:
        """An answer that told nothing of a told budget has cost its weight."""
        self.look(now)
        if self.remaining is not None:
            self.remaining = max(0, self.remaining - weight)
            self.heard += weight

    def tell(self, now: float, remaining: float, reset_at: float, granted: float, weight: float) -> None:
        """
        The server said what is left: the least that it said counts, for answers overtake each other.

        Only a request granted after the last word may raise it, by what cannot have been counted after it; one
        granted before the last told window ended says nothing of this one.
        """
        self.look(now)
        if remaining > 0:
            reset_at = max(reset_at, now + TOLD_LEAST_US)
        if granted >= self.since:
            self.most_told = max(self.most_told, remaining)
        if granted < self.since:
            self.cost(now, weight)
        elif self.remaining is None or granted > self.told_at:
            if self.remaining is not None:
                remaining = max(min(self.remaining, remaining), remaining - self.heard)
            self.remaining, self.told_at, self.reset_at, self.heard = remaining, now, reset_at, 0
        else:
            self.remaining = min(self.remaining, remaining)
            self.reset_at = max(self.reset_at, reset_at)
            self.heard += weight

    def refuse(
        self, now: float, at: float, until: float, granted: float, weight: float = 1, guessed: int = 0
    ) -> None:
        """
        The server refused at `at`: closed until then; `guessed`: it did not say until when: a guess of
        ours (GUESS), or what the file says.

        Refusals of requests granted before the last one are one event.
        """
        self.look(now)
        if granted > self.refused_at:
            if not self.learns:
                until = self._slow_down(now, at, until, guessed)
            elif self.remaining is None:
                cut = until - self.learned.window - rounding_us(until - at)
                inside = sum(w for when, w in self.answered.get(0, ()) if when > cut)
                inside += max(0, self.in_flight - weight)
                self.learned.refused(granted, at, until, guessed > 0, inside, self.streak)
            if self.streak:  # the probe was refused: what was told was too short
                growth = min(
                    GROWTH_MAX_US,
                    PROBE_GAP_US * (4.0**self.streak if guessed == GUESS else 2.0 ** (self.streak - 1)),
                )
                more = 0 if guessed == GUESS else min(growth, max(PROBE_GAP_US, (until - at) * TOO_SHORT))
                until = max(until + more, now + growth)
            self.refused_at, self.streak = now, self.streak + 1
        self.park(until)

    def _slow_down(self, now: float, at: float, until: float, guessed: int) -> float:
        """
        Refused within its declared rate: requests come closer together at the server than they were sent.

        -> until when to close it: a guess is no longer than the pace, at first.
        """
        rate = self.rates[0] if self.rates else None
        if rate is None or rate.aligned_s is not None or self.streak:
            return until
        self.slow, self.slowed_at = min(SLOW_MAX, self._slow_of(rate, now) + SLOWER), now
        return min(until, at + max(PACE_TOLERANCE_US, self._pace(rate, now))) if guessed == GUESS else until

    def _slow_of(self, rate: Rate, now: float) -> float:
        return max(0, self.slow - (now - self.slowed_at) / (rate.interval_s * US) * FASTER)

    def _pace(self, rate: Rate, now: float) -> float:
        """Microseconds from one request to the next."""
        period = rate.interval_s * US / rate.limit
        return period * (1 + self._slow_of(rate, now)) if self.slow and rate.burst != UNPACED else period

    def park(self, until: float) -> None:
        """Closed until then, never shorter; then a probe goes first, and none that went before is it."""
        self.parked_until = max(self.parked_until, until)
        self.probation, self.probe = True, ""

    def forgotten(self) -> LimitModel:
        """The same limit, nothing known of it but what is in flight."""
        return LimitModel(self.name, self.definitions, in_flight=self.in_flight, busy=self.busy)

    def unpark(self) -> None:
        """A person says that nothing told counts any more."""
        self.parked_until, self.probation, self.probe, self.probe_after = 0, False, "", 0
        self.remaining, self.streak, self.most_told = None, 0, 0

    def state(self, now: float) -> LimitState:
        """As the queue shows it; `opens_s` is 0 or, when closed, None."""
        remaining, probation = self.known(now)
        slots = [self.used(i, now) for i, rate in enumerate(self.rates) if rate.has_slots]
        return LimitState(
            self.name,
            max(0, self.parked_until - now) / US,
            self.paused,
            self.in_flight,
            probation,
            remaining,
            max(0.0, (self.reset_at - now) / US) if remaining is not None else 0.0,
            self.cap,
            self.streak,
            replace(self.rates[0], burst=0) if self.learns and self.rates else None,
            self.learned.trial > 0,
            SOURCES[self.learned.source] if self.learns else "",
            0.0 if self.grants(now) else None,
            max(slots, default=0),
            self.heaviest,
        )
