"""Budgets, rates and costs that one response reports to the limits of its request."""

from __future__ import annotations

import pytest

from scrapeq.errors import FetchError
from scrapeq.expression import compile_expression
from scrapeq.limits.attribution import reported_budgets, reported_rates, rules_of
from scrapeq.limits.partition import group_of
from scrapeq.page import Page
from scrapeq.plan import LimitRule, Observe, Rate
from scrapeq.responses.outcome import Outcome, decide
from scrapeq.responses.rule_observations import observe_for_rules

NOW_S = 1795500000.0
URL = "https://a.test/items"
GITHUB = (("X-RateLimit-Remaining", "7"), ("X-RateLimit-Reset", "1795500060"))


def response_to(
    rules: tuple[LimitRule, ...],
    headers: tuple[tuple[str, str], ...] = (),
    body: bytes = b"",
    status: int = 200,
) -> tuple[Outcome, list[tuple[str, float, float]], list[tuple[str, float, float]]]:
    """Return the outcome of a response, and the budgets and rates that it reports."""
    group = group_of(rules, url=URL, token="t")
    page = Page(URL, status, headers, body)
    observed, rule_observations = observe_for_rules(page, NOW_S, rules_of(group, rules))
    error: FetchError | None = None
    outcome = decide(
        (), url=URL, page=page, error=error, observation=observed, rule_observations=rule_observations
    )
    return outcome, reported_budgets(group, outcome, rules), reported_rates(group, outcome, rules)


def names(reported: list[tuple[str, float, float]]) -> list[tuple[str, float, float]]:
    """Replace the instances by the names of their rules."""
    return [(instance.partition("|")[0], left, reset_s) for instance, left, reset_s in reported]


CORE = LimitRule("core", partition_by=("token",), observe=Observe("github"))
SECONDARY = LimitRule("secondary", partition_by=("token",))
OWN = LimitRule(
    "own",
    partition_by=(),
    observe=Observe(remaining=compile_expression("body.left"), reset=compile_expression("body.again")),
)


@pytest.mark.parametrize(
    ("rules", "headers", "body", "reported"),
    [
        # the limit with `observe`, not the equally narrow one that is written later
        ((CORE, SECONDARY), GITHUB, b"", [("core", 7, 60)]),
        # a budget that no other limit observes belongs to the limit without `observe`
        ((OWN, SECONDARY), GITHUB, b'{"left": 3, "again": 9}', [("own", 3, 9), ("secondary", 7, 60)]),
        # of two with the same `observe`, the narrowest
        (
            (LimitRule("wide", partition_by=(), observe=Observe("github")), CORE),
            GITHUB,
            b"",
            [("core", 7, 60)],
        ),
        # named budgets
        (
            (LimitRule("burst"), LimitRule("daily"), LimitRule("rest")),
            (("RateLimit", '"burst";r=4;t=1, "daily";r=900;t=3600'),),
            b"",
            [("daily", 900, 3600), ("burst", 4, 1)],
        ),
        # without rules, the implicit one
        ((), GITHUB, b"", [("default", 7, 60)]),
        ((LimitRule("ignoring", observe="none"),), GITHUB, b"", []),
    ],
)
def test_each_limit_gets_its_own_budget(
    rules: tuple[LimitRule, ...],
    headers: tuple[tuple[str, str], ...],
    body: bytes,
    reported: list[tuple[str, float, float]],
) -> None:
    """A limit gets its own reading, else the budget with its name, else the unclaimed one if it is the narrowest."""
    assert names(response_to(rules, headers, body)[1]) == reported


def test_stated_rates_are_attributed_like_budgets() -> None:
    """Sizes and windows without a remaining budget belong to the limit that observes them."""
    crossref = (("X-Rate-Limit-Limit", "50"), ("X-Rate-Limit-Interval", "1s"))
    how = Observe(
        limit=compile_expression("header('x-rate-limit-limit')"),
        interval=compile_expression("header('x-rate-limit-interval')"),
    )
    pool = LimitRule("pool", rates=(Rate(10, 1.0),), observe=how)
    assert names(response_to((pool, SECONDARY), crossref)[2]) == [("pool", 50, 1)]
    assert names(response_to((), crossref)[2]) == [("default", 50, 1)]
    assert response_to((LimitRule("ignoring", observe="none"),), crossref)[2] == []


def test_a_preset_recognizes_a_refusal_by_its_body() -> None:
    """A 200 may be a refusal; its wait is the stated one, else that of the preset."""
    limited = b'{"errors":[{"type":"RATE_LIMITED"}]}'
    outcome, *_ = response_to(
        (CORE,), (("X-RateLimit-Remaining", "0"), ("X-RateLimit-Reset", "1795500600")), limited
    )
    assert (outcome.action, outcome.wait_s, outcome.scope, outcome.guessed) == (
        "rate_limited",
        600,
        "limit",
        False,
    )
    assert response_to((SECONDARY,), (), limited)[0].action == "success"
    secondary = b'{"message": "You have exceeded a secondary rate limit."}'
    outcome, *_ = response_to((CORE,), (), secondary, 403)
    assert (outcome.action, outcome.wait_s, outcome.scope) == ("rate_limited", 60, "token")


def test_a_global_refusal_closes_the_credential() -> None:
    """X-RateLimit-Global sets the scope."""
    outcome, *_ = response_to((), (("Retry-After", "65"), ("X-RateLimit-Global", "true")), b"", 429)
    assert (outcome.action, outcome.wait_s, outcome.scope) == ("rate_limited", 65, "token")


def test_a_wait_in_a_body_closes_the_limit_without_a_refusal() -> None:
    """`observe: {wait: body.backoff}` closes the limit, and the page is a success."""
    rule = LimitRule("a", observe=Observe(wait=compile_expression("body.backoff")))
    outcome, reported, _ = response_to((rule,), (), b'{"backoff": 10}')
    assert (outcome.action, names(reported)) == ("success", [("a", 0, 10)])


def test_the_outcome_has_the_cost_of_the_request() -> None:
    """The cost is read from header fields and from `observe`."""
    assert response_to((SECONDARY,), (("X-RateLimit-Cost", "3"),))[0].cost == 3
    rule = LimitRule("a", observe=Observe(cost=compile_expression("body.cost")))
    assert response_to((rule,), (), b'{"cost": 4}')[0].cost == 4
    assert response_to((SECONDARY,))[0].cost is None
