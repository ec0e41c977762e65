"""
The wire: sends one request and returns one raw response.

It does not decode, follow redirects, store cookies, or read proxies and credentials from the environment. The egress
does the first three; the last is never done.

`AiohttpWire` is the default, since the connection pool of httpx is slow (decision 0002). `HttpxWire` uses any httpx
transport. Both raise httpx.TransportError, or Blocked if the guard rejects an address.
"""

from __future__ import annotations

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
from scrapeq.fetch.names import NameFailed, Names, Postponed, is_exhaustion
from scrapeq.resource.host import bracketed

Fields = Sequence[tuple[str, str]]

MAX_HEADER_FIELDS = 256
_MAX_FIELD_BYTES = 65_536
_MAX_LINE_BYTES = 16_384
_READ_BYTES = 65_536
_KEEPALIVE_S = 15.0
_ERRORS = (aiohttp.ClientError, HttpProcessingError, OSError, ValueError)
_CERTIFICATE_IS_WRONG = frozenset(
    {9, 10, 62, 64}
)  # X509_V_ERR_*: not yet valid, expired, another host or address
_OWN_AUTHORITY = "; to trust another certificate authority, set SSL_CERT_FILE to a file with its certificate"
_BROKEN_HANDSHAKES = (ssl.SSLEOFError, ssl.SSLZeroReturnError, ssl.SSLSyscallError)
_PASSING_REASONS = frozenset({"TLSV1_ALERT_INTERNAL_ERROR", "DECRYPTION_FAILED_OR_BAD_RECORD_MAC"})
_NOT_TLS = frozenset(
    {"WRONG_VERSION_NUMBER", "HTTP_REQUEST", "RECORD_LAYER_FAILURE", "PACKET_LENGTH_TOO_LONG"}
)
_MORE_DESCRIPTORS = "raise the limit of open files (`ulimit -n`), or lower `run.concurrency`"
_EXHAUSTED_DELAY_S = 2.0
_NO_DEFAULTS = ("User-Agent", "Accept", "Accept-Encoding", "Content-Type")


class TlsHandshakeError(httpx.ConnectError):
    """The TLS handshake failed in a way that another attempt would repeat."""


class NameLookupError(httpx.ConnectError):
    """The name of the host does not resolve; for `wait_s` seconds another attempt would get the same answer."""

    def __init__(self, message: str, wait_s: float) -> None:
        self.wait_s = wait_s
        super().__init__(message)


