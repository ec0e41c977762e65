"""Cookies of redirect chains and of credentials, and tokens in other headers, over real sockets."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from api_scrapes import Command
from fetch_server import Received, response, serving

from scrapeq import errors
from scrapeq.fetch import Egress
from scrapeq.plan import Auth, Client

JSON = [("Content-Type", "application/json")]
COOKIE = ("Set-Cookie", "seen=1; Path=/")


async def handshake(request: Received, writer: asyncio.StreamWriter) -> None:
    """Redirect to the same URL with a cookie, and answer only with it; `/never` redirects for ever."""
    if request.path == "/never" or "seen=1" not in (request.header("cookie") or ""):
        writer.write(response(302, b"", ("Location", request.path), COOKIE))
    else:
        writer.write(response(200, b'[{"id": 1}]', *JSON))


async def test_a_chain_sends_the_cookies_that_it_sets() -> None:
    """The next request begins without them, unless the client keeps them; a loop with cookies still ends."""
    async with serving(handshake) as server:
        async with Egress(Client(base_url=server.url)) as egress:
            for _ in range(2):
                assert (await egress.send("GET", f"{server.url}/a")).status == 200
            with pytest.raises(errors.TooManyRedirects):
                await egress.send("GET", f"{server.url}/never")
        cookies = [received.header("cookie") for received in server.received]
        assert cookies == [None, "seen=1", None, "seen=1", None, "seen=1"]
        server.received.clear()
        async with Egress(Client(base_url=server.url, cookies=True)) as egress:
            for _ in range(2):
                assert (await egress.send("GET", f"{server.url}/a")).status == 200
        assert [received.header("cookie") for received in server.received] == [None, "seen=1", "seen=1"]


async def test_another_host_gets_no_cookie() -> None:
    """Only the host that has set a cookie, or its domain, receives it."""
    async with serving(handshake, "127.0.0.2") as other:

        async def lead_away(request: Received, writer: asyncio.StreamWriter) -> None:
            writer.write(
                response(302, b"", ("Location", f"{other.url}/b"), ("Set-Cookie", "own=1; Domain=127.0.0.2"))
            )

        async with (
            serving(lead_away) as server,
            Egress(Client(base_url=server.url, allow_hosts=("127.0.0.2",), cookies=True)) as egress,
        ):
            assert (await egress.send("GET", f"{server.url}/a")).status == 200
    assert [received.header("cookie") for received in other.received] == [None, "seen=1"]


async def test_a_hop_that_waits_for_a_limit_keeps_the_cookies(tmp_path: Path) -> None:
    """The hop becomes the task, and its cookies go with it."""
    config = """\
version: 1
name: hops
client: {base_url: "URL"}
rate_limits: [{name: all, rates: [{limit: 1, interval: 1s}]}]
resources: [{name: items, primary_key: id}]
outputs: [{type: jsonl, path: out.jsonl}]
"""
    async with serving(handshake) as server:
        (tmp_path / "hops.yaml").write_text(config.replace("URL", server.url))
        await asyncio.to_thread(Command(tmp_path, "hops.yaml").run)
    assert [received.header("cookie") for received in server.received] == [None, "seen=1"]
    assert (tmp_path / "out.jsonl").read_text() == '{"id":1}\n'


@pytest.mark.parametrize(
    ("keys", "sent"),
    [
        ({}, ("authorization", "Bearer abcd")),
        ({"token_prefix": "Zoho-oauthtoken"}, ("authorization", "Zoho-oauthtoken abcd")),
        ({"token_prefix": ""}, ("authorization", "abcd")),
        ({"token_header": "X-Metabase-Session"}, ("x-metabase-session", "abcd")),
        ({"token_header": "X-Auth", "token_prefix": "Token"}, ("x-auth", "Token abcd")),
    ],
    ids=str,
)
async def test_a_token_is_sent_as_the_server_expects(keys: dict[str, str], sent: tuple[str, str]) -> None:
    """In any header, after any word or alone."""

    async def respond(request: Received, writer: asyncio.StreamWriter) -> None:
        writer.write(response(200, b"[]", *JSON))

    async with serving(respond) as server:
        auth = Auth("bearer", "abcd", **keys)  # type: ignore[arg-type]
        async with Egress(Client(base_url=server.url, auth=auth)) as egress:
            await egress.send("GET", f"{server.url}/a")
    name, value = sent
    assert server.received[0].header(name) == value
    assert name == "authorization" or server.received[0].header("authorization") is None


async def test_a_session_token_is_sent_in_its_header(tmp_path: Path) -> None:
    """The login returns it in its body."""

    async def respond(request: Received, writer: asyncio.StreamWriter) -> None:
        if request.path == "/api/session":
            writer.write(response(200, b'{"id": "issued-token"}', *JSON))
        else:
            status = 200 if request.header("x-metabase-session") == "issued-token" else 401
            writer.write(response(status, b'[{"id": 1}]', *JSON))

    config = """\
version: 1
name: session
client:
  base_url: "URL"
  auth:
    type: session
    login: {path: api/session, json: {username: a, password: "${env:PW}"}}
    session_token_path: id
    token_header: X-Metabase-Session
resources: [cards]
outputs: [{type: jsonl, path: out.jsonl}]
"""
    async with serving(respond) as server:
        (tmp_path / "session.yaml").write_text(config.replace("URL", server.url))
        await asyncio.to_thread(Command(tmp_path, "session.yaml", env={"PW": "wordword"}).run)
    assert (tmp_path / "out.jsonl").read_text() == '{"id":1}\n'
