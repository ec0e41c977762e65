"""Credentials that would be stored with every task are rejected; similar names are not."""

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
def test_credential_in_headers_or_params_of_an_endpoint_is_rejected(key: str, name: str, value: str) -> None:
    """The problem has the position of the value, and the hint says where it belongs."""
    text = f"{HEAD}resources:\n  - name: a\n    endpoint:\n      path: x\n      {key}:\n        {name}: {value}\n"
    with pytest.raises(ConfigError) as caught:
        load("a.yaml", text=text, env=ENV)
    [problem] = caught.value.problems
    assert (problem.line, problem.col) == (10, 11 + len(name))
    assert problem.field == f"resources[0].endpoint.{key}.{name}"
    assert (problem.message, problem.hint) == (MESSAGE, HINT)
    assert "s3cret" not in str(caught.value)


def test_credential_in_the_params_of_the_client_is_rejected() -> None:
    """Params are part of the stored URL; a list of values is checked too."""
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
def test_credential_in_url_or_body_of_an_endpoint_is_rejected(line: str, field: str) -> None:
    """Bodies are checked at any depth."""
    address = "" if line.startswith(("path", "url")) else "path: x, "
    text = f"{HEAD}resources: [{{name: a, endpoint: {{{address}{line}}}}}]\n"
    with pytest.raises(ConfigError) as caught:
        load("a.yaml", text=text, env=ENV)
    [problem] = caught.value.problems
    assert (problem.field, problem.message) == (f"resources[0].endpoint.{field}", MESSAGE)
    assert "s3cret" not in str(caught.value)


def test_credential_in_a_seed_is_rejected() -> None:
    """Seeds are stored with their tasks; other values may come from the environment."""
    text = HEAD + "seeds: [{owner: '${env:X}', api_key: '${env:X}'}]\nresources: [a]\n"
    with pytest.raises(ConfigError) as caught:
        load("a.yaml", text=text, env=ENV)
    assert [problem.field for problem in caught.value.problems] == ["seeds[0].api_key"]
    text = HEAD + "seeds: {urls: 'https://a.test?api_key=${env:X}'}\nresources: [a]\n"
    with pytest.raises(ConfigError, match=MESSAGE):
        load("a.yaml", text=text, env=ENV)


def test_client_headers_may_contain_a_credential() -> None:
    """They are added when a request is sent, and never stored."""
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
def test_value_that_is_not_a_credential_is_accepted(pair: str) -> None:
    """Covers similar names, and values that are not from the environment."""
    text = f"{HEAD}resources: [{{name: a, endpoint: {{path: x, params: {{{pair}}}}}}}]\n"
    endpoint = load("a.yaml", text=text, env=ENV).resources[0].endpoint
    assert endpoint is not None and pair.partition(":")[0] in endpoint.params