class RawResponse:
    """
    The head of a response, and its undecoded body as a stream.

    Call `aclose` in any case. If the body was not read to its end, that closes the connection.

    Args:
        status: The status code.
        raw_headers: The header fields as bytes.
        pieces: The body.
        aclose: Releases the connection.

    Attributes:
        headers: The header fields as text, in order.
        by_name: Lower-case name -> value; repeated fields joined with a comma.
        content: The decoded body, once `response.read` has read it.
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
        """Return the value of a header by its lower-case name; "" if it is absent."""
        return self.by_name.get(name, "")


def _text(raw: bytes) -> str:
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        return raw.decode("latin-1")


class Wire(Protocol):
    """Sends one request. The egress uses one wire for all requests of a client."""

    async def send(
        self, method: str, url: httpx.URL, headers: Fields, body: bytes | None, *, named: bool
    ) -> RawResponse:
        """
        Send a request and return its response, with the body unread.

        Args:
            method, url, headers, body: The request, exactly as it is to be sent.
            named: The user named the host, so it may have a private address.

        Raises:
            httpx.TransportError: the request got no response.
            Blocked: the host is not named, and its address is not public.
            Postponed: the lookup of the host's name takes long, or this machine lacks file descriptors; nothing was
                sent.
        """

    async def aclose(self) -> None:
        """Close every connection."""


class AiohttpWire:
    """
    A wire over aiohttp, with two connection pools: one for hosts that the user named, and a guarded one for all others.

    Args:
        connections: The connection limit of each pool.
        ssl_context: The TLS settings; None = verify with the certificates of the system.
        name_patience_s: How long a request waits for the lookup of its host's name before Postponed; None = until
            its deadline, and nothing is postponed.
    """

    def __init__(
        self,
        *,
        connections: int = 100,
        ssl_context: ssl.SSLContext | None = None,
        name_patience_s: float | None = None,
    ) -> None:
        self._connections = connections
        self._names = Names(name_patience_s)
        self._postpones = name_patience_s is not None
        self._ssl = ssl_context
        self._sessions: dict[bool, aiohttp.ClientSession] = {}

    def _session(self, named: bool) -> aiohttp.ClientSession:
        session = self._sessions.get(named)
        if session is None:
            session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(
                    limit=self._connections,
                    resolver=NamedResolver(self._names) if named else GuardedResolver(self._names),
                    use_dns_cache=False,  # `Names` has one, also for failures
                    ssl=self._ssl or True,
                    keepalive_timeout=_KEEPALIVE_S,
                ),
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,
                trust_env=False,
                timeout=aiohttp.ClientTimeout(
                    total=None, sock_connect=None
                ),  # the egress enforces the deadline
                read_bufsize=_READ_BYTES,
                max_line_size=_MAX_LINE_BYTES,
                max_field_size=_MAX_FIELD_BYTES,
                max_headers=MAX_HEADER_FIELDS,
                skip_auto_headers=_NO_DEFAULTS,
            )
            # One grant is one request. If a pooled connection is broken, aiohttp would silently send the request
            # again on a new one, without a public option to turn that off.
            session._retry_connection = False
            self._sessions[named] = session
        return session

    async def send(
        self, method: str, url: httpx.URL, headers: Fields, body: bytes | None, *, named: bool
    ) -> RawResponse:
        """See `Wire.send`."""
        host = url.raw_host.decode("ascii")
        if not named:
            check_literal(host)
        # Build the URL from the parts that were checked: a second parser could read another host.
        path, _, query = url.raw_path.decode("ascii").partition("?")
        try:
            target = yarl.URL.build(
                scheme=url.scheme,
                host=bracketed(host),
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
            cause = error.os_error if isinstance(error, aiohttp.ClientConnectorError) else error
            if self._postpones and is_exhaustion(cause):
                assert isinstance(cause, OSError) and cause.errno is not None
                raise Postponed(
                    f"{os.strerror(cause.errno)}; {_MORE_DESCRIPTORS}", _EXHAUSTED_DELAY_S
                ) from None
            raise _translated(error) from error

        async def aclose() -> None:
            raw.close()

        return RawResponse(raw.status, raw.raw_headers, _pieces(raw), aclose)

    async def aclose(self) -> None:
        """Close every connection."""
        self._names.close()
        sessions = list(self._sessions.values())
        self._sessions.clear()
        for session in sessions:
            await session.close()


class ObservedWire:
    """
    A wire that reports each request, including its credentials, before sending it.

    Args:
        wire: Sends the requests.
        on_send: Called with method, URL, header fields and body.
    """

    def __init__(self, wire: Wire, on_send: Callable[[str, str, Fields, bytes | None], None]) -> None:
        self._wire = wire
        self._on_send = on_send

    async def send(
        self, method: str, url: httpx.URL, headers: Fields, body: bytes | None, *, named: bool
    ) -> RawResponse:
        """See `Wire.send`."""
        self._on_send(method, str(url), headers, body)
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
    """Return an error of aiohttp as one of httpx, without the URL in its text, which may contain a credential."""
    if isinstance(error, aiohttp.InvalidURL | aiohttp.NonHttpUrlClientError):
        return httpx.UnsupportedProtocol("not a URL that can be requested")
    if isinstance(error, aiohttp.ConnectionTimeoutError):
        return httpx.ConnectTimeout("the connection timed out")
    if isinstance(error, aiohttp.ClientResponseError):
        return httpx.RemoteProtocolError(f"{error.status}, {error.message}")
    text = str(error) or type(error).__name__
    if isinstance(error, aiohttp.ClientConnectorError) and isinstance(error.os_error, ssl.SSLError):
        return _handshake_error(error, error.os_error)
    if isinstance(error, aiohttp.ClientConnectorError):
        number = error.os_error.errno or 0
        where = f"cannot connect to {bracketed(error.host)}:{error.port}"
        if isinstance(error.os_error, NameFailed):  # its errno is not one of the system
            return NameLookupError(f"{where}: {error.os_error.strerror or text}", error.os_error.wait_s)
        # After a failed connect, strerror is the address instead of the reason.
        reason = os.strerror(number) if number in errno.errorcode else error.os_error.strerror or text
        return httpx.ConnectError(f"{where}: {reason}")
    if isinstance(error, TimeoutError):
        return httpx.ConnectError(text)
    if isinstance(error, HttpProcessingError):
        return httpx.RemoteProtocolError(text)
    if isinstance(error, ValueError):
        return httpx.LocalProtocolError(text)
    return httpx.ReadError(text)


def _handshake_error(error: aiohttp.ClientConnectorError, cause: ssl.SSLError) -> httpx.ConnectError:
    """Return the error of a TLS handshake in OpenSSL's words. `errno` of an `ssl.SSLError` is not one of the system."""
    where = f"{bracketed(error.host)}:{error.port}"
    if isinstance(cause, ssl.SSLCertVerificationError):
        reason = cause.verify_message.rstrip(".")
        remedy = "" if cause.verify_code in _CERTIFICATE_IS_WRONG else _OWN_AUTHORITY
        return TlsHandshakeError(f"{where}: certificate verify failed: {reason}{remedy}")
    reason = (cause.reason or cause.strerror or str(cause)).replace("_", " ").lower()
    if isinstance(cause, _BROKEN_HANDSHAKES) or cause.reason in _PASSING_REASONS:
        return httpx.ConnectError(f"{where}: the TLS handshake broke: {reason}")
    remedy = (
        "; the server does not speak TLS on this port, so use http://" if cause.reason in _NOT_TLS else ""
    )
    return TlsHandshakeError(f"{where}: TLS: {reason}{remedy}")


class HttpxWire:
    """A wire over any httpx transport, which must check the addresses of host names itself."""

    def __init__(self, transport: httpx.AsyncBaseTransport) -> None:
        self._transport = transport

    async def send(
        self, method: str, url: httpx.URL, headers: Fields, body: bytes | None, *, named: bool
    ) -> RawResponse:
        """See `Wire.send`. Raises what the transport raises."""
        encoded = [(name.encode("latin-1"), value.encode("utf-8")) for name, value in headers]
        request = httpx.Request(method, url, headers=encoded, content=body)
        response = await self._transport.handle_async_request(request)
        stream = response.stream
        assert isinstance(stream, httpx.AsyncByteStream)
        return RawResponse(response.status_code, response.headers.raw, aiter(stream), response.aclose)

    async def aclose(self) -> None:
        """Close the transport."""
        await self._transport.aclose()
