"""
The wire: one request out, one raw answer in. No decoding, redirects, cookies, nor proxies or credentials from the
environment; those are the egress's, or nobody's.

`AiohttpWire` is the default, since httpx pools slowly (docs/decisions/0002-aiohttp-behind-a-wire-protocol.md);
`HttpxWire` drives any httpx transport. Both raise httpx.TransportError, or Blocked when the guard refuses an address.
"""

from __future__ import annotations

import asyncio
import errno
import os
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from typing import Protocol

import aiohttp
import httpx
import yarl
from aiohttp.http_exceptions import HttpProcessingError
from multidict import CIMultiDict

from scrapeq.fetch.guard import GuardedResolver, NamedResolver, check_literal

Fields = Sequence[tuple[str, str]]

MAX_HEADER_FIELDS = 256
_MAX_FIELD_BYTES = 65_536
_MAX_LINE_BYTES = 16_384
_READ_BYTES = 65_536
_KEEPALIVE_S = 15.0
_ERRORS = (aiohttp.ClientError, HttpProcessingError, OSError, ValueError)
_NO_DEFAULTS = ("User-Agent", "Accept", "Accept-Encoding", "Content-Type")


class RawResponse:
    """
    The head of an answer, and its raw body as a stream.

    `aclose` must be called; before the body's end it closes the connection. `content`: the decoded body, once read.
    """

    __slots__ = ("aclose", "by_name", "content", "headers", "pieces", "status")

    def __init__(
        self,
        status: int,
        raw_headers: Iterable[tuple[bytes, bytes]],
        pieces: AsyncIterator[bytes],
        aclose: Callable[[], Awaitable[None]],
    ) -> None:
        self.status = status
        self.content: bytes | None = None
        self.headers = tuple((_text(name), _text(value)) for name, value in raw_headers)
        self.pieces = pieces
        self.aclose = aclose
        self.by_name: dict[str, str] = {}
        for name, value in self.headers:
            key = name.lower()
            self.by_name[key] = f"{self.by_name[key]}, {value}" if key in self.by_name else value

    def header(self, name: str) -> str:
        """A field's value by its lower-case name, repeats joined; "" if absent."""
        return self.by_name.get(name, "")


def _text(raw: bytes) -> str:
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        return raw.decode("latin-1")


class Wire(Protocol):
    """Sends one request."""

    async def send(
        self, method: str, url: httpx.URL, headers: Fields, body: bytes | None, *, named: bool
    ) -> RawResponse:
        """`named`: the user named the host, so it may be a private one. Raises httpx.TransportError, Blocked."""

    async def aclose(self) -> None:
        """Close every connection."""


class AiohttpWire:
    """
    aiohttp's connector and parser, with two pools: connections to hosts that the user named, and guarded ones, so that
    neither serves the other's requests.

    Args:
        connections: The most at once, in each pool.
        ssl_context: For https; None = the machine's certificates.
    """

    def __init__(self, *, connections: int = 100, ssl_context: ssl.SSLContext | None = None) -> None:
        self._connections = connections
        self._ssl = ssl_context
        self._sessions: dict[bool, aiohttp.ClientSession] = {}

    def _session(self, named: bool) -> aiohttp.ClientSession:
        session = self._sessions.get(named)
        if session is None:
            session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(
                    limit=self._connections,
                    resolver=NamedResolver() if named else GuardedResolver(),
                    ssl=self._ssl or True,
                    keepalive_timeout=_KEEPALIVE_S,
                ),
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,
                trust_env=False,
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=None),  # the egress holds the deadline
                read_bufsize=_READ_BYTES,
                max_line_size=_MAX_LINE_BYTES,
                max_field_size=_MAX_FIELD_BYTES,
                max_headers=MAX_HEADER_FIELDS,
                skip_auto_headers=_NO_DEFAULTS,
            )
            # One grant is one request: aiohttp would repeat one on a new connection by itself when a kept one broke,
            # and has no public way to say no.
            session._retry_connection = False
            self._sessions[named] = session
        return session

    async def send(
        self, method: str, url: httpx.URL, headers: Fields, body: bytes | None, *, named: bool
    ) -> RawResponse:
        """Raises httpx.TransportError, or Blocked when the guard refuses the address."""
        host = url.raw_host.decode("ascii")
        if not named:
            check_literal(host)
        # Built from the parts that were checked: a second parser could read another host.
        path, _, query = url.raw_path.decode("ascii").partition("?")
        try:
            target = yarl.URL.build(
                scheme=url.scheme,
                host=host,
                port=url.port,
                path=path or "/",
                query_string=query,
                encoded=True,
            )
            raw = await self._session(named).request(
                method,
                target,
                headers=CIMultiDict(headers),
                data=body or None,
                allow_redirects=False,
            )
        except _ERRORS as error:
            raise _translated(error) from error

        async def aclose() -> None:
            raw.close()

        return RawResponse(raw.status, raw.raw_headers, _pieces(raw), aclose)

    async def aclose(self) -> None:
        """Close every connection."""
        sessions = list(self._sessions.values())
        self._sessions.clear()
        for session in sessions:
            await session.close()


