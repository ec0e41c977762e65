"""Attribution of a reported budget, rate or cost to one of the request's limits."""

from __future__ import annotations

import pytest

from scrapeq.limits.attribution import costs_of, reported_budgets, reported_rates
from scrapeq.limits.partition import group_of
from scrapeq.plan import LimitRule
from scrapeq.responses.observation import Reported
from scrapeq.responses.outcome import Outcome
from scrapeq.task import weight_of

URL = "https://a.test/items"
REPORTED = Outcome("success", reported=Reported(remaining=7, reset_s=60.0))

ALL = LimitRule("all", partition_by=())
HOST = LimitRule("host", partition_by=("host",))
SECOND_HOST = LimitRule("second", partition_by=("host",))
IGNORING_HOST = LimitRule("host", partition_by=("host",), observe="none")
IGNORING_ALL = LimitRule("all", partition_by=(), observe="none")

CASES = [
    ((), ["default|a.test,"]),
    ((ALL, HOST), ["host|a.test"]),
    ((HOST, ALL), ["host|a.test"]),
    ((HOST, SECOND_HOST), ["second|a.test"]),
    ((ALL, IGNORING_HOST), ["all"]),
    ((IGNORING_ALL, IGNORING_HOST), []),
]


@pytest.mark.parametrize(("rules", "expected"), CASES)
def test_a_budget_belongs_to_the_narrowest_limit_that_observes(
    rules: tuple[LimitRule, ...], expected: list[str]
) -> None:
    """The one with the most keys gets it, of equal ones the last in the file; `observe: none` excludes a limit."""
    assert reported_budgets(group_of(rules, url=URL), REPORTED, rules) == [
        (name, 7.0, 60.0) for name in expected
    ]


def test_a_response_without_a_budget_is_not_attributed() -> None:
    """The result is empty."""
    assert reported_budgets(group_of((HOST,), url=URL), Outcome("success"), (HOST,)) == []


def test_the_lowest_of_several_stated_rates_is_learned() -> None:
    """A learned limit has one rate; taking all in turn would replace it at every response."""
    named = Outcome("success", rates=((1000.0, 3600.0), (10.0, 1.0)))
    assert reported_rates(group_of((), url=URL), named) == [("default|a.test,", 1000.0, 3600.0)]


@pytest.mark.parametrize("cost", [2e9, float("inf")])
@pytest.mark.parametrize("rules", [(), (HOST,)])
def test_an_excessive_cost_is_capped_at_the_largest_weight(cost: float, rules: tuple[LimitRule, ...]) -> None:
    """A server's value must not prevent reporting the response to the queue."""
    ((_, paid),) = costs_of(group_of(rules, url=URL), Outcome("success", cost=cost), rules)
    assert weight_of(paid, "cost") == paid
