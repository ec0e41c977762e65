"""Loading refreshable credentials and the cache, masking secrets, and the messages for invalid settings."""

from __future__ import annotations

import json

import pytest
from config_texts import client, plan, reported

from scrapeq.config import describe
from scrapeq.expression import compile_expression
from scrapeq.plan import Auth, Cache, Login

OAUTH2 = "access_token_url: 'https://a.test/token', client_id: me, client_secret: '${env:S}'"
AUTHS: list[tuple[str, Auth]] = [
    (
        f"type: oauth2_client_credentials, {OAUTH2}, client_auth: basic, scopes: [a, b], expires: 1h",
        Auth(
            "oauth2_client_credentials",
            access_token_url="https://a.test/token",
            client_id="me",
            client_secret="s3cret",
            client_auth="basic",
            scopes=("a", "b"),
            expires_s=3600.0,
        ),
    ),
    (
        f"type: oauth2_refresh_token, {OAUTH2}, refresh_token: '${{env:R}}', token_params: {{audience: x, n: 1}}",
        Auth(
            "oauth2_refresh_token",
            access_token_url="https://a.test/token",
            client_id="me",
            client_secret="s3cret",
            refresh_token="r3fresh",
            token_params={"audience": "x", "n": "1"},
        ),
    ),
    (
        "type: oauth2_refresh_token, access_token_url: 'https://a.test/t', refresh_token: '${env:R}', scopes: a b",
        Auth(
            "oauth2_refresh_token",
            access_token_url="https://a.test/t",
            refresh_token="r3fresh",
            scopes=("a b",),
        ),
    ),
    (
        "type: session, login: {path: login, form: '#login', data: {user: ann, password: '${env:S}'}}, "
        "success_when: status == 302, expires: 30m",
        Auth(
            "session",
            login=Login("login", "#login", {"user": "ann", "password": "s3cret"}),
            success_when=compile_expression("status == 302"),
            expires_s=1800.0,
        ),
    ),
    (
        "type: session, login: {path: login, json: {auth: {name: ann, secret: '${env:S}', keep: true}}}, "
        "session_token_path: data.token",
        Auth(
            "session",
            login=Login("login", json={"auth": {"name": "ann", "secret": "s3cret", "keep": True}}),
            session_token_path="data.token",
        ),
    ),
]


@pytest.mark.parametrize(("auth", "expected"), AUTHS)
def test_refreshable_credentials_are_read_and_masked(auth: str, expected: Auth) -> None:
    """Every type is read; `repr` and `describe` contain its settings but no secret."""
    made = plan(client(f"auth: {{{auth}}}"))
    assert made.client.auth == expected
    shown = json.dumps(describe(made)["client"]["auth"])
    for text in (repr(made), shown):
        assert "s3cret" not in text and "r3fresh" not in text
    assert expected.type in shown


def test_describe_masks_the_values_of_a_login() -> None:
    """Names remain, values are masked at any depth."""
    made = plan(client("auth: {type: session, login: {path: in, json: {u: ann, deep: [{pw: '${env:S}'}]}}}"))
    shown = describe(made)["client"]["auth"]
    assert shown["login"] == {"path": "in", "json": {"u": "***", "deep": [{"pw": "***"}]}}


