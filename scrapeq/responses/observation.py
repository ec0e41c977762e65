"""
What an answer says about waiting: every dialect read into one `Observation`. Pure, and never raises.

Sources: RFC 9110 10.2.3 (Retry-After), RFC 6585, draft-ietf-httpapi-ratelimit-headers 01 to 10, and the
vendors' own fields. What says it most directly wins: vendor fields in milliseconds, Retry-After, the IETF's
RateLimit fields, X-RateLimit-Reset-After, X-RateLimit-Reset and its kin, at last a refusal's body. A reset closes
a limit only when nothing remains or the answer is a refusal. Waits are never cut short; only an overflow is capped
(2^31 s). Absolute times are read against the answer's own Date.

Of several budgets that one answer tells, the one with the least left binds: until then none of them can be exceeded,
and every answer tells them all anew. (The one with the lowest rate would not do: 900 left for an hour is a lower
rate than 4 left for a second, and whoever spends the 900 at once is refused by the 4.)
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from scrapeq.expression import Expression, as_number, as_text
from scrapeq.expression.http_date import http_date_s
from scrapeq.expression.scope import response_scope
from scrapeq.page import Page
from scrapeq.plan import Observe, Rate
from scrapeq.responses import ratelimit_fields, times, vendors
from scrapeq.responses.budgets import Budget, Fields, Named, Policy, named
from scrapeq.responses.presets import Preset, preset_of
from scrapeq.responses.retry_after import retry_after_s

REFUSALS = frozenset({418, 429, 529})  # statuses that mean nothing else than "too much"

_MOST_REMAINING = 1e12  # a larger budget is none worth counting
_FLOORED_BY_S = 1.0  # servers that floor Retry-After are early by less than this
_WORDS = ("limit", "retry", "x-mbx-", "x-sapi-")  # a name of a field that tells something has one of them

_TOKEN_WIDE = frozenset({"global"})  # scopes that stand for all limits of a credential

AUTO = Observe()


@dataclass(frozen=True, slots=True)
class Reported:
    """
    A budget: `remaining` requests of `limit` until the reset, `reset_s` seconds from now.

    `reset_at`: the reset's Unix time by the server's clock, which said `server_s`; where it was written so.
    `window_s`: how long its window lasts at most, where that was declared.
    """

    remaining: int
    reset_s: float
    limit: float | None = field(default=None, compare=False)
    reset_at: float | None = field(default=None, compare=False)
    server_s: float | None = field(default=None, compare=False)
    window_s: float | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class Observation:
    """
    What one answer said.

    Args:
        wait_s: Seconds the limit is closed for; 0 = already over; None = it says nothing.
        retry_after_s: What Retry-After or a vendor's form of it said, on whatever status.
        limit: Requests in a window.
        remaining: Requests left in it.
        used: Requests spent in it.
        reset_s: Seconds to the reset.
        window_s: Length of the window.
        policies: Every quota declared.
        budgets: Every budget told.
        told: The budget that binds now; None if none was told.
        rates: (requests, seconds) of quotas whose size and window were named, but not what is left.
        cost: What this request has cost.
        bucket: The server's name for the limit that it counted this request in.
        scope: What a refusal closes, as in response_actions; "" = nothing was said.
        refused: It is a refusal, whatever its status.
    """

    wait_s: float | None = None
    retry_after_s: float | None = None
    limit: float | None = None
    remaining: float | None = None
    used: float | None = None
    reset_s: float | None = None
    window_s: float | None = None
    policies: tuple[Policy, ...] = ()
    budgets: tuple[Budget, ...] = ()
    reported: Reported | None = None
    rates: tuple[tuple[float, float], ...] = ()
    cost: float | None = None
    bucket: str = ""
    scope: str = ""
    refused: bool = False


NO_OBSERVATION = Observation()


def observe(
    status: int,
    headers: Sequence[tuple[str, str]],
    now_s: float,
    body: bytes = b"",
    how: Observe = AUTO,
    rates: Sequence[Rate] = (),
) -> Observation:
    """
    Read what an answer says about waiting.

    Args:
        status: HTTP status.
        headers: Names and values as sent, repeated fields kept.
        now_s: The client's clock, Unix seconds; only used where the answer has no valid Date.
        body: Decoded; only read of refusals, and where `how` looks into it.
        how: What is known of its dialect.
        rates: Rates of the limit that it is read for, where an answer says only how much was used.
    """
    return observe_page(Page("", status, tuple(headers), body), now_s, how, rates)


def observe_page(
    page: Page,
    now_s: float,
    how: Observe = AUTO,
    rates: Sequence[Rate] = (),
    names: Mapping[str, Any] | None = None,
) -> Observation:
    """Like `observe`, of a page; `names` are more names for expressions: seed, parent, now."""
    silent = not any(word in name for name in [name.lower() for name, _ in page.headers] for word in _WORDS)
    if silent and how == AUTO and (page.status < 400 or not page.body):
        return NO_OBSERVATION  # most answers of most servers
    return _Reader(page, now_s, how, rates, names or {}).read()


class _Reader:
    def __init__(
        self, page: Page, now_s: float, how: Observe, rates: Sequence[Rate], names: Mapping[str, Any]
    ) -> None:
        self._page = page
        self._how = how
        self._preset: Preset = preset_of(how)
        self._rates = rates
        self._names = names
        self._fields = Fields(page.headers)
        self._date_s = next(
            (d for v in self._fields.values.get("date", ()) if (d := http_date_s(v, now_s)) is not None),
            None,
        )
        self._server_s = now_s if self._date_s is None else self._date_s

    def read(self) -> Observation:
        page, fields = self._page, self._fields
        retry_after = retry_after_s(fields, self._server_s)
        levels: list[list[Budget]] = []
        declared: tuple[Policy, ...] = ()
        said = Named([])
        if not (
            fields.longest("age", times.number) or 0.0
        ):  # what a cache answers tells of a budget long gone
            seen = self._read_fields()
            declared = ratelimit_fields.policies(seen)
            said = named(seen, self._server_s, self._how.reset_format or self._preset.reset_format)
            levels = [ratelimit_fields.budgets(seen, declared), *said.levels, vendors.budgets(seen)]
            levels = [[self._completed(budget) for budget in level] for level in levels]
            levels = self._with_own(levels)
        refusal = next((one for one in self._preset.refusals if one.when.evaluate(self._scope)), None)
        refused = refusal is not None or page.status in REFUSALS
        own_wait = self._time("wait", "auto")
        if own_wait is not None:
            retry_after = max(own_wait, retry_after or 0.0)
        elif retry_after is None and page.status >= 400:
            retry_after = vendors.body_wait_s(page)
        closing = _closing(levels, refused)
        wait = None if page.status < 300 and not refused and own_wait is None else retry_after
        if wait is None:
            wait = closing
            if wait is None and refused:
                wait = vendors.sentry_s(fields)
            if wait is None and refused:
                wait = vendors.one_token_s(fields)
            if wait is None and refusal is not None:
                wait = refusal.wait_s
        elif closing is not None and wait < closing <= wait + _FLOORED_BY_S:
            wait = closing  # a server that floors Retry-After says its true reset elsewhere
        reported = next(
            (one for level in levels if (one := binding_budget(level, self._date_s, declared))), None
        )
        closed = reported is not None and not reported.remaining and reported.reset_s >= (own_wait or 0.0)
        if own_wait and not closed and not refused and page.status < 400:
            reported = Reported(0, own_wait)  # what remains is told anew after that
        if said.scope in _TOKEN_WIDE:
            scope = "token"
        else:
            scope = refusal.scope if refusal is not None else ""
        return self._observation(
            levels, declared, said, wait, retry_after, reported, scope, refusal is not None
        )

    def _observation(
        self,
        levels: Sequence[Sequence[Budget]],
        declared: tuple[Policy, ...],
        said: Named,
        wait: float | None,
        retry_after: float | None,
        reported: Reported | None,
        scope: str,
        refused: bool,
    ) -> Observation:
        budgets = tuple(budget for level in levels for budget in level)
        seen = _most_telling(budgets)
        limit, window = seen.limit, seen.window_s
        if limit is None:
            limit = next((policy.limit for policy in declared), None)
        if window is None:
            window = next((policy.window_s for policy in declared if policy.window_s), None)
        cost = self._number("cost")
        return Observation(
            wait_s=wait,
            retry_after_s=retry_after,
            limit=limit,
            remaining=seen.remaining,
            used=seen.used,
            reset_s=seen.reset_s,
            window_s=window,
            policies=declared,
            budgets=budgets,
            reported=reported,
            rates=_rates(budgets, declared),
            cost=said.cost if cost is None else cost,
            bucket=self._text("bucket") or said.bucket,
            scope=scope,
            refused=refused,
        )

    def _read_fields(self) -> Fields:
        """The fields that the preset believes."""
        only = self._preset.only
        if not only:
            return self._fields
        seen = Fields(())
        seen.values = {name: texts for name, texts in self._fields.values.items() if name.startswith(only)}
        return seen

    # --- expressions

    @cached_property
    def _scope(self) -> Mapping[str, Any]:
        return response_scope(self._page, **self._names)

    def _value(self, part: str) -> Any:
        own: Expression | None = getattr(self._how, part)
        value = None if own is None else own.evaluate(self._scope)
        if value is None and (known := self._preset.reads.get(part)) is not None:
            value = known.evaluate(self._scope)
        return None if isinstance(value, bool) else value

    def _text(self, part: str) -> str:
        return (as_text(self._value(part)) or "").strip()

    def _number(self, part: str) -> float | None:
        value = self._value(part)
        number = times.signed(value.strip()) if isinstance(value, str) else as_number(value)
        return number if number is not None and math.isfinite(number) else None

    def _time(self, part: str, form: str) -> float | None:
        """Seconds from a number, a duration or a date."""
        text = self._text(part)
        return times.until_s(text, self._server_s, form) if text else None

    def _with_own(self, levels: list[list[Budget]]) -> list[list[Budget]]:
        """What the expressions say stands in place of the same parts of what was read first."""
        how, reads = self._how, self._preset.reads
        parts = ("limit", "remaining", "used", "reset", "interval")
        if not any(getattr(how, part) is not None or part in reads for part in parts):
            return levels
        form = how.reset_format or self._preset.reset_format
        reset = self._text("reset")
        found = {
            "limit": self._number("limit"),
            "remaining": self._number("remaining"),
            "used": self._number("used"),
            "reset_s": times.until_s(reset, self._server_s, form) if reset else None,
            "window_s": times.in_window_units(self._text("interval")),
        }
        given = {part: value for part, value in found.items() if value is not None}
        if not given:
            return levels
        flat = [budget for level in levels for budget in level]
        base = _most_telling([budget for budget in flat if not budget.unit] or flat)
        own = replace(base, **given)  # type: ignore[arg-type]
        if "reset_s" in given:
            own = replace(own, reset_at=times.moment_s(reset, self._server_s, form))
        if "remaining" not in given and ("used" in given or "limit" in given):
            own = replace(own, remaining=base.remaining if "used" not in given else None)
        own = self._completed(
            replace(own, unit="")
        )  # whoever says it by hand says it in what is counted here
        return [[own], [budget for budget in flat if budget is not base]]

    def _completed(self, budget: Budget) -> Budget:
        """What follows from the rest: what is left of what was used, the end of a window on the clock."""
        if budget.limit is None and budget.used is not None:
            same = [r for r in self._rates if budget.window_s in (None, r.interval_s)]
            if same:
                budget = replace(
                    budget, limit=same[0].limit, window_s=budget.window_s or same[0].interval_s, unit=""
                )
        if budget.remaining is None and budget.used is not None and budget.limit is not None:
            budget = replace(budget, remaining=max(0.0, budget.limit - budget.used))
        if budget.reset_s is None and self._preset.aligned and budget.window_s:
            budget = replace(budget, reset_s=budget.window_s - self._server_s % budget.window_s)
        return budget


# --- what follows from them


def binding_budget(
    budgets: Sequence[Budget], date_s: float | None = None, declared: Sequence[Policy] = ()
) -> Reported | None:
    """
    The budget that binds of those that say when they reset: the one with the least left.

    Args:
        budgets: Those of one dialect; a second one repeats the first.
        date_s: The answer's own Date.
        declared: Every quota that the answer declares.
    """
    reported = [
        _as_reported(one, date_s, declared)
        for one in budgets
        if one.is_reported and (not one.unit or one.exhausted)
    ]
    return min(reported, key=lambda one: (one.remaining, -one.reset_s), default=None)


def _as_reported(budget: Budget, date_s: float | None, declared: Sequence[Policy]) -> Reported:
    window = budget.window_s
    if window is None and len(declared) == 1 and declared[0].limit == budget.limit:
        window = declared[0].window_s
    remaining = int(min(max(budget.remaining or 0.0, 0), _MOST_REMAINING))
    dated = budget.reset_at is not None and date_s is not None
    return Reported(
        remaining,
        budget.reset_s or 0.0,
        budget.limit,
        budget.reset_at if dated else None,
        date_s if dated else None,
        window,
    )


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


def _most_telling(budgets: Sequence[Budget]) -> Budget:
    """The budget to show: the one with the least left, else one that knows anything."""
    known = [budget for budget in budgets if budget.remaining is not None]
    if known:
        return min(known, key=lambda budget: (budget.remaining or 0.0, -(budget.reset_s or 0.0)))
    return next((b for b in budgets if b.reset_s is not None or b.limit is not None), Budget())


def _rates(budgets: Sequence[Budget], declared: Sequence[Policy]) -> tuple[tuple[float, float], ...]:
    """Size and window of the quotas in requests of which nothing else was told."""
    reported = [budget for budget in budgets if budget.is_reported]
    found = [(b.limit, b.window_s) for b in budgets if not b.is_reported and not b.unit]
    if not (reported and len(declared) == 1):  # the only policy is what is told of
        found += [
            (policy.limit, policy.window_s)
            for policy in declared
            if not policy.unit
            and not any(policy.limit == b.limit or (policy.name and policy.name == b.name) for b in reported)
        ]
    rates: list[tuple[float, float]] = []
    for limit, window in found:
        if not limit or not window or not (math.isfinite(limit) and math.isfinite(window)):
            continue
        rate = (limit, window) if limit >= 1 else (1.0, window / limit)
        if rate not in rates and rate[1] <= times.OVERFLOW_S:
            rates.append(rate)
    return tuple(rates)
