"""Credentials that would be stored with every task are refused; what only looks like one is not."""

from __future__ import annotations

import pytest

from scrapeq.config import load
from scrapeq.errors import ConfigError

HEAD = "version: 1\nname: demo\nclient:\n  base_url: https://a.test\n"
MESSAGE, HINT = "this secret would be stored with every task", "put it under client.auth"
ENV = {"X": "s3cret"}


@pytest.mark.parametrize(
    ("key", "name"),
    [
        ("headers", "Authorization"),
        ("headers", "Proxy-Authorization"),
        ("headers", "Cookie"),
        ("headers", "X-Api-Key"),
        ("headers", "X-Auth"),
        ("params", "api_key"),
        ("params", "accessToken"),
        ("params", "client_secret"),
    ],
)
@pytest.mark.parametrize("value", ["'${env:X}'", "'v ${env:X}'", "'${env:X} ${now}'", "'${env:X:-a}'"])
def test_a_credential_of_the_environment_is_refused_in_an_endpoint(key: str, name: str, value: str) -> None:
    """At its value, with the place where it belongs."""
    text = f"{HEAD}resources:\n  - name: a\n    endpoint:\n      path: x\n      {key}:\n        {name}: {value}\n"
    with pytest.raises(ConfigError) as caught:
        load("a.yaml", text=text, env=ENV)
    [problem] = caught.value.problems
    assert (problem.line, problem.col) == (10, 11 + len(name))
    assert problem.field == f"resources[0].endpoint.{key}.{name}"
    assert (problem.message, problem.hint) == (MESSAGE, HINT)
    assert "s3cret" not in str(caught.value)


def test_a_credential_in_the_params_of_every_request_is_refused() -> None:
    """They are part of the stored address, and so is a list of them."""
    with pytest.raises(ConfigError) as caught:
        load("a.yaml", text=HEAD + "  params: {api_key: ['${env:X}']}\nresources: [a]\n", env=ENV)
    [problem] = caught.value.problems
    assert (problem.field, problem.message, problem.hint) == ("client.params.api_key", MESSAGE, HINT)


@pytest.mark.parametrize(
    ("line", "field"),
    [
        ("json: {query: q, auth: {api_key: '${env:X}'}}", "json.auth.api_key"),
        ("json: [{tokens: ['${env:X}']}]", "json[0].tokens"),
        ("data: {client_secret: '${env:X}'}", "data.client_secret"),
        ("data: 'grant=a&client_secret=${env:X}'", "data"),
        ("path: 'b?api_key=${env:X}'", "path"),
        ("url: 'https://a.test/b?x=1&api_key=${env:X}'", "url"),
    ],
)
def test_a_credential_of_the_environment_is_refused_wherever_a_request_is_stored(
    line: str, field: str
) -> None:
    """In its address and in its body, at any depth."""
    address = "" if line.startswith(("path", "url")) else "path: x, "
    text = f"{HEAD}resources: [{{name: a, endpoint: {{{address}{line}}}}}]\n"
    with pytest.raises(ConfigError) as caught:
        load("a.yaml", text=text, env=ENV)
    [problem] = caught.value.problems
    assert (problem.field, problem.message) == (f"resources[0].endpoint.{field}", MESSAGE)
    assert "s3cret" not in str(caught.value)


def test_a_credential_among_the_seeds_is_refused() -> None:
    """A seed is stored with each of its tasks; what is no credential may come from the environment."""
    text = HEAD + "seeds: [{owner: '${env:X}', api_key: '${env:X}'}]\nresources: [a]\n"
    with pytest.raises(ConfigError) as caught:
        load("a.yaml", text=text, env=ENV)
    assert [problem.field for problem in caught.value.problems] == ["seeds[0].api_key"]
    text = HEAD + "seeds: {urls: 'https://a.test?api_key=${env:X}'}\nresources: [a]\n"
    with pytest.raises(ConfigError, match=MESSAGE):
        load("a.yaml", text=text, env=ENV)


def test_headers_that_are_added_when_sent_may_hold_one() -> None:
    """client.headers is never stored."""
    made = load("a.yaml", text=HEAD + "  headers: {X-Api-Key: '${env:X}'}\nresources: [a]\n", env=ENV)
    assert made.client.headers["X-Api-Key"] == "s3cret"


@pytest.mark.parametrize(
    "pair",
    [
        "author: '${env:X}'",
        "keywords: '${env:X}'",
        "tenant: '${env:X}'",
        "page_token: abc",
        "sort_key: '${now}'",
    ],
)
def test_what_is_no_credential_is_read(pair: str) -> None:
    """Names that only begin alike, and values that are not of the environment."""
    text = f"{HEAD}resources: [{{name: a, endpoint: {{path: x, params: {{{pair}}}}}}}]\n"
    assert pair.partition(":")[0] in load("a.yaml", text=text, env=ENV).resources[0].endpoint.params  # type: ignore[union-attr]
