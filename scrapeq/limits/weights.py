"""Estimate the weight of a request in a limit before it is sent, and its real cost from the response. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from scrapeq.errors import FetchError
from scrapeq.expression import Expression, as_number
from scrapeq.expression.scope import RESPONSE_NAMES, response_scope
from scrapeq.page import Page
from scrapeq.plan import LimitRule, Weight
from scrapeq.responses.match import request_matches, response_matches
from scrapeq.task import WEIGHT_MAX

DEFAULT = 1.0
_RESPONSE_ROOTS = RESPONSE_NAMES | {"retry_after", "rate_limit_reset", "exception"}


def needs_response(one: Weight) -> bool:
    """Return whether the response decides if this weight applies, or how much it is."""
    match = one.match
    if match.status or match.exception or match.when is not None:
        return True
    return isinstance(one.weight, Expression) and bool(one.weight.names & _RESPONSE_ROOTS)


def varies(rule: LimitRule) -> bool:
    """Return whether two requests of one instance may be charged different weights when they are sent."""
    return any(not needs_response(one) for one in rule.weights)


def estimate(
    rule: LimitRule, *, resource: str, method: str, url: str, names: Mapping[str, Any] | None = None
) -> float:
    """Return the weight to charge before the request is sent: the first one without the response, else 1."""
    for one in rule.weights:
        if not needs_response(one) and request_matches(one.match, resource=resource, method=method, url=url):
            return _number(one.weight, {"resource": resource, **(names or {})})
    return DEFAULT


def response_cost(
    rule: LimitRule,
    *,
    resource: str,
    method: str,
    url: str,
    page: Page | None,
    error: FetchError | None = None,
    names: Mapping[str, Any] | None = None,
) -> float | None:
    """Return the real cost of a request by its response; None if no weight of the rule depends on responses."""
    if not any(needs_response(one) for one in rule.weights):
        return None
    scope = response_scope(page, **{"resource": resource, **(names or {})})
    for one in rule.weights:
        if response_matches(
            one.match, resource=resource, method=method, url=url, page=page, error=error, scope=scope
        ):
            return _number(one.weight, scope)
    return DEFAULT


def _number(weight: Expression | float, scope: Mapping[str, Any]) -> float:
    value = weight.evaluate(scope) if isinstance(weight, Expression) else weight
    number = None if isinstance(value, bool) else as_number(value)
    return (
        min(max(0.0, float(number)), WEIGHT_MAX) if number is not None and math.isfinite(number) else DEFAULT
    )
