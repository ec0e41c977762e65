"""Weights, scopes, reserves and calendar windows: from the file's rules to what the queue is told."""

from __future__ import annotations

from dataclasses import replace

import pytest

from scrapeq import config
from scrapeq.errors import UsageError
from scrapeq.limits.attribution import closed_by, costs_of, scopes_of
from scrapeq.limits.definitions import aligned_s, limits_of
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
    """The plan of the text above."""
    return config.load("acme.yaml", text=TEXT)


def page(status: int, body: bytes = b"{}") -> Page:
    """An answer."""
    return Page(url=URL, status=status, headers=(), body=body)


def paid(resource: str, answer: Page, cost: float | None = None) -> list[tuple[str, float]]:
    """What a request of this resource has cost the limits of the plan."""
    rules = plan().rate_limits
    group = group_of(rules, resource=resource, url=URL)
    outcome = Outcome("success", cost=cost)
    return costs_of(group, outcome, rules, resource=resource, url=URL, page=answer)


def test_a_request_is_charged_what_its_rule_says_before_its_answer() -> None:
    """Groups of other weights share the limit's instance and differ in what they are charged."""
    light, heavy = (group_of(plan().rate_limits, resource=name, url=URL) for name in ("other", "search"))
    assert light.limits == heavy.limits == ("core|api.example,",)
    assert (light.weight(light.limits[0]), heavy.weight(heavy.limits[0])) == (1, 5)
    assert light.name != heavy.name


def test_an_answer_settles_what_was_charged() -> None:
    """A 304 is free, a cost that stands in the body counts; what was charged rightly is not said again."""
    assert paid("other", page(304)) == [("core|api.example,", 0.0)]
    assert paid("search", page(304)) == [("core|api.example,", 0.0)]
    assert paid("search", page(200)) == []
    assert paid("query", page(200, b'{"cost": 42.5}')) == [("core|api.example,", 42.5)]
    assert paid("query", page(200)) == []


def test_a_told_cost_counts_before_the_rules_weights() -> None:
    """What the answer says that it has cost is the narrowest limit's."""
    assert paid("search", page(200), cost=7.0) == [("core|api.example,", 7.0)]


def test_a_limit_of_one_group_is_shared_where_weights_part_its_requests() -> None:
    """Only weights that the answer tells leave the limit to one group alone."""
    rule = LimitRule("core", rates=(Rate(1, 1),), weights=(FREE,))
    assert group_of([rule], url=URL).private == "core|api.example,"
    assert group_of([replace(rule, weights=(HEAVY,))], url=URL).private == ""


def test_weights_are_rounded_up_to_what_limits_count_in() -> None:
    """Sums of weights stay exact; what is no weight, or of no limit of the group, is refused."""
    assert Group("g", ("a",), weights=(("a", 0.1),)).weight("a") == 103 / 1024
    for weight in (-1.0, float("nan"), float("inf")):
        with pytest.raises(UsageError, match="no weight"):
            Group("g", ("a",), weights=(("a", weight),))
    with pytest.raises(UsageError, match="not among its limits"):
        Group("g", ("a",), weights=(("b", 2.0),))


def test_a_reserve_and_a_calendar_window_reach_the_queue() -> None:
    """The line is a day before now; a window of UTC begins at midnight; the wire says it both ways."""
    limit = limits_of(plan().rate_limits)["core"]
    assert limit.reserve is not None
    assert limit.reserve.withheld(1e9 - 86_401, 1e15) == 0.1
    assert limit.reserve.withheld(1e9 - 86_400, 1e15) == 0.0
    assert [rate.aligned_s for rate in limit.rates] == [None, 0.0]
    assert type(limit).from_wire(limit.wire()) == limit


def test_calendar_windows_begin_at_local_midnight_and_weeks_on_monday() -> None:
    """The offset is what the zone's clocks show now."""
    winter_s, summer_s = 1_736_899_200.0, 1_752_537_600.0  # 2025-01-15, 2025-07-15, both 00:00Z
    assert aligned_s("Europe/Berlin", 86_400, winter_s) == 23 * 3600
    assert aligned_s("Europe/Berlin", 86_400, summer_s) == 22 * 3600
    assert aligned_s("Asia/Kolkata", 3600, winter_s) == 1800
    assert aligned_s("UTC", 7 * 86_400, winter_s) == 4 * 86_400  # 1970-01-05 was a Monday
    assert aligned_s("", 86_400, winter_s) is None


def test_a_scope_wider_than_a_limit_closes_every_group_of_it() -> None:
    """Groups of one host with other limits share what a refusal of scope host closes; other hosts have their own."""
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


def test_scopes_of_a_credential_and_of_all_have_limits_of_their_own() -> None:
    """A limit that is partitioned by neither stays nobody's alone."""
    wide = group_of([LimitRule("core", partition_by=())], url=URL, token="t", scopes={"token", "all"})
    assert wide.private == ""
    (of_token,), (of_all,) = closed_by(wide, "token"), closed_by(wide, "all")
    assert of_token.startswith("=token|") and of_all == "=all"
    assert "=token" not in str(group_of([], url=URL, scopes={"token"}))
