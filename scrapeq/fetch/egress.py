"""
The egress: one deadline around guard, credentials, the wire, redirects, caps and decoding.

It ends in a whole page or in a FetchError, and never holds more than `max_body_size` of an answer.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from types import TracebackType
from typing import Self

import httpx

from scrapeq.clock import Clock, SystemClock
from scrapeq.errors import (
    BadAnswer,
    Blocked,
    BodyTooLarge,
    ConnectionFailed,
    DeadlineExceeded,
    FetchError,
    ScrapeqError,
    TooManyRedirects,
    Truncated,
)
from scrapeq.fetch import auth as credentials
from scrapeq.fetch import redirects
from scrapeq.fetch.auth import Credential
from scrapeq.fetch.decoding import ACCEPT_ENCODING, Body
from scrapeq.fetch.guard import NamedHosts, check_literal
from scrapeq.fetch.redirects import Hop, origin, shown
from scrapeq.fetch.wire import MAX_HEADER_FIELDS, AiohttpWire, Answer, HttpxWire, Wire
from scrapeq.page import Page
from scrapeq.plan import Client
from scrapeq.version import __version__

HopGate = Callable[[str, str], Awaitable[bool]]

_MAX_HEADER_BYTES = 262_144
_REDIRECT_BODY_BYTES = 16_384  # read so that the connection can be used again; a longer one is cut off
_DEFAULT_PORTS = {"http": 80, "https": 443}
_NOBODY = NamedHosts()
_FRAMING = frozenset({"content-length", "transfer-encoding", "connection", "host"})  # the wire's own
_BODILESS = frozenset({204, 304})
_SECONDS = re.compile(r"[0-9]+(?:\.[0-9]+)?", re.ASCII)
_CONTROL = frozenset(map(chr, (*range(9), *range(10, 32), 127)))


class HopClosed(ScrapeqError):
    """
    A redirect hop may not be sent now; the caller makes a task of it.

    `headers` and `body` are what the hop would have carried, without the client's credentials.
    """

    def __init__(
        self, method: str, url: str, headers: tuple[tuple[str, str], ...], body: bytes | None
    ) -> None:
        self.method = method
        self.url = url
        self.headers = headers
        self.body = body
        super().__init__(f"the limit for {method} {shown(url)} is closed")


class Egress:
    """
    The one way out.

    Args:
        client: Timeout, body cap, credentials, headers.
        transport: The wire; None = aiohttp with the guard at its connections. A transport of your own must
            check the addresses that names lead to by itself.
        clock: For elapsed times.
        max_redirects: The most hops after the first request.
        connections: The most open at once.
        named_hosts: More hosts that the user named, beside base_url's and allow_hosts.
        auth: A credential of your own instead of `client.auth`.
        members: The tokens of a pool by their names; `send` says which one.
    """

    def __init__(
        self,
        client: Client,
        *,
        transport: httpx.AsyncBaseTransport | None = None,
        clock: Clock | None = None,
        max_redirects: int = 10,
        connections: int = 100,
        named_hosts: Iterable[str] = (),
        auth: httpx.Auth | None = None,
        members: Mapping[str, str] | None = None,
    ) -> None:
        self._client = client
        self._wire: Wire = HttpxWire(transport) if transport else AiohttpWire(connections=connections)
        self._clock = clock or SystemClock()
        self._max_redirects = max_redirects
        self._named = NamedHosts((client.base_url, *client.allow_hosts, *named_hosts))
        self._auth = credentials.from_httpx(auth) if auth else credentials.credential(client.auth)
        self._members = {
            name: credentials.credential(replace(client.auth, token=token))
            for name, token in (members or {}).items()
        }
        self._home = (
            origin(redirects.parse(client.base_url))
            if client.base_url.startswith(("http://", "https://"))
            else None
        )
        self._away = {
            "user-agent": ("User-Agent", client.user_agent or f"scrapeq/{__version__}"),
            "accept": ("Accept", "*/*"),
            "accept-encoding": ("Accept-Encoding", ACCEPT_ENCODING),
        }
        own = [(name, str(value)) for name, value in client.headers.items()]
        _check_fields(own)
        self._away.update({f[0].lower(): f for f in own if f[0].lower() in redirects.SAFE_FIELDS})
        self._at_home = self._away | {field[0].lower(): field for field in own}

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._wire.aclose()

    async def send(
        self,
        method: str,
        url: str,
        *,
        headers: Sequence[tuple[str, str]] = (),
        body: bytes | None = None,
        deadline_s: float | None = None,
        hop: HopGate | None = None,
        named_hosts: Iterable[str] = (),
        home: str = "",
        member: str = "",
    ) -> Page:
        """
        Send one request, follow its redirects, and read the whole answer.

        Args:
            method, url, headers, body: The request. Its headers stay with its origin, but for harmless ones.
            deadline_s: Seconds for everything; None = the client's timeout.
            hop: Asked with (url, method) before each redirect hop; False ends in HopClosed.
            named_hosts: Hosts that the user named for this request, as `host`, `host:port` or a URL.
            home: Where there is no base_url: a URL to whose origin the client's credentials go.
            member: Which token of a pool is sent; it must be known (`knows`).

        Raises:
            FetchError: Blocked, DeadlineExceeded, ConnectionFailed, BadAnswer, Truncated, BodyTooLarge or
                TooManyRedirects, each with one line that says what and where, and no credential.
            HopClosed: `hop` said no.
        """
        try:
            named = NamedHosts(named_hosts) if named_hosts else _NOBODY
            auth = self._members[member] if member else self._auth
            return await self._send(method, url, headers, body, deadline_s, hop, named, home, auth)
        except FetchError as error:
            error.args = (self._hidden(str(error)),)
            raise

    async def _send(
        self,
        method: str,
        url: str,
        headers: Sequence[tuple[str, str]],
        body: bytes | None,
        deadline_s: float | None,
        gate: HopGate | None,
        named: NamedHosts,
        home_url: str,
        auth: Credential | None,
    ) -> Page:
        limit_s = self._client.timeout_s if deadline_s is None else deadline_s
        _check_fields(headers)
        first = Hop(method.upper(), self._without_secret(redirects.parse(url)), tuple(headers), body)
        home = self._home or (origin(redirects.parse(home_url)) if home_url else None)
        started_s = self._clock.monotonic_s()
        try:
            async with asyncio.timeout(limit_s):
                last, answer = await self._follow(first, home, named, gate, auth)
                try:
                    content = await self._read(last, answer)
                finally:
                    await answer.aclose()
        except TimeoutError:
            raise DeadlineExceeded(f"{_names(first)}: no whole answer in {limit_s:g} s") from None
        return Page(
            url=str(last.url),
            status=answer.status,
            headers=answer.headers,
            body=content,
            elapsed_s=self._clock.monotonic_s() - started_s,
            requested_url=url,
            method=last.method,
        )

    async def _follow(
        self,
        current: Hop,
        home: tuple[str, str, int | None] | None,
        named: NamedHosts,
        gate: HopGate | None,
        auth: Credential | None,
    ) -> tuple[Hop, Answer]:
        """The last hop of a chain and its answer, unread."""
        seen: set[tuple[str, str]] = set()
        was_sent = False  # a request, under the grant in use
        try:
            while True:
                answer = await self._send_one(current, home, named, auth)
                location = answer.header("location")
                if answer.status not in redirects.STATUSES or not location or _says_wait(answer):
                    return current, answer
                was_sent = True
                await _drop(answer)
                seen.add((current.method, str(current.url)))
                if len(seen) > self._max_redirects:
                    raise TooManyRedirects(f"{_names(current)}: more than {self._max_redirects} redirects")
                target = redirects.next_hop(current, answer.status, location)
                current = Hop(target.method, self._without_secret(target.url), target.headers, target.body)
                if (current.method, str(current.url)) in seen:
                    raise TooManyRedirects(f"{_names(current)}: the redirects lead in a circle")
                if gate is not None:
                    self._check(current, named)
                    if not await gate(str(current.url), current.method):
                        raise HopClosed(current.method, str(current.url), current.headers, current.body)
                    was_sent = False
        except Blocked as error:
            error.was_sent = was_sent
            raise

    @property
    def members(self) -> tuple[str, ...]:
        """The names of the pool's tokens."""
        return tuple(self._members)

    def knows(self, member: str) -> bool:
        """Whether this token of a pool is known here; "" is."""
        return not member or member in self._members

    def refresh(self, member: str = "") -> bool:
        """
        The credential that this asyncio task's last request carried is bad (a 401): the next one gets another.

        Args:
            member: Which of a pool it was.

        Returns:
            Whether it was forgotten: the next request asks for a new one. False where one that is newer is there
            already, or none can be asked for (a plain token).
        """
        return False

    def _hidden(self, text: str) -> str:
        return credentials.hidden(text, self._client.auth)

    def _without_secret(self, url: httpx.URL) -> httpx.URL:
        return credentials.without_secret(url, self._client.auth)

    def _check(self, hop: Hop, named: NamedHosts) -> bool:
        """Whether the user named the host. Raises Blocked when not, and it is written as a special address."""
        host = hop.url.raw_host.decode("ascii")
        place = (host, hop.url.port or _DEFAULT_PORTS[hop.url.scheme])
        if place in self._named or place in named:
            return True
        check_literal(host)
        return False

    async def _send_one(
        self,
        hop: Hop,
        home: tuple[str, str, int | None] | None,
        named: NamedHosts,
        auth: Credential | None,
    ) -> Answer:
        is_named = self._check(hop, named)
        at_home = home is not None and origin(hop.url) == home
        client_fields = self._at_home if at_home else self._away
        if hop.headers:
            own = {name.lower() for name, _ in hop.headers}
            fields = [field for name, field in client_fields.items() if name not in own]
            fields += [field for field in hop.headers if field[0].lower() not in _FRAMING]
        else:
            fields = list(client_fields.values())
        url = hop.url
        if at_home and auth is not None:
            url, fields = auth(url, fields)
        try:
            answer = await self._wire.send(hop.method, url, fields, hop.body, named=is_named)
        except httpx.TransportError as error:
            raise _failed(hop, error, self._hidden(str(error))) from None
        try:
            self._check_head(hop, answer)
        except FetchError:
            await answer.aclose()
            raise
        return answer

    def _check_head(self, hop: Hop, answer: Answer) -> None:
        if not 200 <= answer.status <= 999:
            raise BadAnswer(f"{_names(hop)}: status {answer.status} is no answer")
        size = sum(len(name) + len(value) for name, value in answer.headers)
        if len(answer.headers) > MAX_HEADER_FIELDS or size > _MAX_HEADER_BYTES:
            raise BadAnswer(
                f"{_names(hop)}: {len(answer.headers)} header fields of {size} bytes are too many"
            )

    async def _read(self, hop: Hop, answer: Answer) -> bytes:
        """The decoded body."""
        try:
            collected = Body(answer.header("content-encoding"), self._client.max_body_size)
            length = answer.header("content-length")
            has_body = hop.method != "HEAD" and answer.status not in _BODILESS
            if has_body and not collected.is_encoded and length.isascii() and length.isdigit():
                collected.expect(length)
            async for piece in answer.pieces:
                collected.feed(piece)
            return collected.finish()
        except httpx.TransportError as error:
            raise _broke_off(hop, error, self._hidden(str(error))) from None
        except (BadAnswer, BodyTooLarge) as error:
            raise type(error)(f"{_names(hop)}: {error}") from None


