"""`init --curl`: the generated configuration sends the same request as curl, and the file contains no secret."""

from __future__ import annotations

import re
from typing import Any

import pytest

from scrapeq import config
from scrapeq.cli.curl import read_curl
from scrapeq.cli.curl_config import render_config
from scrapeq.cli.shell_words import shell_words
from scrapeq.cli.yaml_text import scalar
from scrapeq.config import reader
from scrapeq.errors import UsageError
from scrapeq.plan import Plan
from scrapeq.resource.next_request import Request
from scrapeq.resource.request import build_request

SECRET = "s3cr3t-value"


def load_curl(command: str) -> tuple[Plan, Request, str]:
    """Return the plan of a curl command, its first request, and the text of the file."""
    text, exports = render_config(read_curl(command), "t.yaml")
    env = {re.sub(r"export (\w+)=.*", r"\1", line): SECRET for line in exports}
    plan = config.load("t.yaml", text=text, env=env)
    (resource,) = plan.resources
    assert resource.endpoint is not None
    request = build_request(plan.client, resource.endpoint, {})
    assert request is not None
    return plan, request, text


@pytest.mark.parametrize(
    ("command", "method", "url", "body"),
    [
        ("curl https://api.acme.test/v1/items", "GET", "https://api.acme.test/v1/items", None),
        ("curl acme.test", "GET", "http://acme.test", None),
        ("curl -X DELETE 'https://acme.test/a/7'", "DELETE", "https://acme.test/a/7", None),
        ("curl -XPUT https://acme.test/a -d x=1 -d 'y=a b'", "PUT", "https://acme.test/a", "x=1&y=a%20b"),
        ("curl --url https://acme.test/a --data-raw @x", "POST", "https://acme.test/a", "@x"),
        ("curl -G https://acme.test/a?k=1 -d q=2 -d q=3", "GET", "https://acme.test/a?k=1&q=2&q=3", None),
        ("curl -sSL -G acme.test --data-urlencode 'q=a&b'", "GET", "http://acme.test?q=a%26b", None),
        ("curl --json '{\"a\": [1, null]}' acme.test/j", "POST", "http://acme.test/j", '{"a":[1,null]}'),
        (
            "curl 'https://acme.test/g' -H 'content-type: application/json' --data-raw $'{\"q\":\"a\\u0021 ${x}\"}'",
            "POST",
            "https://acme.test/g",
            '{"q":"a! ${x}"}',
        ),
        ("curl -I https://acme.test/a", "HEAD", "https://acme.test/a", None),
        ("curl -H 'Content-Type: text/plain' -d --x=1 acme.test/a", "POST", "http://acme.test/a", "--x=1"),
        (
            "curl 'https://acme.test/a/$%7Bx%7D/${y}?z=${w}&n=0123&d=2024-01-01&b=NO&e=1e5'",
            "GET",
            "https://acme.test/a/$%7Bx%7D/$%7By%7D?z=%24%7Bw%7D&n=0123&d=2024-01-01&b=NO&e=1e5",
            None,
        ),
        (
            "curl -H 'Content-Type: text/xml' --data-binary '<a b=\"c\">\n</a>' https://acme.test/x",
            "POST",
            "https://acme.test/x",
            '<a b="c">\n</a>',
        ),
    ],
)
def test_the_configuration_sends_the_request_of_curl(
    command: str, method: str, url: str, body: str | None
) -> None:
    """Method, URL and body match, whichever options of curl set them."""
    plan, request, _ = load_curl(command)
    assert (request.method, request.url, request.body) == (method, url, body)
    (resource,) = plan.resources
    assert resource.endpoint is not None and resource.endpoint.paginator.type == "auto"


def test_a_command_copied_from_a_browser_loses_only_noise_headers() -> None:
    """Continued lines are joined, and headers that a client sets itself are dropped."""
    command = r"""curl 'https://www.acme.test/api/v2/users/42/orders?sort=date' \
  -H 'accept: application/json' \
  -H 'accept-language: de' \
  -H 'sec-ch-ua: "Chromium";v="120"' \
  -H 'accept-encoding: gzip, deflate, br' \
  -H 'Content-Length: 3' -H ':authority: www.acme.test' \
  -H 'x-requested-with: XMLHttpRequest' \
  -H 'user-agent: Mozilla/5.0 (X11)' \
  --compressed --insecure"""
    plan, _, text = load_curl(command)
    assert plan.client.headers == {
        "accept": "application/json",
        "accept-language": "de",
        "x-requested-with": "XMLHttpRequest",
    }
    assert (plan.client.user_agent, plan.client.base_url) == (
        "Mozilla/5.0 (X11)",
        "https://www.acme.test/api/v2",
    )
    assert (plan.name, plan.resources[0].name) == ("t", "orders")
    assert read_curl(command).notes == ["-k was left out: scrapeq always verifies certificates"]
    assert "42/orders" in text


@pytest.mark.parametrize(
    ("options", "auth"),
    [
        (f"-H 'Authorization: Bearer {SECRET}'", {"type": "bearer", "token": SECRET}),
        (f"--oauth2-bearer {SECRET}", {"type": "bearer", "token": SECRET}),
        (f"-u me:{SECRET}", {"type": "http_basic", "password": SECRET}),
        ("-H 'Authorization: Basic bWU6czNjcjN0LXZhbHVl'", {"type": "http_basic", "password": SECRET}),
        (
            f"-H 'Authorization: token {SECRET}'",
            {"type": "api_key", "name": "Authorization", "token": SECRET},
        ),
        (f"-H 'X-Api-Key: {SECRET}'", {"type": "api_key", "name": "X-Api-Key", "location": "header"}),
        (f"-G -d api_key={SECRET}", {"type": "api_key", "name": "api_key", "location": "query"}),
    ],
)
def test_a_credential_becomes_auth_and_an_environment_variable(options: str, auth: dict[str, Any]) -> None:
    """Its value appears neither in the file nor in the URL."""
    plan, request, text = load_curl(f"curl https://acme.test/a {options}")
    for name, value in auth.items():
        assert getattr(plan.client.auth, name) == value
    assert SECRET not in text and SECRET not in request.url
    assert "bWU6" not in text


