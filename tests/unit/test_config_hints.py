"""Hints for wrong guesses of new users, and loading without credentials."""

from __future__ import annotations

import pytest

from scrapeq.config import load
from scrapeq.errors import ConfigError

HEAD = "version: 1\nname: demo\nclient: {base_url: https://a.test}\nresources:\n"


@pytest.mark.parametrize(
    ("body", "message", "hint"),
    [
        ("- {name: a, schedule: 15m, endpoint: a}", "must be a map, not a scalar", "{every: 15m}"),
        (
            "- {name: a, endpoint: a, priority: updated_at}",
            "unknown name 'updated_at' (did you mean 'record.updated_at'?)",
            "available names: ",
        ),
        (
            "- a\n- {name: lines, parent: a, endpoint: {data_selector: lines}}",
            "has neither path nor url",
            "or for a list in the parent's records, parent: {resource: …, each: …} without an endpoint",
        ),
        ("- {name: a, endpoint: {data_selector: lines}}", "has neither path nor url", "path: a"),
        (
            "- {name: a, response_actions: [{match: {body_contains: x}, action: retry}]}",
            "unknown key 'body_contains'",
            "when: contains(text, ",
        ),
        (
            "- {name: a, endpoint: {path: a, paginator: {type: offset, limit: 5, start_param: s}}}",
            "unknown key 'start_param'",
            "offset_param or page_param",
        ),
        (
            "- a\nrate_limits: [{name: l, rates: 1/1s, headers: {}}]",
            "unknown key 'headers'",
            "observe: auto reads",
        ),
        (
            "- {name: a, response_actions: [{match: {headers: {a: b}}, action: retry}]}",
            "unknown key 'headers'",
            "when: header(",
        ),
    ],
)
def test_wrong_guess_gets_a_hint(body: str, message: str, hint: str) -> None:
    """The mistake is one problem, and its hint says what to write."""
    with pytest.raises(ConfigError) as caught:
        load("a.yaml", text=HEAD + body + "\n", env={})
    (problem,) = caught.value.problems
    assert problem.message == message
    assert problem.hint is not None and hint in problem.hint


def test_credentials_may_be_unset_for_commands_that_send_no_requests() -> None:
    """For `status` in another terminal the variable of a token may be unset; other variables may not."""
    body = "- {name: a, endpoint: '${env:PLACE}'}\n"
    auth = HEAD.replace("https://a.test", 'https://a.test, auth: {type: bearer, token: "${env:TOKEN}"}')
    load("a.yaml", text=auth + body, env={"PLACE": "p"}, credentials=False)
    for env, credentials, missing in (({"PLACE": "p"}, True, "TOKEN"), ({}, False, "PLACE")):
        with pytest.raises(ConfigError) as caught:
            load("a.yaml", text=auth + body, env=env, credentials=credentials)
        assert [p.message for p in caught.value.problems] == [
            f"the environment variable {missing} is not set"
        ]


def test_a_rate_may_be_a_text() -> None:
    """The interval of a text may be a unit alone or a word; it means the same as the map."""
    rates = "[60/1m, 5 per second, 2.5/h, {limit: 7, interval: 2s}]"
    plan = load("a.yaml", text=HEAD + f"- a\nrate_limits: [{{name: l, rates: {rates}}}]\n", env={})
    found = [(rate.limit, rate.interval_s) for rate in plan.rate_limits[0].rates]
    assert found == [(60, 60), (5, 1), (2.5, 3600), (7, 2)]


@pytest.mark.parametrize(
    ("seeds", "path"),
    [("", "orders"), ("seeds: [{a: 1}]", "orders"), ("seeds: {urls: ['https://a.test/x']}", None)],
)
def test_a_resource_without_a_source_requests_its_name(seeds: str, path: str | None) -> None:
    """If the seeds are URLs, they are requested."""
    plan = load("a.yaml", text=HEAD + f"- {{name: orders, primary_key: id}}\n{seeds}\n", env={})
    endpoint = plan.resources[0].endpoint
    assert endpoint is not None
    assert (endpoint.path and endpoint.path.source) == path
