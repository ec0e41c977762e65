"""No error shows a credential, whatever the server sends and whatever the wire reports."""

from __future__ import annotations

import asyncio

import httpx
import pytest
from fetch_server import Received, response, serving

from scrapeq import errors
from scrapeq.fetch import Egress
from scrapeq.plan import Auth, Client

SECRET = "s3cr3t/Value"
QUOTED = "s3cr3t%2FValue"
AUTH = Auth("api_key", SECRET, "api_key", "query")

RESPONSES = {
    "no HTTP": b"garbage\r\n\r\n",
    "bad header": b"HTTP/1.1 200 OK\r\nbad header\r\n\r\n",
    "bad length": b"HTTP/1.1 200 OK\r\nContent-Length: ten\r\n\r\n",
    "line too long": b"HTTP/1.1 200 " + b"x" * 100_000 + b"\r\n\r\n",
    "cut off": response(200, b"abc", length=10),
    "hangs up": b"",
    "too large": response(200, b"x" * 5000),
    "echoed to another scheme": response(302, b"", ("Location", f"ftp://a.test/?api_key={QUOTED}")),
    "echoed in no address": response(302, b"", ("Location", f"http://[::1/?api_key={SECRET}")),
    "echoed in a path": response(302, b"", ("Location", f"ftp://a.test/{SECRET}")),
    "echoed at the cut": response(302, b"", ("Location", f"ftp://a.test/{'x' * 165}?api_key={QUOTED}")),
    "echoed in a loop": response(302, b"", ("Location", f"?api_key={QUOTED}")),
    "echoed to a private host": response(302, b"", ("Location", f"http://10.0.0.1/?api_key={QUOTED}")),
}


@pytest.mark.parametrize("response_bytes", RESPONSES.values(), ids=RESPONSES)
async def test_errors_do_not_show_a_key_in_the_query(response_bytes: bytes) -> None:
    """The key was sent, but the message contains neither the key nor a part of it."""

    async def write(request: Received, writer: asyncio.StreamWriter) -> None:
        writer.write(response_bytes)
        await writer.drain()
        writer.close()

    async with serving(write) as server:
        client = Client(base_url=server.url, timeout_s=5, auth=AUTH, max_body_size=1000)
        async with Egress(client) as egress:
            with pytest.raises(errors.FetchError) as caught:
                await egress.send("GET", f"{server.url}/items")
    assert QUOTED in server.received[0].path
    assert "s3cr3t" not in f"{caught.value} {caught.value!r}"
    assert str(caught.value)


@pytest.mark.parametrize(
    "error", [httpx.ConnectError, httpx.ReadTimeout, httpx.RemoteProtocolError, httpx.UnsupportedProtocol]
)
async def test_errors_of_a_transport_are_redacted(error: type[httpx.TransportError]) -> None:
    """A transport of the user may print the URL; the message is redacted before it is truncated."""

    async def fail(request: httpx.Request) -> httpx.Response:
        raise error(f"cannot ask {request.url}")

    client = Client(base_url="https://a.test", auth=AUTH)
    async with Egress(client, transport=httpx.MockTransport(fail)) as egress:
        for length in (0, 160, 165, 170):
            with pytest.raises(errors.FetchError, match="cannot ask") as caught:
                await egress.send("GET", f"https://a.test/{'x' * length}")
            assert "s3cr" not in str(caught.value)


async def test_a_blocked_redirect_was_sent_and_a_blocked_request_was_not() -> None:
    """Only a grant whose request was never sent may be given back."""

    async def away(request: Received, writer: asyncio.StreamWriter) -> None:
        writer.write(response(302, b"", ("Location", "http://localhost/")))

    async def yes(url: str, method: str) -> bool:
        return True

    async with serving(away) as server, Egress(Client(base_url=server.url)) as egress:
        for gate in (None, yes):
            with pytest.raises(errors.Blocked) as redirected:
                await egress.send("GET", server.url, may_follow=gate)
            assert redirected.value.was_sent
        with pytest.raises(errors.Blocked) as first:
            await egress.send("GET", "http://localhost/")
        assert not first.value.was_sent
