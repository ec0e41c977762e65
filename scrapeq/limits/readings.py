"""
What an answer says about waiting: every dialect read into one `Observation`. Pure, and never raises.

Sources: RFC 9110 10.2.3 (Retry-After), RFC 6585, draft-ietf-httpapi-ratelimit-headers 01 to 10, and the
vendors' own fields. What says it most directly wins: vendor fields in milliseconds, Retry-After, the IETF's
RateLimit fields, X-RateLimit-Reset-After, X-RateLimit-Reset and its kin. A reset closes a limit only when
nothing remains or the answer is a refusal. Waits are never cut short; only an overflow is capped (2^31 s).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from scrapeq.limits import times
from scrapeq.limits.budgets import RATE_FIELD, Budget, Fields, Policy, ietf, named, policies, reset_s

REFUSALS = frozenset({418, 429, 529})  # statuses that mean nothing else than "too much"

_MOST_REMAINING = 1e12  # a larger budget is none worth counting
_FLOORED_BY_S = 1.0  # servers that floor Retry-After are early by less than this

_MS_FIELDS = ("retry-after-ms", "x-ms-retry-after-ms", "x-amz-retry-after")
_SENTRY_FIELD = "x-sentry-rate-limits"


@dataclass(frozen=True, slots=True)
class Told:
    """A budget: `remaining` requests until the reset, `reset_s` seconds from now."""

    remaining: int
    reset_s: float


@dataclass(frozen=True, slots=True)
class Observation:
    """
    What one answer said.

    Args:
        wait_s: Seconds the limit is closed for; 0 = already over; None = it says nothing.
        retry_after_s: What Retry-After or a vendor's form of it said, on whatever status.
        limit: Requests in a window.
        remaining: Requests left in it.
        reset_s: Seconds to the reset.
        window_s: Length of the window.
        policies: Every quota declared.
        told: The tightest budget that was told; None if none was.
    """

    wait_s: float | None = None
    retry_after_s: float | None = None
    limit: float | None = None
    remaining: float | None = None
    reset_s: float | None = None
    window_s: float | None = None
    policies: tuple[Policy, ...] = ()
    told: Told | None = None


NOTHING = Observation()


def observe(status: int, headers: Sequence[tuple[str, str]], now_s: float) -> Observation:
    """
    Read what an answer says about waiting.

    Args:
        status: HTTP status.
        headers: Names and values as sent, repeated fields kept.
        now_s: The client's clock, Unix seconds; only used where the answer has no valid Date.
    """
    if not any("limit" in name or "retry" in name for name in [name.lower() for name, _ in headers]):
        return NOTHING  # most answers of most servers
    fields = Fields(headers)
    server_s = now_s
    for value in fields.values.get("date", ()):
        date = times.http_date(value, now_s)
        if date is not None:
            server_s = date
            break
    retry_after = _retry_after(fields, server_s)
    levels: list[list[Budget]] = []
    declared: tuple[Policy, ...] = ()
    if not (fields.longest("age", times.number) or 0.0):  # an answer from a cache tells of a budget long gone
        declared = policies(fields)
        levels = [ietf(fields, declared), *named(fields, server_s)]
    refused = status in REFUSALS
    closing = _closing(levels, refused)
    wait = None if 200 <= status < 300 or status < 200 else retry_after
    if wait is None:
        wait = closing
        if wait is None and refused:
            wait = _sentry(fields)
        if wait is None and refused:
            wait = _one_token(fields)
    elif closing is not None and wait < closing <= wait + _FLOORED_BY_S:
        wait = closing  # a server that floors Retry-After says its true reset elsewhere
    seen = _most_telling([budget for level in levels for budget in level])
    return Observation(
        wait_s=wait,
        retry_after_s=retry_after,
        limit=seen.limit if seen.limit is not None else next((policy.limit for policy in declared), None),
        remaining=seen.remaining,
        reset_s=seen.reset_s,
        window_s=seen.window_s
        if seen.window_s is not None
        else next((p.window_s for p in declared if p.window_s), None),
        policies=declared,
        told=_told(levels),
    )


def _retry_after(fields: Fields, server_s: float) -> float | None:
    def moment(text: str) -> float | None:
        date = times.http_date(text, server_s)
        return None if date is None else times.capped(date - server_s)

    def delta_or_date(text: str) -> float | None:
        seconds = times.number(text)
        return moment(text) if seconds is None else times.capped(seconds)

    def delta_or_moment(text: str) -> float | None:
        return reset_s(text, server_s)

    def milliseconds(text: str) -> float | None:
        value = times.number(text)
        return None if value is None else times.capped(value / 1000)

    def go_duration(text: str) -> float | None:
        value = times.duration_s(text)
        return None if value is None else times.capped(value)

    for name in _MS_FIELDS:
        wait = fields.longest(name, milliseconds)
        if wait is not None:
            return wait
    for name, read in (
        ("retry-after", delta_or_date),
        ("x-retry-after", delta_or_moment),
        ("x-ratelimit-retry-after", delta_or_moment),
        ("x-rate-limit-retry-after", delta_or_moment),
        ("x-retry-in", go_duration),
    ):
        wait = fields.longest(name, read)
        if wait is not None:
            return wait
    return None


# --- what follows from them


def _closing(levels: Sequence[Sequence[Budget]], refused: bool) -> float | None:
    """Seconds to the reset of what is exhausted; if nothing is said to be, after a refusal, of anything."""
    for level in levels:
        ends = [budget.reset_s for budget in level if budget.exhausted and budget.reset_s is not None]
        if ends:
            return max(ends)
    if refused:
        for level in levels:
            ends = [budget.reset_s for budget in level if budget.reset_s is not None]
            if ends:
                return max(ends)
    return None


def _told(levels: Sequence[Sequence[Budget]]) -> Told | None:
    for level in levels:  # a second dialect repeats the first, so the first that tells is enough
        told = [
            Told(int(min(max(budget.remaining, 0), _MOST_REMAINING)), budget.reset_s)
            for budget in level
            if budget.remaining is not None
            and budget.reset_s is not None
            and (budget.counts_requests or budget.exhausted)
        ]
        if told:
            return min(told, key=lambda one: (one.remaining, -one.reset_s))
    return None


def _most_telling(budgets: Sequence[Budget]) -> Budget:
    """The budget to show: the one with the least left, else one that knows anything."""
    known = [budget for budget in budgets if budget.remaining is not None]
    if known:
        return min(known, key=lambda budget: (budget.remaining or 0.0, -(budget.reset_s or 0.0)))
    return next((b for b in budgets if b.reset_s is not None or b.limit is not None), Budget())


def _sentry(fields: Fields) -> float | None:
    """`60:error:organization, 2700:transaction` -> the longest."""

    def seconds(text: str) -> float | None:
        value = times.number(text.split(":")[0].strip())
        return None if value is None else times.capped(value)

    return fields.longest(_SENTRY_FIELD, seconds)


def _one_token(fields: Fields) -> float | None:
    """A rate per second: one token takes 1/rate seconds (two digits, as fine as the field itself is)."""
    rate = fields.longest(RATE_FIELD, times.number)
    return times.capped(round(1 / rate, 2)) if rate else None
