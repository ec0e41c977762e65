"""
The egress: one deadline around guard, credentials, the wire, redirects, caps and decoding.

It ends in a whole page or in a FetchError, and never holds more than `max_body_size` of an answer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Self

import httpx

from scrapeq.clock import Clock, SystemClock
from scrapeq.errors import Blocked, DeadlineExceeded, FetchError, ScrapeqError, TooManyRedirects
from scrapeq.fetch import auth as auth_schemes
from scrapeq.fetch import redirects, response
from scrapeq.fetch.auth import Credential
from scrapeq.fetch.auth_factory import credential_of, urls_of
from scrapeq.fetch.auth_requests import AuthGrants, Deadline, Unlimited, through
from scrapeq.fetch.decoding import ACCEPT_ENCODING
from scrapeq.fetch.guard import NamedHosts, check_literal
from scrapeq.fetch.headers import FRAMING, check_fields, fields_of
from scrapeq.fetch.redirects import Hop, origin, shown
from scrapeq.fetch.refreshable_auth import RefreshableAuth
from scrapeq.fetch.response import names
from scrapeq.fetch.wire import AiohttpWire, HttpxWire, RawResponse, WatchedWire, Wire
from scrapeq.page import Page
from scrapeq.plan import Client
from scrapeq.version import __version__

HopGate = Callable[[str, str], Awaitable[bool]]
Origin = tuple[str, str, int | None]

_DEFAULT_PORTS = {"http": 80, "https": 443}
_NOBODY = NamedHosts()
_UNLIMITED = Unlimited()


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


@dataclass(frozen=True, slots=True)
class _Trip:
    """What all hops of one request share."""

    home: Origin | None
    named: NamedHosts
    gate: HopGate | None
    auth: Credential | RefreshableAuth | httpx.Auth | None
    auth_grants: AuthGrants
    deadline: Deadline


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
        auth: A credential of your own instead of `client.auth`. Requests of its own go to public hosts and to named
            ones, like all others.
        members: The tokens of a pool by their names; `send` says which one.
        tokens: Where what logins gave is kept, for other processes and the next run; None = in memory.
        on_send: Told method, URL, fields and body of each request as it leaves, credentials and all.
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
        credentials: Mapping[str, str] | None = None,
        tokens: Path | None = None,
        on_send: Callable[[str, str, Sequence[tuple[str, str]], bytes | None], None] | None = None,
    ) -> None:
        self._client = client
        self._wire: Wire = HttpxWire(transport) if transport else AiohttpWire(connections=connections)
        if on_send is not None:
            self._wire = WatchedWire(self._wire, on_send)
        self._clock = clock or SystemClock()
        self._max_redirects = max_redirects
        self._named = NamedHosts((client.base_url, *client.allow_hosts, *named_hosts, *urls_of(client)))
        self._auth = auth or credential_of(client, tokens, self._clock)
        plain = not isinstance(self._auth, RefreshableAuth | httpx.Auth)
        self._credentials = {
            name: auth_schemes.credential(replace(client.auth, token=token)) if plain else self._auth
            for name, token in (credentials or {}).items()
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
        check_fields(own)
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
        if isinstance(self._auth, RefreshableAuth):
            await self._auth.aclose()
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
        credential: str = "",
        auth_grants: AuthGrants = _UNLIMITED,
    ) -> Page:
        """
        Send one request, follow its redirects, and read the whole answer.

        Args:
            method, url, headers, body: The request. Its headers stay with its origin, but for harmless ones.
            deadline_s: Seconds for everything; None = the client's timeout. Waiting for limits is not counted, and a
                login has seconds of its own.
            hop: Asked with (url, method) before each redirect hop; False ends in HopClosed.
            named_hosts: Hosts that the user named for this request, as `host`, `host:port` or a URL.
            home: Where there is no base_url: a URL to whose origin the client's credentials go.
            member: Which token of a pool is sent; it must be known (`knows`).
            asking: Grants for the requests that a credential needs.

        Raises:
            FetchError: Blocked, DeadlineExceeded, ConnectionFailed, BadAnswer, Truncated, BodyTooLarge,
                TooManyRedirects or AuthFailed, each with one line that says what and where, and no credential.
            HopClosed: `hop` said no.
            AskingClosed: `asking` did.
        """
        try:
            check_fields(headers)
            limit_s = self._client.timeout_s if deadline_s is None else deadline_s
            trip = _Trip(
                self._home or (origin(redirects.parse(home)) if home else None),
                NamedHosts(named_hosts) if named_hosts else _NOBODY,
                hop,
                self._credentials[credential] if credential else self._auth,
                auth_grants,
                Deadline(limit_s),
            )
            first = Hop(method.upper(), self._without_secret(redirects.parse(url)), tuple(headers), body)
            started_s = self._clock.monotonic_s()
            try:
                async with trip.deadline:
                    last, raw = await self._follow(first, trip)
                    try:
                        content = await self._read(last, raw)
                    finally:
                        await raw.aclose()
            except TimeoutError:
                raise DeadlineExceeded(f"{names(first)}: no whole answer in {limit_s:g} s") from None
        except FetchError as error:
            error.args = (self.hidden(str(error)),)
            raise
        return Page(
            url=str(last.url),
            status=raw.status,
            headers=raw.headers,
            body=content,
            elapsed_s=self._clock.monotonic_s() - started_s,
            requested_url=url,
            method=last.method,
        )

    async def _follow(self, current: Hop, trip: _Trip) -> tuple[Hop, RawResponse]:
        """The last hop of a chain and its answer, unread."""
        seen: set[tuple[str, str]] = set()
        was_sent = False  # a request, under the grant in use
        try:
            while True:
                raw = await self._send_one(current, trip)
                location = raw.header("location")
                if raw.status not in redirects.STATUSES or not location or response.says_wait(raw):
                    return current, raw
                was_sent = True
                await response.drop(raw)
                seen.add((current.method, str(current.url)))
                if len(seen) > self._max_redirects:
                    raise TooManyRedirects(f"{names(current)}: more than {self._max_redirects} redirects")
                target = redirects.next_hop(current, raw.status, location)
                current = Hop(target.method, self._without_secret(target.url), target.headers, target.body)
                if (current.method, str(current.url)) in seen:
                    raise TooManyRedirects(f"{names(current)}: the redirects lead in a circle")
                if trip.gate is not None:
                    self._check(current, trip.named)
                    if not await trip.gate(str(current.url), current.method):
                        raise HopClosed(current.method, str(current.url), current.headers, current.body)
                    was_sent = False
        except Blocked as error:
            error.was_sent = was_sent
            raise

    @property
    def credentials(self) -> tuple[str, ...]:
        """The names of the pool's tokens."""
        return tuple(self._credentials)

    def knows(self, credential: str) -> bool:
        """Whether this token of a pool is known here; "" is."""
        return not credential or credential in self._credentials

    def refresh(self, credential: str = "") -> bool:
        """
        The credential that this asyncio task's last request carried is bad (a 401): the next one gets another.

        Args:
            member: Which of a pool it was.

        Returns:
            Whether it was forgotten: the next request asks for a new one. False where another request had it forgotten
            before (there may be a newer one already), or none can be asked for (a plain token).
        """
        auth = self._credentials.get(credential) if credential else self._auth
        return isinstance(auth, RefreshableAuth) and auth.forget()

    def hidden(self, text: str) -> str:
        """A text without any secret of the credentials, nor of those that logins gave."""
        obtained = tuple(self._auth.secrets) if isinstance(self._auth, RefreshableAuth) else ()
        return auth_schemes.hidden(text, self._client.auth, obtained)

    def _without_secret(self, url: httpx.URL) -> httpx.URL:
        return auth_schemes.without_secret(url, self._client.auth)

    def _check(self, hop: Hop, named: NamedHosts) -> bool:
        """Whether the user named the host. Raises Blocked when not, and it is written as a special address."""
        host = hop.url.raw_host.decode("ascii")
        place = (host, hop.url.port or _DEFAULT_PORTS[hop.url.scheme])
        if place in self._named or place in named:
            return True
        check_literal(host)
        return False

    async def _send_one(self, hop: Hop, trip: _Trip) -> RawResponse:
        """One hop, with the credential where it belongs."""
        at_home = trip.home is not None and origin(hop.url) == trip.home
        url, fields = hop.url, self._fields(hop.headers, at_home)
        auth = trip.auth if at_home else None
        if isinstance(auth, httpx.Auth):
            return await self._through(auth, hop, fields, trip)
        if isinstance(auth, RefreshableAuth):
            put = auth.ready()
            if put is None:
                self._check(hop, trip.named)
                with trip.deadline.paused():
                    if auth.is_renewing:
                        trip.auth_grants.rest()
                    put = await auth.renew(lambda request: self._asked(request, trip))
                    await trip.auth_grants.begin(hop.method, str(hop.url), own=True)
            url, fields = put(url, fields)
            raw = await self._on_wire(hop, url, fields, trip.named)
            auth.hear(url, raw.headers)
            return raw
        if auth is not None:
            url, fields = auth(url, fields)
        return await self._on_wire(hop, url, fields, trip.named)

    def _fields(self, own: Sequence[tuple[str, str]], at_home: bool) -> list[tuple[str, str]]:
        """The fields of a request: its own, and the client's that go there."""
        client_fields = self._at_home if at_home else self._away
        if not own:
            return list(client_fields.values())
        lower = {name.lower() for name, _ in own}
        fields = [field for name, field in client_fields.items() if name not in lower]
        return fields + [field for field in own if field[0].lower() not in FRAMING]

    async def _on_wire(
        self, hop: Hop, url: httpx.URL, fields: list[tuple[str, str]], named: NamedHosts
    ) -> RawResponse:
        is_named = self._check(hop, named)
        try:
            raw = await self._wire.send(hop.method, url, fields, hop.body, named=is_named)
        except httpx.TransportError as error:
            raise response.failed(hop, error, self.hidden(str(error))) from None
        try:
            response.check_head(hop, raw)
        except FetchError:
            await raw.aclose()
            raise
        return raw

    async def _read(self, hop: Hop, raw: RawResponse) -> bytes:
        return await response.read(hop, raw, self._client.max_body_size, self.hidden)

    # --- what credentials send

    async def _through(
        self, auth: httpx.Auth, hop: Hop, fields: list[tuple[str, str]], trip: _Trip
    ) -> RawResponse:
        """A hop by the flow of an `httpx.Auth`."""
        original = httpx.Request(hop.method, hop.url, headers=fields, content=hop.body)

        async def send(request: httpx.Request) -> tuple[Hop, RawResponse]:
            fields = [field for field in fields_of(request) if field[0].lower() not in FRAMING]
            check_fields(fields)  # a flow may have put a part of an answer there
            return hop, await self._on_wire(hop, request.url, fields, trip.named)

        async def read(hop: Hop, raw: RawResponse) -> bytes:
            async with asyncio.timeout(self._client.timeout_s):
                return await self._read(hop, raw)

        return await through(
            auth,
            original,
            send=send,
            ask=lambda request: self._ask(request, trip),
            read=read,
            auth_grants=trip.auth_grants,
            deadline=trip.deadline,
        )

    async def _asked(self, request: httpx.Request, trip: _Trip) -> Page:
        hop, raw = await self._ask(request, trip)
        return _head(hop, raw)

    async def _ask(self, request: httpx.Request, trip: _Trip) -> tuple[Hop, RawResponse]:
        """A request for a credential's sake, with its answer read: no redirects, no credential but its own."""
        own, content = fields_of(request), await request.aread()
        check_fields(own)
        hop = Hop(request.method, redirects.parse(str(request.url)), tuple(own), content or None)
        fields = self._fields(own, trip.home is not None and origin(hop.url) == trip.home)
        while True:
            self._check(hop, trip.named)
            await trip.auth_grants.begin(hop.method, str(hop.url), own=False)
            try:
                async with asyncio.timeout(self._client.timeout_s):
                    raw = await self._on_wire(hop, hop.url, fields, trip.named)
                    try:
                        await self._read(hop, raw)
                    finally:
                        await raw.aclose()
            except TimeoutError:
                await trip.auth_grants.end(None, own=False)
                text = f"{names(hop)}: no whole answer in {self._client.timeout_s:g} s"
                raise DeadlineExceeded(text) from None
            except FetchError:
                await trip.auth_grants.end(None, own=False)
                raise
            if not await trip.auth_grants.end(_head(hop, raw), own=False):
                return hop, raw


def _head(hop: Hop, raw: RawResponse) -> Page:
    return Page(str(hop.url), raw.status, raw.headers, raw.content or b"", method=hop.method)
