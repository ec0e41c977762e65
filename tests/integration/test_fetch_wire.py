"""The egress over real sockets: the bytes that it sends, and the guard's checks of connections."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest
from fetch_server import RawResponse, Received, Server, response, serving

from scrapeq import errors
from scrapeq.fetch import Egress
from scrapeq.plan import Auth, Client

TOKEN = "s3cr3t-Value"


async def _hello(request: Received, writer: asyncio.StreamWriter) -> None:
    writer.write(response(200, b"hello", ("Set-Cookie", "a=1"), ("Set-Cookie", "b=2"), ("X-Odd", "\xfc")))


def _redirects_to(url: str, status: int = 302, body: bytes = b"") -> RawResponse:
    async def handle(request: Received, writer: asyncio.StreamWriter) -> None:
        writer.write(response(status, body, ("Location", url)))

    return handle


def _named(server: Server, **settings: Any) -> Client:
    return Client(base_url=server.url, timeout_s=5, **settings)


async def test_a_page_has_everything_as_sent() -> None:
    """The page preserves the order and repetition of headers, the body, the URL and the method."""
    async with serving(_hello) as server, Egress(_named(server)) as egress:
        page = await egress.send(
            "POST", f"{server.url}/a?b=%2F&c=x+y", headers=[("X-A", "1"), ("X-A", "2")], body=b"{}"
        )
    assert (page.status, page.body, page.url) == (200, b"hello", f"{server.url}/a?b=%2F&c=x+y")
    assert [value for name, value in page.headers if name == "Set-Cookie"] == ["a=1", "b=2"]
    assert page.header("x-odd") == "\xfc"
    assert page.elapsed_s > 0
    [request] = server.received
    assert request.line == "POST /a?b=%2F&c=x+y HTTP/1.1"
    assert request.body == b"{}"
    assert [value for name, value in request.headers if name == "X-A"] == ["1", "2"]
    names = [name.lower() for name, _ in request.headers]
    for name in ("host", "user-agent", "accept", "accept-encoding", "content-length"):
        assert names.count(name) == 1


async def test_connections_are_reused_and_cookies_are_not_stored() -> None:
    """Twenty requests use one connection without a Cookie; a short redirect body does not close it."""
    async with (
        serving(_hello) as target,
        serving(_redirects_to(target.url, body=b"x" * 1000)) as server,
        Egress(_named(server)) as egress,
    ):
        for _ in range(20):
            assert (await egress.send("GET", server.url)).body == b"hello"
    assert (server.connections, target.connections) == (1, 1)
    assert all(request.header("cookie") is None for request in (*server.received, *target.received))


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_credentials_stay_on_their_port(status: int) -> None:
    """Another port is another origin, which receives no credentials."""
    async with serving(_hello) as other, serving(_redirects_to(other.url, status)) as server:
        client = _named(
            server, auth=Auth("bearer", token=TOKEN), headers={"X-Api-Key": TOKEN, "Accept-Language": "de"}
        )
        async with Egress(client) as egress:
            await egress.send("GET", server.url, headers=[("Cookie", TOKEN), ("Proxy-Authorization", TOKEN)])
    [first], [second] = server.received, other.received
    assert [first.header(name) for name in ("authorization", "x-api-key", "cookie")] == [
        f"Bearer {TOKEN}",
        TOKEN,
        TOKEN,
    ]
    assert TOKEN not in repr(second)
    assert second.header("accept-language") == "de"


async def test_proxies_and_credentials_of_the_environment_are_not_used(
    monkeypatch: pytest.MonkeyPatch, tmp_path: object
) -> None:
    """HTTP_PROXY and .netrc are ignored."""
    async with serving(_hello) as server:
        netrc = f"{tmp_path}/netrc"
        with open(netrc, "w") as file:  # noqa: ASYNC230
            file.write(f"machine 127.0.0.1 login me password {TOKEN}\n")
        monkeypatch.setenv("NETRC", netrc)
        monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9/")
        monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:9/")
        async with Egress(_named(server)) as egress:
            assert (await egress.send("GET", server.url)).status == 200
    assert server.received[0].header("authorization") is None


async def test_a_blocked_request_does_not_connect() -> None:
    """Blocked addresses, names and redirects never reach the server."""
    async with serving(_hello) as inside:
        local = f"http://localhost:{inside.port}/"
        async with serving(_redirects_to(local)) as server, Egress(_named(server)) as egress:
            with pytest.raises(errors.Blocked, match="localhost"):
                await egress.send("GET", server.url)
        async with Egress(Client()) as egress:
            for url in (inside.url, local, f"http://[::ffff:127.0.0.1]:{inside.port}/"):
                with pytest.raises(errors.Blocked):
                    await egress.send("GET", url)
    assert inside.connections == 0


async def test_a_connection_to_a_named_host_is_not_shared() -> None:
    """A host that is named for one request is not named for the next."""
    async with serving(_hello) as inside, Egress(Client()) as egress:
        assert (await egress.send("GET", inside.url, named_hosts=[inside.url])).status == 200
        with pytest.raises(errors.Blocked):
            await egress.send("GET", inside.url)
        local = f"localhost:{inside.port}"
        assert (await egress.send("GET", f"http://{local}/", named_hosts=["localhost"])).status == 200
        with pytest.raises(errors.Blocked):
            await egress.send("GET", f"http://{local}/")
    assert len(inside.received) == 2


async def test_the_transport_of_httpx_is_a_wire() -> None:
    """Any httpx transport can replace the default."""
    async with (
        serving(_hello) as server,
        Egress(_named(server), transport=httpx.AsyncHTTPTransport()) as egress,
    ):
        assert (await egress.send("GET", server.url)).body == b"hello"
        with pytest.raises(errors.ConnectionFailed):
            await egress.send("GET", "http://127.0.0.1:9/")

    async def short(request: Received, writer: asyncio.StreamWriter) -> None:
        writer.write(response(200, b"hello", length=50))
        await writer.drain()
        writer.close()

    async with (
        serving(short) as server,
        Egress(_named(server), transport=httpx.AsyncHTTPTransport()) as egress,
    ):
        with pytest.raises(errors.Truncated):
            await egress.send("GET", server.url)


@pytest.mark.parametrize("method", ["HEAD", "GET"])
async def test_responses_without_a_body_end_after_their_headers(method: str) -> None:
    """Responses to HEAD and 304 responses end after their headers, whatever their Content-Length."""

    async def handle(request: Received, writer: asyncio.StreamWriter) -> None:
        status = 200 if method == "HEAD" else 304
        writer.write(response(status, b"", ("Content-Encoding", "gzip"), length=999_999_999))

    async with serving(handle) as server, Egress(_named(server)) as egress:
        page = await egress.send(method, server.url)
    assert page.body == b""


async def test_a_broken_connection_is_not_retried_silently() -> None:
    """A grant is for one request, so the caller decides about a retry."""

    async def hangs_up(request: Received, writer: asyncio.StreamWriter) -> None:
        if request.path == "/first":
            writer.write(response(200, b"hello"))
        else:
            writer.close()

    async with serving(hangs_up) as server, Egress(_named(server)) as egress:
        assert (await egress.send("GET", f"{server.url}/first")).body == b"hello"
        with pytest.raises(errors.ConnectionFailed):
            await egress.send("GET", f"{server.url}/second")
    assert [request.path for request in server.received] == ["/first", "/second"]
    assert server.connections == 1