def _check_fields(fields: Iterable[tuple[str, str]]) -> None:
    """Refuse what would end a field and begin another."""
    for name, value in fields:
        if not _CONTROL.isdisjoint(name + value) or not name.isascii():
            raise Blocked(f"the header {shown(name)!r} holds a control character, or is none")


def _names(hop: Hop) -> str:
    return f"{hop.method} {shown(str(hop.url))}"


def _says_wait(answer: Answer) -> bool:
    """A redirect with a Retry-After asks for time before the next request (RFC 9110, 10.2.3): a refusal."""
    value = answer.header("retry-after").strip()
    if _SECONDS.fullmatch(value):
        return float(value) > 0
    return value.endswith("GMT")


async def _drop(answer: Answer) -> None:
    """Read a little of a redirect's body, undecoded, and close."""
    left = _REDIRECT_BODY_BYTES
    try:
        async for piece in answer.pieces:
            left -= len(piece)
            if left < 0:
                break
    except httpx.TransportError:
        pass  # what matters of a redirect has come
    finally:
        await answer.aclose()


def _failed(hop: Hop, error: httpx.TransportError, told: str) -> FetchError:
    """The error of a request that got no answer."""
    text = f"{_names(hop)}: {shown(told) or type(error).__name__}"
    if isinstance(error, httpx.TimeoutException):
        return DeadlineExceeded(text)
    if isinstance(error, httpx.UnsupportedProtocol | httpx.LocalProtocolError):
        return Blocked(text)
    if isinstance(error, httpx.RemoteProtocolError | httpx.DecodingError):
        return BadAnswer(text)
    return ConnectionFailed(text)


def _broke_off(hop: Hop, error: httpx.TransportError, told: str) -> FetchError:
    """The error of an answer that began."""
    text = f"{_names(hop)}: the body broke off: {shown(told) or type(error).__name__}"
    if isinstance(error, httpx.TimeoutException):
        return DeadlineExceeded(text)
    if (
        isinstance(error, httpx.RemoteProtocolError)
        and "incomplete" not in text
        and "without sending" not in text
    ):
        return BadAnswer(text)
    return Truncated(text)