@pytest.mark.parametrize(
    ("options", "exports"),
    [
        ("-H 'Authorization: Bearer $MY_TOKEN'", ["MY_TOKEN"]),
        ('-H "Authorization: Bearer ${MY_TOKEN}"', ["MY_TOKEN"]),
        ("--oauth2-bearer $MY_TOKEN", ["MY_TOKEN"]),
        ("-u $ME:$MY_PASSWORD", ["ME", "MY_PASSWORD"]),
        ("-u me:$MY_PASSWORD", ["ACME_USERNAME", "MY_PASSWORD"]),
        ("-H 'X-Api-Key: $KEY'", ["KEY"]),
        ("-G -d api_key=$KEY", ["KEY"]),
        ("-b 'sid=$SID; csrf=${CSRF}'", ["SID", "CSRF"]),
        ("-b 'sid=$SID; csrf=1234'", ["ACME_COOKIE"]),
        ("-H 'Authorization: Token $MY_TOKEN'", ["ACME_TOKEN"]),
    ],
)
def test_a_shell_variable_keeps_its_name(options: str, exports: list[str]) -> None:
    """Unless the credential is more than the variable."""
    text, lines = render_config(read_curl(f"curl https://acme.test/a {options}"), "some/Orders v2.yaml")
    assert [line.split()[1].partition("=")[0] for line in lines] == exports
    plan = config.load("t.yaml", text=text, env=dict.fromkeys(exports, "value-of-it"))
    assert plan.name == "orders-v2"
    assert all(f"${{env:{name}}}" in text for name in exports)


def test_a_password_in_a_json_body_is_left_out_whatever_the_content_type() -> None:
    """curl sends every -d body as a form."""
    _, request, text = load_curl(f'curl https://acme.test/a -d \'{{"q": 1, "password": "{SECRET}"}}\'')
    assert SECRET not in text
    assert request.body == '{"q":1}'
    assert request.headers["Content-Type"] == "application/x-www-form-urlencoded"


def test_cookies_and_further_credentials_are_kept_out_of_the_file() -> None:
    """A cookie comes from the environment; a credential that every task would store is left out, with a note."""
    command = (
        f"curl https://acme.test/a -b 'sid={SECRET}' -H 'Authorization: Bearer {SECRET}' "
        f'-H \'X-CSRF-Token: {SECRET}\' --json \'{{"password": "{SECRET}", "token": "next"}}\' '
        f"--url-query token={SECRET} --url-query page_token=abcdefgh1"
    )
    plan, request, text = load_curl(command)
    assert SECRET not in text
    assert plan.client.headers["Cookie"] == plan.client.headers["X-CSRF-Token"] == SECRET
    assert (request.url, request.body) == ("https://acme.test/a?page_token=abcdefgh1", '{"token":"next"}')
    read = read_curl(command)
    render_config(read, "t.yaml")
    assert [note.split(" was left out")[0] for note in read.notes if "left out" in note] == [
        "the parameter token",
        "password",
    ]


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("wget https://acme.test", "not a curl command"),
        ("", "not a curl command"),
        ("curl", "--curl: missing URL"),
        ("curl ftp://acme.test", "ftp://acme.test: not an http(s) URL"),
        ("curl a.test b.test", "two URLs"),
        ("curl 'a.test", "unclosed quote '"),
        ('curl "a.test', 'unclosed quote "'),
        ("curl $'a.test", "unclosed quote $'"),
        ("curl a.test -H", "option -H requires argument"),
        ("curl a.test --frobnicate", "option --frobnicate not recognized; leave it out"),
        ("curl a.test -F file=@x", "multipart forms are not supported"),
        ("curl a.test -d @/no/such/file", "/no/such/file: cannot be read"),
        ('curl ^"https://a.test^" ^\n -H ^"a: b^"', "copy it as cURL (bash)"),
        ("curl a.test -b jar.txt", "cookie files are not read"),
    ],
)
def test_an_unsupported_command_is_one_clear_error(command: str, message: str) -> None:
    """The message names the option and what to do."""
    with pytest.raises(UsageError) as caught:
        render_config(read_curl(command), "t.yaml")
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('a \'b c\' "d\\"e" f\\ g', ["a", "b c", 'd"e', "f g"]),
        ("a \\\n b \\\r\n c", ["a", "b", "c"]),
        ("a''b \"\" ''", ["ab", "", ""]),
        (r"$'\x41\101\n\'\u00e9'", ["AA\n'é"]),
        ('"$x `y` \\z"', ["$x `y` \\z"]),
    ],
)
def test_words_are_split_as_a_shell_splits_them(text: str, words: list[str]) -> None:
    """Covers quotes, escapes and continued lines."""
    assert shell_words(text) == words


@pytest.mark.parametrize(
    "text",
    [
        "NO",
        "1e5",
        "0o17",
        "0123",
        "~",
        "null",
        "",
        " a",
        "a: b",
        "#x",
        "*",
        "a\n\tb",
        "é😀",
        "\x7f\u2028",
        "- a",
        "${x}",
    ],
)
def test_a_scalar_is_read_back_unchanged(text: str) -> None:
    """Covers strings that YAML would read as another type without quotes."""
    node = reader.read(f"x: {scalar(text)}\n", "t.yaml").get("x")
    assert node is not None and node.value == text
