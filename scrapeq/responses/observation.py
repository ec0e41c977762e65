"""
Read what a response says about waiting, in any dialect, into one `Observation`. Pure; never raises.

Sources: RFC 9110 10.2.3 (Retry-After), RFC 6585, draft-ietf-httpapi-ratelimit-headers 01 to 10, and vendors' fields.
The most precise source wins: vendor fields in milliseconds, Retry-After, the IETF's RateLimit fields,
X-RateLimit-Reset-After, X-RateLimit-Reset and its variants, and last the body of a refusal. A reset closes a limit
only when nothing remains or the response is a refusal. Waits are never shortened; only an overflow is capped (2^31 s).
Absolute times are compared with the Date of the response.

Of several budgets in one response, the one with the least remaining binds: within it none of them can be exceeded,
and every response reports all of them. The lowest rate would be wrong: 900 left for an hour is a lower rate than 4
left for a second, but a client that sends the 900 at once exceeds the 4.
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

REFUSALS = frozenset({418, 429, 529})  # statuses that only mean "too many requests"

_REMAINING_MAX = 1e12  # larger budgets are not worth counting
_FLOORED_BY_S = 1.0  # servers that round Retry-After down are early by less than this
# Statuses whose Retry-After is about the next request. With 202 it is about the result of this one.
_OBEYED_ON = frozenset({200, 201, 203, 204, 206})
_WORDS = ("limit", "retry", "x-mbx-", "x-sapi-")  # every relevant field name contains one of these

_TOKEN_WIDE = frozenset({"global"})  # scopes that mean all limits of a credential

AUTO = Observe()


@dataclass(frozen=True, slots=True)
class Reported:
    """
    A reported budget: `remaining` requests of `limit` until the reset in `reset_s` seconds.

    Args:
        reset_at: The Unix time of the reset by the server's clock, where it was written as one.
        server_s: The server's clock at the response.
        window_s: The length of the window, where it was declared.
        is_wait: A wait before the next request, which the server stated without a budget.
    """

    remaining: int
    reset_s: float
    limit: float | None = field(default=None, compare=False)
    reset_at: float | None = field(default=None, compare=False)
    server_s: float | None = field(default=None, compare=False)
    window_s: float | None = field(default=None, compare=False)
    is_wait: bool = field(default=False, compare=False)


@dataclass(frozen=True, slots=True)
class Observation:
    """
    What one response says about limits.

    Args:
        wait_s: Seconds for which the limit is closed; 0 = open again; None = not stated.
        retry_after_s: The value of Retry-After or a vendor's equivalent, with any status.
        limit: Requests in a window.
        remaining: Requests left in the window.
        used: Requests spent in the window.
        reset_s: Seconds until the reset.
        window_s: Length of the window.
        policies: All declared quotas.
        budgets: All reported budgets.
        reported: The budget that binds now; None if none was reported.
        rates: (requests, seconds) of quotas whose size and window are stated, but not what is left.
        cost: What this request cost.
        bucket: The server's name for the limit that counted this request.
        scope: What a refusal closes, as in response_actions; "" = not stated.
        refused: Whether it is a refusal despite its status.
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
    Read what a response says about waiting.

    Args:
        status: HTTP status.
        headers: Names and values as sent, with repeated fields.
        now_s: The client's clock, Unix seconds; used when the response lacks a valid Date.
        body: Decoded; only read for refusals, and where `how` uses it.
        how: What is known about its dialect.
        rates: Rates of the limit, for responses that only report what was used.
    """
    return observe_page(Page("", status, tuple(headers), body), now_s, how, rates)


def observe_page(
    page: Page,
    now_s: float,
    how: Observe = AUTO,
    rates: Sequence[Rate] = (),
    names: Mapping[str, Any] | None = None,
) -> Observation:
    """Read a page like `observe`; `names` are more names for expressions: seed, parent, now."""
    silent = not any(word in name for name in [name.lower() for name, _ in page.headers] for word in _WORDS)
    if silent and how == AUTO and (page.status < 400 or not page.body):
        return NO_OBSERVATION  # the usual case
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
        named_fields = Named([])
        if not (fields.longest("age", times.number) or 0.0):  # a cached response reports an old budget
            fields_read = self._read_fields()
            declared = ratelimit_fields.policies(fields_read)
            named_fields = named(
                fields_read, self._server_s, self._how.reset_format or self._preset.reset_format
            )
            levels = [
                ratelimit_fields.budgets(fields_read, declared),
                *named_fields.levels,
                vendors.budgets(fields_read),
            ]
            levels = [[self._completed(budget) for budget in level] for level in levels]
            levels = self._with_own(levels)
        refusal = next((one for one in self._preset.refusals if one.when.evaluate(self._scope)), None)
        refused = refusal is not None or page.status in REFUSALS
        levels = [_limited(level, refused=refused, failed=page.status >= 400) for level in levels]
        own_wait = self._time("wait", "auto")
        if own_wait is not None:
            retry_after = max(own_wait, retry_after or 0.0)
        elif retry_after is None and page.status >= 400:
            retry_after = vendors.body_wait_s(page, self._server_s)
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
            wait = closing  # a server that rounds Retry-After down states its exact reset elsewhere
        reported = next(
            (one for level in levels if (one := binding_budget(level, self._date_s, declared))), None
        )
        closed = reported is not None and not reported.remaining and reported.reset_s >= (own_wait or 0.0)
        asked_for = own_wait
        if not asked_for and not any(levels) and page.status in _OBEYED_ON:
            asked_for = retry_after
        if asked_for and not closed and not refused and page.status < 400:
            reported = Reported(0, asked_for, is_wait=True)  # the next response reports what remains
        if named_fields.scope in _TOKEN_WIDE:
            scope = "token"
        else:
            scope = refusal.scope if refusal is not None else ""
        return self._observation(
            levels, declared, named_fields, wait, retry_after, reported, scope, refusal is not None
        )

    def _observation(
        self,
        levels: Sequence[Sequence[Budget]],
        declared: tuple[Policy, ...],
        named_fields: Named,
        wait: float | None,
        retry_after: float | None,
        reported: Reported | None,
        scope: str,
        refused: bool,
    ) -> Observation:
        budgets = tuple(budget for level in levels for budget in level)
        shown = _most_relevant(budgets)
        limit, window = shown.limit, shown.window_s
        if limit is None:
            limit = next((policy.limit for policy in declared), None)
        if window is None:
            window = next((policy.window_s for policy in declared if policy.window_s), None)
        cost = self._number("cost")
        return Observation(
            wait_s=wait,
            retry_after_s=retry_after,
            limit=limit,
            remaining=shown.remaining,
            used=shown.used,
            reset_s=shown.reset_s,
            window_s=window,
            policies=declared,
            budgets=budgets,
            reported=reported,
            rates=_rates(budgets, declared),
            cost=named_fields.cost if cost is None else cost,
            bucket=self._text("bucket") or named_fields.bucket,
            scope=scope,
            refused=refused,
        )

    def _read_fields(self) -> Fields:
        """Return the fields that the preset reads."""
        only = self._preset.only
        if not only:
            return self._fields
        selected = Fields(())
        selected.values = {
            name: texts for name, texts in self._fields.values.items() if name.startswith(only)
        }
        return selected

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
        """Read seconds from a number, a duration or a date."""
        text = self._text(part)
        return times.until_s(text, self._server_s, form) if text else None

    def _with_own(self, levels: list[list[Budget]]) -> list[list[Budget]]:
        """Replace parts of the first budget by the values of expressions."""
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
        values = {part: value for part, value in found.items() if value is not None}
        if not values:
            return levels
        flat = [budget for level in levels for budget in level]
        base = _most_relevant([budget for budget in flat if not budget.unit] or flat)
        own = replace(base, **values)  # type: ignore[arg-type]
        if "reset_s" in values:
            own = replace(own, reset_at=times.moment_s(reset, self._server_s, form))
        if "remaining" not in values and ("used" in values or "limit" in values):
            own = replace(own, remaining=base.remaining if "used" not in values else None)
        own = self._completed(replace(own, unit=""))  # expressions count in the unit of the limit
        return [[own], [budget for budget in flat if budget is not base]]

    def _completed(self, budget: Budget) -> Budget:
        """Complete a budget: what remains follows from what was used, a reset from an aligned window."""
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


# --- conclusions


def _limited(budgets: list[Budget], *, refused: bool, failed: bool) -> list[Budget]:
    """Return the budgets that limit something: unless they explain a refusal, -1 and 0 of 0 mean "unlimited"."""
    kept = [one for one in budgets if refused or not one.is_unlimited or (failed and one.limit == 0)]
    return [replace(one, limit=None) if one.limit is not None and one.limit < 0 else one for one in kept]


def binding_budget(
    budgets: Sequence[Budget], date_s: float | None = None, declared: Sequence[Policy] = ()
) -> Reported | None:
    """
    Return the budget that binds, of those that state a reset: the one with the least remaining.

    Args:
        budgets: Budgets of one dialect; a second dialect repeats the first.
        date_s: The Date of the response.
        declared: All quotas that the response declares.
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
    remaining = int(min(max(budget.remaining or 0.0, 0), _REMAINING_MAX))
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
    """Return the seconds until exhausted budgets reset; after a refusal without one, until any budget resets."""
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


def _most_relevant(budgets: Sequence[Budget]) -> Budget:
    """Return the budget to show: the one with the least remaining, else any with a reset or a limit."""
    known = [budget for budget in budgets if budget.remaining is not None]
    if known:
        return min(known, key=lambda budget: (budget.remaining or 0.0, -(budget.reset_s or 0.0)))
    return next((b for b in budgets if b.reset_s is not None or b.limit is not None), Budget())


def _rates(budgets: Sequence[Budget], declared: Sequence[Policy]) -> tuple[tuple[float, float], ...]:
    """Return size and window of the quotas in requests about which nothing else is known."""
    reported = [budget for budget in budgets if budget.is_reported]
    found = [(b.limit, b.window_s) for b in budgets if not b.is_reported and not b.unit]
    if not (reported and len(declared) == 1):  # the only policy is that of the reported budget
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
