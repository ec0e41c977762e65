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