class WatchedWire:
    """A wire that tells each request, credentials and all, before it sends it."""

    def __init__(self, wire: Wire, tell: Callable[[str, str, Fields, bytes | None], None]) -> None:
        self._wire = wire
        self._tell = tell

    async def send(
        self, method: str, url: httpx.URL, headers: Fields, body: bytes | None, *, named: bool
    ) -> RawResponse:
        """As the wire does."""
        self._tell(method, str(url), headers, body)
        return await self._wire.send(method, url, headers, body, named=named)

    async def aclose(self) -> None:
        """Close every connection."""
        await self._wire.aclose()


async def _pieces(raw: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
    content = raw.content
    try:
        while piece := await content.readany():
            yield piece
    except _ERRORS as error:
        raise _translated(error) from error


def _translated(error: Exception) -> Exception:
    """aiohttp's error as httpx says it, without the URL that some of them print: a credential may stand in it."""
    if isinstance(error, aiohttp.InvalidURL | aiohttp.NonHttpUrlClientError):
        return httpx.UnsupportedProtocol("no address that can be requested")
    if isinstance(error, aiohttp.ConnectionTimeoutError):
        return httpx.ConnectTimeout("no connection in time")
    if isinstance(error, aiohttp.ClientResponseError):
        return httpx.RemoteProtocolError(f"{error.status}, {error.message}")
    text = str(error) or type(error).__name__
    if isinstance(error, aiohttp.ClientConnectorError):
        number = error.os_error.errno or 0
        # A failed connect call says its address instead of a reason; an unknown name has no number of the system's.
        reason = os.strerror(number) if number in errno.errorcode else error.os_error.strerror or text
        return httpx.ConnectError(f"cannot connect to {error.host}:{error.port}: {reason}")
    if isinstance(error, aiohttp.ClientConnectorError | asyncio.TimeoutError):
        return httpx.ConnectError(text)
    if isinstance(error, HttpProcessingError):
        return httpx.RemoteProtocolError(text)
    if isinstance(error, ValueError):
        return httpx.LocalProtocolError(text)
    return httpx.ReadError(text)


class HttpxWire:
    """Any httpx transport. It must check by itself the addresses that names lead to."""

    def __init__(self, transport: httpx.AsyncBaseTransport) -> None:
        self._transport = transport

    async def send(
        self, method: str, url: httpx.URL, headers: Fields, body: bytes | None, *, named: bool
    ) -> RawResponse:
        """Raises what the transport raises."""
        encoded = [(name.encode("latin-1"), value.encode("utf-8")) for name, value in headers]
        request = httpx.Request(method, url, headers=encoded, content=body)
        response = await self._transport.handle_async_request(request)
        stream = response.stream
        assert isinstance(stream, httpx.AsyncByteStream)
        return RawResponse(response.status_code, response.headers.raw, aiter(stream), response.aclose)

    async def aclose(self) -> None:
        """Close the transport."""
        await self._transport.aclose()
