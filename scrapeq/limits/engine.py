"""
The state of one limit instance: what it grants now, and how grants, responses and users change it.

Pure: the caller passes the time. The queue's Lua scripts apply the same rules to the state stored in Redis, and the
property tests compare the two.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

from scrapeq.limit import SOURCES, UNPACED, Limit, LimitState, Rate
from scrapeq.limits.learning import TRYING, Learned, rounding_us

US = 1_000_000
PROBE_GAP_US = 1_000_000  # the shortest time between two probes
GROWTH_MAX_US = 300_000_000  # refused probes lengthen a park by this much at most
GUESS, BY_FILE = (
    1,
    2,
)  # the source of a wait that the server did not state: scrapeq's guess, or the configuration
TOO_SHORT = 0.1  # share of a stated wait that a refused probe adds; at least one second
TOLD_LEAST_US = 1_000_000  # a reported budget holds for at least this long
PACE_TOLERANCE_US = 20_000  # a paced grant may be early by this much; a late one would waste quota
SLOWER, SLOW_MAX = 0.05, 3  # added to `slowdown` by a refusal within the declared rate; the maximum
FASTER = 0.01  # taken off `slowdown` in each interval

How = Literal["responded", "unsent", "expired"]
NO_LIMIT = Limit()


@dataclass
class LimitModel:
    """
    The state of one limit instance. All times are in microseconds.

    Args:
        name: The instance, `name` or `name|partition`.
        definitions: The limits of the queue by name; the part before the "|" selects one.
    """

    name: str
    definitions: Mapping[str, Limit]
    parked_until: float = 0
    paused: bool = False
    in_flight: float = 0  # total weight of the requests in flight
    in_flight_count: int = 0
    probation: bool = False  # one request at a time, until one of them is accepted
    probe: str = ""  # id of the grant that is the probe
    probe_after: float = 0
    remaining: float | None = None  # reported by the server; None: unknown
    reset_at: float = 0
    highest_remaining: float = 0  # reported in the current window
    reported_at: float = 0
    spent_since_report: float = 0  # weight of the responses since `reported_at`
    last_window_end: float = 0  # end of the last reported window that is over
    refused_at: float = 0
    consecutive_refusals: int = 0
    slowdown: float = 0  # declared rates are paced slower by this factor (1 = half the rate)
    slowdown_at: float = 0
    heaviest: float = 0  # weight of the heaviest request that exceeded the whole limit
    defined_at: float = 0  # `since_us` of the definition that `paced_to` belongs to
    # The state of each rate, by its index.
    paced_to: dict[int, float] = field(default_factory=dict)
    window_counts: dict[int, tuple[float, float]] = field(
        default_factory=dict
    )  # aligned: (window end, weight)
    first_spent_at: dict[int, float] = field(
        default_factory=dict
    )  # a full bucket's first grant without a response
    responses: dict[int, deque[tuple[float, float]]] = field(default_factory=dict)  # (time, weight) in order
    learned: Learned = field(default_factory=Learned)

    def __post_init__(self) -> None:
        self.probation = self.definition.learn
        self.defined_at = self.definition.since_us

    @property
    def definition(self) -> Limit:
        """The current definition."""
        return self.definitions.get(self.name.partition("|")[0], NO_LIMIT)

    @property
    def learns(self) -> bool:
        """Whether the rate has to be learned."""
        return self.definition.learn and not self.definition.rates

    @property
    def rates(self) -> tuple[Rate, ...]:
        """The rates in force: the declared ones, else the learned one."""
        rate = self.learned.rate if self.learns else None
        return (rate,) if rate else self.definition.rates

    def budget(self, now: float) -> tuple[float | None, bool]:
        """
        Return the reported requests left (None: unknown) and whether the limit is on probation.

        Once the reported window is over, its budget is unknown; without a rate, a probe has to go first.
        """
        over = self.remaining is not None and self.reset_at <= now
        return (None, self.probation or not self.rates) if over else (self.remaining, self.probation)

    def refresh(self, now: float) -> None:
        """Bring the stored state up to date: end a reported window that is over, apply a changed definition."""
        if self.remaining is not None and self.reset_at <= now:
            self.last_window_end, self.highest_remaining = self.reset_at, 0
        self.remaining, self.probation = self.budget(now)
        for i, rate in enumerate(self.rates):
            self.paced_to[i] = self._paced_until(i, rate)
            if i in self.window_counts:
                end, weight = self.window_counts[i]
                self.window_counts[i] = self._clamp_to_definition(end, rate), weight
        self.defined_at = self.definition.since_us

    def _paced_until(self, i: int, rate: Rate) -> float:
        return self._clamp_to_definition(self.paced_to.get(i, 0.0), rate)

    def _clamp_to_definition(self, at: float, rate: Rate) -> float:
        """A former definition closes the limit no longer than the current one can."""
        since = self.definition.since_us
        return at if self.defined_at == since else min(at, since + rate.most_ahead_us)

    @property
    def cap(self) -> int:
        """The most requests in flight while no rate is known."""
        return self.definition.max_concurrency or self.learned.in_flight_max

    def used(self, i: int, now: float) -> float:
        """Return the weight of the responses in the window of rate i that ends now."""
        window = self.rates[i].interval_s * US
        return sum(weight for at, weight in self.responses.get(i, ()) if at + window > now)

    def grants(self, now: float, weight: float = 1, priority: float = math.inf) -> bool:
        """
        Return whether a request of this weight and priority may be sent now.

        A request heavier than the whole limit is granted when nothing else is in flight or in the window.
        """
        return self.closed_until(now, weight, priority) is None

    def closed_until(self, now: float, weight: float = 1, priority: float = math.inf) -> float | None:
        """Return None if it grants now, else the time to look again; infinity: only a response or a user opens it."""
        definition = self.definition
        remaining, probation = self.budget(now)
        if self.paused:
            return math.inf
        if self.parked_until > now:
            return self.parked_until
        if probation:
            if self.probe:
                return math.inf
            if self.probe_after > now:
                return self.probe_after
        most = definition.max_concurrency
        if most and self.in_flight_count >= most:
            return math.inf
        if weight == 0:
            return None
        withheld = definition.reserve.withheld(priority, now) if definition.reserve else 0
        if remaining is not None:
            if remaining - self.in_flight - withheld * self.highest_remaining < weight:
                return self.reset_at
        elif definition.learn and not self.rates and not probation and 0 < self.in_flight > self.cap - weight:
            return math.inf
        for i, rate in enumerate(self.rates):
            until = self._rate_closed_until(i, rate, now, weight, withheld)
            if until is not None:
                return until
        return None

    def _rate_closed_until(
        self, i: int, rate: Rate, now: float, weight: float, withheld: float
    ) -> float | None:
        if rate.aligned_s is not None:
            taken = self.in_flight + self.calendar_used(i, now)
            return rate.window_end(now) if taken and taken + weight > rate.limit * (1 - withheld) else None
        period, burst = self._pace(rate, now), max(rate.burst, 0)
        spare = burst - min(weight, burst) - withheld * burst
        early = spare * period if burst else min(period, PACE_TOLERANCE_US)
        if rate.burst == UNPACED:
            early = math.inf
            if (
                self.learned.pacing == TRYING
                and not self.probation
                and 0 < self.in_flight > self.cap - weight
            ):
                return math.inf
        paced_to, first_spent_at = self._paced_until(i, rate), self.first_spent_at.get(i, 0.0)
        if paced_to - early > now:
            return paced_to - early
        if first_spent_at and paced_to > now and paced_to - early > first_spent_at:
            return paced_to
        if rate.has_slots:
            taken = self.in_flight + self.used(i, now)
            if taken and taken + weight - rate.limit * (1 - withheld) > 0:
                window = rate.interval_s * US
                return next(
                    (at + window for at, _ in self.responses.get(i, ()) if at + window > now), math.inf
                )
        return None

    def spend(self, now: float, grant_id: str, weight: float) -> None:
        """Charge a request that is about to be sent; on probation it becomes the probe."""
        self.refresh(now)
        rates = self.rates
        if self.learns:
            self.learned.record_grant(now, self.paced_to.get(0, 0.0), self.in_flight == 0)
            if not rates:
                self.paced_to[0] = now
        self.in_flight += weight
        self.in_flight_count += 1
        for i, rate in enumerate(rates):
            if weight > max(1, rate.burst if rate.burst > 0 else rate.limit):
                self.heaviest = max(self.heaviest, weight)
            if rate.aligned_s is not None or weight == 0 or rate.burst == UNPACED:
                continue
            if self.paced_to.get(i, 0.0) <= now:
                self.paced_to[i], self.first_spent_at[i] = now, now if rate.burst > 1 else 0
            ahead = self.paced_to[i] + self._pace(rate, now) * weight
            self.paced_to[i] = min(ahead, now + rate.most_ahead_us)
        if self.probation:
            paced = rates and rates[0].aligned_s is None
            period = rates[0].interval_s * US / rates[0].limit if paced else 0
            self.probe, self.probe_after = grant_id, now + max(period, PROBE_GAP_US)

    def settle(
        self,
        now: float,
        grant_id: str,
        how: How,
        at: float,
        weight: float,
        granted: float,
        refused: bool,
        cost: float | None = None,
    ) -> None:
        """
        Take a request out of what is in flight.

        Args:
            now: The current time.
            grant_id: As given to `spend`.
            how: `answered`: a response arrived; `unsent`: refund it; `expired`: the lease ended, it may have been sent.
            at: When the response arrived.
            weight: What it was charged.
            granted: When it was granted.
            refused: The response was a refusal by this limit.
            cost: What it really cost; None: its weight.
        """
        self.refresh(now)
        cost = weight if cost is None else cost
        self.in_flight = max(0, self.in_flight - weight)
        self.in_flight_count = max(0, self.in_flight_count - 1)
        opened = self.probe == grant_id and how == "responded" and not refused
        if self.learns and how == "responded" and not refused:
            if not opened:
                is_open = not self.probation and self.parked_until <= now
                self.learned.record_success(now, granted, cost, is_open)
            elif self.learned.record_probe_success(now, granted, cost):
                self._forget_responses()
        for i, rate in enumerate(self.rates):
            if rate.aligned_s is not None:
                self._count_in_window(i, rate, now, 0 if how == "unsent" else cost, at)
                continue
            if how == "unsent":
                if rate.burst != UNPACED:
                    self.paced_to[i] = self.paced_to.get(i, 0.0) - self._pace(rate, now) * weight
                continue
            if cost != weight and rate.burst != UNPACED:
                ahead = self.paced_to[i] + self._pace(rate, now) * (cost - weight)
                self.paced_to[i] = min(ahead, now + rate.most_ahead_us)
            if rate.has_slots:
                if cost:
                    self.add_response(i, now, at, cost, rate.interval_s * US)
            elif self.first_spent_at.get(i) and granted >= self.first_spent_at[i]:
                # The server's bucket was full until a request reached it, so it refills from `at` on at the latest.
                self.paced_to[i] += max(0, at - self.first_spent_at[i])
                self.first_spent_at[i] = 0
            if opened and rate.is_single:
                # The first request after a pause may travel longer than the next one, which would then come too early.
                ahead = min(at + self._pace(rate, now), now + rate.most_ahead_us)
                self.paced_to[i] = max(self.paced_to.get(i, 0.0), ahead)
        if self.probe == grant_id:
            self.probe = ""
            if opened:
                self.probation, self.consecutive_refusals, self.probe_after = False, 0, 0
            elif how == "unsent":
                self.probe_after = 0

    def _forget_responses(self) -> None:
        """Drop the responses of the learned rate, whose window has changed."""
        self.responses.pop(0, None)

    def report_rate(self, now: float, limit: float, window: float) -> None:
        """Apply the size and window (us) that a response stated without a remaining budget."""
        self.refresh(now)
        if self.learns and self.learned.declare(limit, window):
            self._forget_responses()

    def calendar_used(self, i: int, now: float) -> float:
        """Return the weight of the responses in the current calendar window of rate i."""
        end, weight = self.window_counts.get(i, (0.0, 0.0))
        return weight if self._clamp_to_definition(end, self.rates[i]) > now else 0

    def _count_in_window(self, i: int, rate: Rate, now: float, cost: float, at: float) -> None:
        """Count a response in the calendar window in which it arrived, if that is the current one."""
        end = max(self.window_counts.get(i, (0.0, 0.0))[0], 0)
        if end <= now:
            end = rate.window_end(now)
        inside = at >= end - rate.interval_s * US
        self.window_counts[i] = (end, self.calendar_used(i, now) + (cost if inside else 0))

    def add_response(self, i: int, now: float, at: float, weight: float, window: float) -> None:
        """Count a response for one window (us) of rate i, but no shorter than the responses reported before it."""
        inside = [(when, w) for when, w in self.responses.get(i, ()) if when + window > now]
        self.responses[i] = deque([*inside, (max(at, inside[-1][0]) if inside else at, weight)])

    def charge_budget(self, now: float, weight: float) -> None:
        """Take a request off the reported budget because its response reported none."""
        self.refresh(now)
        if self.remaining is not None:
            self.remaining = max(0, self.remaining - weight)
            self.spent_since_report += weight

    def report_budget(
        self, now: float, remaining: float, reset_at: float, granted: float, weight: float
    ) -> None:
        """
        Apply the budget that a response reported; the lowest report counts, because responses overtake each other.

        Only a request granted after the last report may raise the budget, and only by what the server cannot have
        counted later. A request granted before the last window ended says nothing about the current one.
        """
        self.refresh(now)
        if remaining > 0:
            reset_at = max(reset_at, now + TOLD_LEAST_US)
        if granted >= self.last_window_end:
            self.highest_remaining = max(self.highest_remaining, remaining)
        if granted < self.last_window_end:
            self.charge_budget(now, weight)
        elif self.remaining is None or granted > self.reported_at:
            if self.remaining is not None:
                remaining = max(min(self.remaining, remaining), remaining - self.spent_since_report)
            self.remaining, self.reported_at, self.reset_at, self.spent_since_report = (
                remaining,
                now,
                reset_at,
                0,
            )
        else:
            self.remaining = min(self.remaining, remaining)
            self.reset_at = max(self.reset_at, reset_at)
            self.spent_since_report += weight

    def report_refusal(
        self, now: float, at: float, until: float, granted: float, weight: float = 1, guessed: int = 0
    ) -> None:
        """
        Close the limit because the server refused a request.

        Refusals of requests granted before the last refusal count as one.

        Args:
            now: The current time.
            at: When the refusal arrived.
            until: When the limit opens.
            granted: When the refused request was granted.
            weight: What it was charged.
            guessed: Who stated the wait: 0 the server, else GUESS or BY_FILE.
        """
        self.refresh(now)
        if granted > self.refused_at:
            if not self.learns:
                until = self._slow_down(now, at, until, guessed)
            elif self.remaining is None:
                cut = max(until - rounding_us(until - at), now) - self.learned.window
                inside = sum(w for when, w in self.responses.get(0, ()) if when > cut)
                inside += max(0, self.in_flight - weight)
                self.learned.record_refusal(
                    granted, at, until, guessed > 0, inside, self.consecutive_refusals
                )
            if self.consecutive_refusals:  # the probe was refused, so the last wait was too short
                doublings = (
                    self.consecutive_refusals * 2 if guessed == GUESS else self.consecutive_refusals - 1
                )
                growth = min(GROWTH_MAX_US, PROBE_GAP_US * 2.0**doublings)
                more = 0 if guessed == GUESS else min(growth, max(PROBE_GAP_US, (until - at) * TOO_SHORT))
                until = max(until + more, now + growth)
            self.refused_at, self.consecutive_refusals = now, self.consecutive_refusals + 1
        self.park(until)

    def _slow_down(self, now: float, at: float, until: float, guessed: int) -> float:
        """
        Pace a declared rate slower after a refusal: requests reach the server closer together than they were sent.

        Return when the limit opens: a first guess is at most the pace.
        """
        rate = self.rates[0] if self.rates else None
        if rate is None or rate.aligned_s is not None or self.consecutive_refusals:
            return until
        self.slowdown, self.slowdown_at = min(SLOW_MAX, self._slowdown(rate, now) + SLOWER), now
        return min(until, at + max(PACE_TOLERANCE_US, self._pace(rate, now))) if guessed == GUESS else until

    def _slowdown(self, rate: Rate, now: float) -> float:
        return max(0, self.slowdown - (now - self.slowdown_at) / (rate.interval_s * US) * FASTER)

    def _pace(self, rate: Rate, now: float) -> float:
        """Return the microseconds between two requests."""
        period = rate.interval_s * US / rate.limit
        return period * (1 + self._slowdown(rate, now)) if self.slowdown and rate.burst != UNPACED else period

    def park(self, until: float) -> None:
        """Close the limit until then, but never shorten a park; afterwards a new probe goes first."""
        self.parked_until = max(self.parked_until, until)
        self.probation, self.probe = True, ""

    def forgotten(self) -> LimitModel:
        """Return a fresh state of the same limit that knows only what is in flight."""
        return LimitModel(
            self.name, self.definitions, in_flight=self.in_flight, in_flight_count=self.in_flight_count
        )

    def unpark(self) -> None:
        """Open the limit at the user's request and drop what the server reported."""
        self.parked_until, self.probation, self.probe, self.probe_after = 0, False, "", 0
        self.remaining, self.consecutive_refusals, self.highest_remaining = None, 0, 0

    def state(self, now: float) -> LimitState:
        """Return the state as the queue shows it; `opens_s` is 0 when open, else None."""
        remaining, probation = self.budget(now)
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
            self.consecutive_refusals,
            replace(self.rates[0], burst=0) if self.learns and self.rates else None,
            self.learned.trial > 0,
            SOURCES[self.learned.source] if self.learns else "",
            0.0 if self.grants(now) else None,
            max(slots, default=0),
            self.heaviest,
        )
