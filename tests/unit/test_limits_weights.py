"""Weights, scopes, reserves and calendar windows, from the configuration to the queue."""

from __future__ import annotations

from dataclasses import replace

import pytest

from scrapeq import config
from scrapeq.errors import UsageError
from scrapeq.limit import aligned_s
from scrapeq.limits.attribution import closed_by, costs_of, scopes_of
from scrapeq.limits.definitions import limits_of
from scrapeq.limits.partition import group_of
from scrapeq.page import Page
from scrapeq.plan import LimitRule, Match, Plan, Rate, ResponseAction, Weight
from scrapeq.responses.outcome import Outcome
from scrapeq.task import Group

URL = "https://api.example/search"
TEXT = """
version: 1
name: acme
client: {base_url: https://api.acme.test}
rate_limits:
  - name: core
    rates: [{limit: 5000, interval: 1h}, {limit: 100, interval: 1d, aligned: UTC}]
    weights:
      - {match: {status: 304}, weight: 0}
      - {match: {resource: search}, weight: 5}
      - {match: {resource: query}, weight: body.cost}
    reserve: {fraction: 0.1, min_priority: now - 1d}
resources: [search, query, other]
"""
FREE = Weight(Match(status=(304,)), 0.0)
HEAVY = Weight(Match(resource=("search",)), 5.0)


def plan() -> Plan:
    """Return the plan of the text above."""
    return config.load("acme.yaml", text=TEXT)


def page(status: int, body: bytes = b"{}") -> Page:
    """Return a response."""
    return Page(url=URL, status=status, headers=(), body=body)


def costs(resource: str, response: Page, cost: float | None = None) -> list[tuple[str, float]]:
    """Return the cost of a request of this resource in the limits of the plan."""
    rules = plan().rate_limits
    group = group_of(rules, resource=resource, url=URL)
    outcome = Outcome("success", cost=cost)
    return costs_of(group, outcome, rules, resource=resource, url=URL, page=response)


def test_a_request_is_charged_its_weight_before_the_response() -> None:
    """Groups with different weights share the limit's instance but are charged differently."""
    light, heavy = (group_of(plan().rate_limits, resource=name, url=URL) for name in ("other", "search"))
    assert light.limits == heavy.limits == ("core|api.example,",)
    assert (light.weight(light.limits[0]), heavy.weight(heavy.limits[0])) == (1, 5)
    assert light.name != heavy.name


def test_a_response_settles_the_charge() -> None:
    """A 304 is free, a cost in the body counts, and a correct charge is not repeated."""
    assert costs("other", page(304)) == [("core|api.example,", 0.0)]
    assert costs("search", page(304)) == [("core|api.example,", 0.0)]
    assert costs("search", page(200)) == []
    assert costs("query", page(200, b'{"cost": 42.5}')) == [("core|api.example,", 42.5)]
    assert costs("query", page(200)) == []


def test_a_cost_stated_by_the_response_overrides_the_weights() -> None:
    """It belongs to the narrowest limit."""
    assert costs("search", page(200), cost=7.0) == [("core|api.example,", 7.0)]


def test_a_limit_with_weights_by_request_is_shared() -> None:
    """A limit stays private only if its weights depend on responses alone."""
    rule = LimitRule("core", rates=(Rate(1, 1),), weights=(FREE,))
    assert group_of([rule], url=URL).private == "core|api.example,"
    assert group_of([replace(rule, weights=(HEAVY,))], url=URL).private == ""


def test_weights_are_rounded_up_to_the_unit_of_limits() -> None:
    """Sums of weights stay exact; an invalid weight, or one for another limit, raises an error."""
    assert Group("g", ("a",), weights=(("a", 0.1),)).weight("a") == 103 / 1024
    for weight in (-1.0, float("nan"), float("inf")):
        with pytest.raises(UsageError, match="expected a weight"):
            Group("g", ("a",), weights=(("a", weight),))
    with pytest.raises(UsageError, match="not among its limits"):
        Group("g", ("a",), weights=(("b", 2.0),))


def test_a_reserve_and_a_calendar_window_reach_the_queue() -> None:
    """The threshold is one day ago, a UTC window starts at midnight, and the wire format preserves both."""
    limit = limits_of(plan().rate_limits)["core"]
    assert limit.reserve is not None
    assert limit.reserve.withheld(1e9 - 86_401, 1e15) == 0.1
    assert limit.reserve.withheld(1e9 - 86_400, 1e15) == 0.0
    assert [rate.aligned_s for rate in limit.rates] == [None, 0.0]
    assert type(limit).from_wire(limit.wire()) == limit


def test_calendar_windows_start_at_local_midnight_and_weeks_on_monday() -> None:
    """The offset is the current one of the zone."""
    winter_s, summer_s = 1_736_899_200.0, 1_752_537_600.0  # 2025-01-15, 2025-07-15, both 00:00Z
    assert aligned_s("Europe/Berlin", 86_400, winter_s) == 23 * 3600
    assert aligned_s("Europe/Berlin", 86_400, summer_s) == 22 * 3600
    assert aligned_s("Asia/Kolkata", 3600, winter_s) == 1800
    assert aligned_s("UTC", 7 * 86_400, winter_s) == 4 * 86_400  # 1970-01-05 was a Monday
    assert aligned_s("", 86_400, winter_s) is None


def test_a_scope_wider_than_a_limit_closes_every_group_of_it() -> None:
    """All groups of a host share the limit that a refusal with scope host closes; other hosts have their own."""
    rules = [
        LimitRule("core", match=Match(resource=("a",))),
        LimitRule("other", match=Match(resource=("b",))),
    ]
    scopes = scopes_of(
        [ResponseAction(Match(), "rate_limited", "host"), ResponseAction(Match(), "retry", "all")]
    )
    assert scopes == {"host"}
    groups = [group_of(rules, resource=name, url=URL, token="t", scopes=scopes) for name in "ab"]
    closed = [closed_by(group, "host") for group in groups]
    assert closed == [["=host|api.example"]] * 2
    elsewhere = group_of(rules, resource="a", url="https://b.example/", token="t", scopes=scopes)
    assert closed_by(elsewhere, "host") == ["=host|b.example"]
    assert all(name.startswith(("core|", "other|")) for group in groups for name in closed_by(group, "limit"))


def test_the_scopes_token_and_all_have_their_own_limits() -> None:
    """A limit that is partitioned by neither is not private."""
    wide = group_of([LimitRule("core", partition_by=())], url=URL, token="t", scopes={"token", "all"})
    assert wide.private == ""
    (of_token,), (of_all,) = closed_by(wide, "token"), closed_by(wide, "all")
    assert of_token.startswith("=token|") and of_all == "=all"
    assert "=token" not in str(group_of([], url=URL, scopes={"token"}))
