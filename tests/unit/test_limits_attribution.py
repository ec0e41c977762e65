"""Which of a request's limits a told budget belongs to."""

from __future__ import annotations

import pytest

from scrapeq.limits.attribution import costs_of, reported_budgets, reported_rates
from scrapeq.limits.partition import group_of
from scrapeq.plan import LimitRule
from scrapeq.responses.observation import Reported
from scrapeq.responses.outcome import Outcome
from scrapeq.task import weight_of

URL = "https://a.test/items"
TOLD = Outcome("success", reported=Reported(remaining=7, reset_s=60.0))

ALL = LimitRule("all", partition_by=())
HOST = LimitRule("host", partition_by=("host",))
SECOND_HOST = LimitRule("second", partition_by=("host",))
DEAF_HOST = LimitRule("host", partition_by=("host",), observe="none")
DEAF_ALL = LimitRule("all", partition_by=(), observe="none")

CASES = [
    ((), ["default|a.test,"]),
    ((ALL, HOST), ["host|a.test"]),
    ((HOST, ALL), ["host|a.test"]),
    ((HOST, SECOND_HOST), ["second|a.test"]),
    ((ALL, DEAF_HOST), ["all"]),
    ((DEAF_ALL, DEAF_HOST), []),
]


@pytest.mark.parametrize(("rules", "expected"), CASES)
def test_a_told_budget_belongs_to_the_narrowest_limit_that_listens(
    rules: tuple[LimitRule, ...], expected: list[str]
) -> None:
    """The most keys win, of equal ones the last written; `observe: none` never listens."""
    assert reported_budgets(group_of(rules, url=URL), TOLD, rules) == [(name, 7.0, 60.0) for name in expected]


def test_an_answer_that_tells_nothing_is_told_to_nobody() -> None:
    """No reading, no entry."""
    assert reported_budgets(group_of((HOST,), url=URL), Outcome("success"), (HOST,)) == []


def test_of_several_rates_that_an_answer_names_the_lowest_is_learned() -> None:
    """A learned limit has one; in turns each would put the others out of force at every answer."""
    named = Outcome("success", rates=((1000.0, 3600.0), (10.0, 1.0)))
    assert reported_rates(group_of((), url=URL), named) == [("default|a.test,", 1000.0, 3600.0)]


@pytest.mark.parametrize("cost", [2e9, float("inf")])
@pytest.mark.parametrize("rules", [(), (HOST,)])
def test_a_cost_beyond_all_measure_is_the_greatest_weight(cost: float, rules: tuple[LimitRule, ...]) -> None:
    """The server says it: it must not make of an answer one that cannot be reported."""
    ((_, paid),) = costs_of(group_of(rules, url=URL), Outcome("success", cost=cost), rules)
    assert weight_of(paid, "cost") == paid
