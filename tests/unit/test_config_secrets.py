"""Credentials that would be stored with every task are rejected; similar names are not."""

from __future__ import annotations

from pathlib import Path

import orjson
import pytest

from scrapeq.config import load
from scrapeq.errors import ConfigError
from scrapeq.resource import first_tasks
from scrapeq.sealing import Sealer
from scrapeq.task import Group

HEAD = "version: 1\nname: demo\nclient:\n  base_url: https://a.test\n"
MESSAGE = "this secret would be stored with every task"
ENV = {"X": "s3cret"}


def stored_and_sent(text: str, env: dict[str, str] = ENV) -> tuple[str, str]:
    """Return the first task as it is stored, and with its secrets, as it is sent."""
    plan = load("a.yaml", text=text, env=env)
    (task,) = first_tasks(plan, lambda *_: Group(), 1.0)
    stored = orjson.dumps([task.payload, task.key, task.group.name]).decode()
    return stored, Sealer(plan.client.secrets).unseal(stored)


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
def test_credentials_in_headers_and_params_are_not_stored(key: str, name: str, value: str) -> None:
    """A marker stands for each until the request is sent."""
    text = f"{HEAD}resources:\n  - name: a\n    endpoint:\n      path: x\n      {key}:\n        {name}: {value}\n"
    stored, sent = stored_and_sent(text)
    assert "s3cret" not in stored
    assert "s3cret" in sent


@pytest.mark.parametrize(
    "line",
    [
        "json: {query: q, auth: {api_key: '${env:X}'}}",
        "json: [{tokens: ['${env:X}']}]",
        "json: {login: 'a:${env:PW}'}",
        "data: {client_secret: '${env:X}'}",
        "data: 'grant=a&client_secret=${env:X}'",
        "data: '<Envelope><Password>${env:X}</Password></Envelope>'",
        "path: 'b?api_key=${env:X}'",
        "path: 'bot${env:TOK}/getUpdates'",
        "path: '${env:ACME_KEY}/a'",
        "path: '${file:secret.txt}/a'",
        "path: '${env:RANDOM}/a'",
        "params: {key: '${env:X}', token: '${env:TOK}'}",
        "url: 'https://a.test/b?x=1&api_key=${env:X}'",
    ],
)
def test_credentials_in_addresses_and_bodies_are_not_stored(
    line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are recognized by the name of the variable, by the name of the value, or by their form."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "secret.txt").write_text("s3cret\n")
    address = "" if line.startswith(("path", "url")) else "path: x, "
    method = "method: POST, " if line.startswith(("json", "data")) else ""
    env = dict.fromkeys(("X", "TOK", "ACME_KEY", "PW"), "s3cret") | {"RANDOM": "s3cret0123456789abcdef"}
    text = f"{HEAD}resources: [{{name: a, endpoint: {{{method}{address}{line}}}}}]\n"
    stored, sent = stored_and_sent(text, env)
    assert "s3cret" not in stored
    assert "s3cret" in sent


def test_credentials_of_base_url_and_client_are_not_stored() -> None:
    """The host stays readable."""
    text = HEAD.replace("https://a.test", "'https://a.test/bot${env:TOK}'")
    text += "  params: {api_key: ['${env:X}']}\nresources: [a]\n"
    stored, sent = stored_and_sent(text, {"X": "a.test", "TOK": "s3cret"})
    assert "s3cret" not in stored and "https://a.test/bot~~" in stored
    assert "https://a.test/bots3cret/a?api_key=a.test" in sent


def test_other_values_of_the_environment_are_stored_as_they_are() -> None:
    """An organization or a date is not a secret."""
    line = (
        "{name: a, endpoint: {path: 'orgs/${env:ORG}/x', params: {since: '${env:SINCE}', n: '${env:N:-50}'}}}"
    )
    stored, _ = stored_and_sent(f"{HEAD}resources: [{line}]\n", {"ORG": "acme", "SINCE": "2024-01-01"})
    assert "orgs/acme/x?since=2024-01-01&n=50" in stored


@pytest.mark.parametrize("value", ["abcdef${env:X}", "${env:X}-hunter22", "Bearer hardcoded ${env:X}"])
def test_a_secret_beside_a_placeholder_is_in_clear_text(value: str) -> None:
    """The placeholder does not hide it."""
    text = HEAD + f"  auth: {{type: bearer, token: '{value}'}}\nresources: [a]\n"
    with pytest.raises(ConfigError, match="a secret in clear text"):
        load("a.yaml", text=text, env=ENV)


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
