"""
The wire: an httpx transport over aiohttp, which pools far faster than httpx's own (docs/decisions/0002-the-wire.md).

Bodies come raw: no decoding, no redirects, no cookies, no proxies or credentials from the environment. Two pools:
connections to hosts that the user named, and guarded ones, so that neither serves the other's requests.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from types import TracebackType

import aiohttp
import httpx
import yarl
from aiohttp.http_exceptions import HttpProcessingError
from multidict import CIMultiDict

from scrapeq.errors import Blocked
from scrapeq.fetch.guard import GuardedResolver, NamedResolver, check_literal

NAMED = "scrapeq.named"  # extension of a request: whether the user named its host

MAX_HEADER_FIELDS = 256
_MAX_FIELD_BYTES = 65_536
_MAX_LINE_BYTES = 16_384
_READ_BYTES = 65_536
_KEEPALIVE_S = 15.0
_FRAMING = frozenset({"content-length", "transfer-encoding", "connection"})  # the wire's own
_ERRORS = (aiohttp.ClientError, HttpProcessingError, OSError, ValueError)
_NO_DEFAULTS = ("User-Agent", "Accept", "Accept-Encoding", "Content-Type")


class AiohttpTransport(httpx.AsyncBaseTransport):
    """
    Sends one request at a time on pooled connections.

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
            session = self._sessions[named] = aiohttp.ClientSession(
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
        return session

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Raises httpx.TransportError, or Blocked when the guard refuses the address."""
        named = bool(request.extensions.get(NAMED))
        host = request.url.raw_host.decode("ascii")
        if not named:
            check_literal(host)
        # Built from the parts that were checked: a second parser could read another host.
        path, _, query = request.url.raw_path.decode("ascii").partition("?")
        url = yarl.URL.build(
            scheme=request.url.scheme,
            host=host,
            port=request.url.port,
            path=path or "/",
            query_string=query,
            encoded=True,
        )
        headers = CIMultiDict(
            (name.decode("latin-1"), value.decode("latin-1"))
            for name, value in request.headers.raw
            if name.lower().decode("latin-1") not in _FRAMING
        )
        try:
            answer = await self._session(named).request(
                request.method, url, headers=headers, data=request.content or None, allow_redirects=False
            )
        except _ERRORS as error:
            raise _translated(error, request) from error
        return httpx.Response(
            answer.status,
            headers=list(answer.raw_headers),
            stream=_Stream(answer, request),
            extensions={"http_version": b"HTTP/1.1"},
        )

    async def aclose(self) -> None:
        """Close every connection."""
        sessions = list(self._sessions.values())
        self._sessions.clear()
        for session in sessions:
            await session.close()

    async def __aenter__(self) -> AiohttpTransport:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None = None,
        exc_value: BaseException | None = None,
        traceback: TracebackType | None = None,
    ) -> None:
        await self.aclose()


class _Stream(httpx.AsyncByteStream):
    """A raw body; closing it before its end closes the connection."""

    def __init__(self, answer: aiohttp.ClientResponse, request: httpx.Request) -> None:
        self._answer = answer
        self._request = request

    async def __aiter__(self) -> AsyncIterator[bytes]:
        try:
            async for piece in self._answer.content.iter_any():
                yield piece
        except _ERRORS as error:
            raise _translated(error, self._request) from error

    async def aclose(self) -> None:
        self._answer.close()


def _translated(error: Exception, request: httpx.Request) -> Exception:
    """aiohttp's error as httpx says it."""
    text = str(error) or type(error).__name__
    if isinstance(error, aiohttp.InvalidURL | aiohttp.NonHttpUrlClientError):
        return Blocked(f"{text}: no address that can be requested")
    if isinstance(error, aiohttp.ClientConnectorError | asyncio.TimeoutError):
        return httpx.ConnectError(text, request=request)
    if isinstance(error, aiohttp.ClientPayloadError):
        return httpx.ReadError(text, request=request)
    if isinstance(error, aiohttp.ClientResponseError | HttpProcessingError):
        return httpx.RemoteProtocolError(text, request=request)
    if isinstance(error, ValueError) and not isinstance(error, OSError):
        return httpx.LocalProtocolError(text, request=request)
    return httpx.ReadError(text, request=request)