@pytest.mark.parametrize(
    ("auth", "message"),
    [
        ("type: bearer", "client.auth: has neither token nor tokens"),
        ("type: api_key, name: k", "client.auth: has neither api_key nor api_keys"),
        ("type: bearer, token: '${env:S}', tokens: '${env:S}'", "token and tokens are mutually exclusive"),
        (
            "type: oauth2_client_credentials, access_token_url: 'https://a.test', client_id: me, client_secret: x",
            "client.auth.client_secret: a secret in clear text\n  client_secret: ${env:DEMO_CLIENT_SECRET}",
        ),
        (
            "type: oauth2_refresh_token, access_token_url: 'https://a.test', refresh_token: abc",
            "client.auth.refresh_token: a secret in clear text",
        ),
        (
            "type: oauth2_refresh_token, access_token_url: token, refresh_token: '${env:R}'",
            "access_token_url: the URL must start with http:// or https://",
        ),
        (
            "type: oauth2_refresh_token, access_token_url: 'https://u:p@a.test', refresh_token: '${env:R}'",
            "credentials in a URL",
        ),
        (
            f"type: oauth2_client_credentials, {OAUTH2}, scope: a",
            "unknown key 'scope'\n  did you mean scopes?",
        ),
        (
            f"type: oauth2_client_credentials, {OAUTH2}, token_params: {{assertion_secret: x}}",
            "token_params.assertion_secret: a secret in clear text",
        ),
        (
            "type: oauth2_refresh_token, access_token_url: 'https://a.test', refresh_token: '${env:R}', "
            "client_auth: basic",
            "basic needs client_id and client_secret",
        ),
        ("type: session", "client.auth.login: is missing"),
        (
            "type: session, login: {path: in, data: {user: ann, password: hunter2}}",
            "client.auth.login.data.password: a secret in clear text\n  password: ${env:DEMO_PASSWORD}",
        ),
        (
            "type: session, login: {path: in, json: {auth: [{Passwort: hunter2}]}}",
            "client.auth.login.json.auth[0].Passwort: a secret in clear text",
        ),
        (
            "type: session, login: {path: in, data: {a: 1}, json: {a: 1}}",
            "data and json are mutually exclusive",
        ),
        ("type: session, login: {path: in, form: f, json: {a: 1}}", "a form is sent as data"),
        ("type: session, login: {path: in}, success_when: record.ok", "unknown name 'record'"),
        ("type: sesion, login: {path: in}", "unknown type 'sesion'\n  did you mean session?"),
    ],
)
def test_invalid_auth_is_rejected(auth: str, message: str) -> None:
    """Covers keys that are missing, duplicated or in clear text; no message contains a secret."""
    text = reported(client(f"auth: {{{auth}}}"))
    assert message in text
    assert "hunter2" not in text


def test_login_path_needs_a_base_url() -> None:
    """A full URL does not."""
    text = "version: 1\nname: a\nclient: {auth: {type: session, login: {path: %s}}}\n"
    text += "resources: [{name: a, endpoint: {url: https://b.test}}]\n"
    assert "a path needs client.base_url" in reported(text % "login")
    assert plan(text % "https://b.test/login").client.auth.login == Login("https://b.test/login")


def test_cache_is_read_and_http2_is_rejected_by_name() -> None:
    """`http2: false` is accepted, because it describes the actual behavior."""
    assert plan(client("cache: {revalidate: false}, http2: false")).client.cache == Cache(False)
    assert plan(client("cache: {}")).client.cache == Cache()
    assert plan(client("cache: {revalidate: true}")).client.cache == Cache(True)
    assert plan(client("timeout: 1s")).client.cache is None
    assert "client.http2: not implemented in this version" in reported(client("http2: true"))


@pytest.mark.parametrize(
    ("name", "is_secret"),
    [
        *[
            (name, True)
            for name in ("password", "userPass", "pwd", "PIN", "Senha", "contraseña", "apiKey", "csrf_token")
        ],
        *[
            (name, False)
            for name in ("user", "grant_type", "token_type", "compass", "spinning", "keyword", "email")
        ],
    ],
)
def test_login_value_is_a_secret_by_its_name(name: str, is_secret: bool) -> None:
    """A user name may be in the file; a password may not, whatever the form calls it."""
    text = client(f"auth: {{type: session, login: {{path: in, data: {{{name}: hunter2}}}}}}")
    if is_secret:
        assert f"login.data.{name}: a secret in clear text" in reported(text)
    else:
        assert plan(text).client.auth.login == Login("in", data={name: "hunter2"})
