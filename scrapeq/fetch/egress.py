"""
The egress: sends requests with address guard, credentials, redirects, size cap and decoding, under one deadline.

The result is a complete page or a FetchError. At most `max_body_size` bytes of a response are in memory.
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
from scrapeq.fetch import auth as static_auth
from scrapeq.fetch import redirects, response
from scrapeq.fetch.auth import Credential
from scrapeq.fetch.auth_factory import credential_of, login_urls
from scrapeq.fetch.auth_requests import AuthGrants, Deadline, Unlimited, run_auth_flow
from scrapeq.fetch.cookies import Cookies, StoredCookie
from scrapeq.fetch.decoding import ACCEPT_ENCODING
from scrapeq.fetch.guard import NamedHosts, check_literal
from scrapeq.fetch.headers import FRAMING, check_fields, fields_of
from scrapeq.fetch.names import Postponed
from scrapeq.fetch.redirects import Hop, origin, printable
from scrapeq.fetch.refreshable_auth import RefreshableAuth
from scrapeq.fetch.response import describe
from scrapeq.fetch.wire import AiohttpWire, HttpxWire, ObservedWire, RawResponse, Wire
from scrapeq.page import Page
from scrapeq.plan import Client
from scrapeq.sealing import Sealer
from scrapeq.version import __version__

MayFollow = Callable[[str, str], Awaitable[bool]]
"""Takes the URL and the method of a redirect hop; returns whether it may be sent now."""

Origin = tuple[str, str, int | None]

_DEFAULT_PORTS = {"http": 80, "https": 443}
_NO_HOSTS = NamedHosts()
_UNLIMITED = Unlimited()


class HopClosed(ScrapeqError):
    """
    A redirect hop may not be sent now. The caller has to queue it.

    Args:
        hop: Its request, without the client's headers and credentials.
        cookies: The cookies that the chain has set so far.
    """

    def __init__(self, hop: Hop, cookies: Sequence[StoredCookie] = ()) -> None:
        self.method = hop.method
        self.url = str(hop.url)
        self.headers = hop.headers
        self.body = hop.body
        self.cookies = cookies
        super().__init__(f"the limit for {self.method} {printable(self.url)} is closed")


@dataclass(frozen=True, slots=True)
class _RequestState:
    """What all hops of one request share."""

    credential_origin: Origin | None
    named: NamedHosts
    may_follow: MayFollow | None
    auth: Credential | RefreshableAuth | httpx.Auth | None
    auth_grants: AuthGrants
    deadline: Deadline
    cookies: Cookies


class Egress:
    """
    The only way out: sends every request of one client.

    Args:
        client: The client's configuration: timeout, body cap, credential, headers.
        transport: An httpx transport; None = aiohttp with the address guard. Another transport must check the
            addresses of host names itself.
        clock: Measures elapsed times.
        max_redirects: The limit of redirect hops per request.
        connections: The limit of open connections.
        named_hosts: Hosts that the user named, in addition to those of base_url and allow_hosts.
        auth: A credential instead of `client.auth`. The guard applies to its extra requests, too.
        credentials: The tokens of a pool, by name; `send` selects one.
        tokens: The file that stores issued credentials for other processes and the next run; None = in memory only.
        on_send: Called with method, URL, header fields and body of each request before it is sent, including the
            credentials.
        name_patience_s: How long a request waits for the lookup of its host's name before Postponed; None = until
            its deadline.
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
        name_patience_s: float | None = None,
    ) -> None:
        self._client = client
        self._sealer = Sealer(client.secrets)
        self._secret_hosts = NamedHosts((client.base_url, *client.url_hosts))
        self._wire: Wire = (
            HttpxWire(transport)
            if transport
            else AiohttpWire(connections=connections, name_patience_s=name_patience_s)
        )
        if on_send is not None:
            self._wire = ObservedWire(self._wire, on_send)
        self._clock = clock or SystemClock()
        self._max_redirects = max_redirects
        self._named = NamedHosts((client.base_url, *client.allow_hosts, *named_hosts, *login_urls(client)))
        self._auth = auth or credential_of(client, tokens, self._clock)
        is_static = not isinstance(self._auth, RefreshableAuth | httpx.Auth)
        self._credentials = {
            name: static_auth.credential(replace(client.auth, token=token)) if is_static else self._auth
            for name, token in (credentials or {}).items()
        }
        self._credential_origin = (
            origin(redirects.parse_url(client.base_url))
            if client.base_url.startswith(("http://", "https://"))
            else None
        )
        # Per credential of a pool, "" for the client's own.
        self._cookies: dict[str, Cookies] | None = {} if client.cookies else None
        self._foreign_headers = {
            "user-agent": ("User-Agent", client.user_agent or f"scrapeq/{__version__}"),
            "accept": ("Accept", "*/*"),
            "accept-encoding": ("Accept-Encoding", ACCEPT_ENCODING),
        }
        own = [(name, str(value)) for name, value in client.headers.items()]
        check_fields(own)
        self._foreign_headers.update({f[0].lower(): f for f in own if f[0].lower() in redirects.SAFE_FIELDS})
        self._origin_headers = self._foreign_headers | {field[0].lower(): field for field in own}

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
        may_follow: MayFollow | None = None,
        named_hosts: Iterable[str] = (),
        credential_url: str = "",
        credential: str = "",
        auth_grants: AuthGrants = _UNLIMITED,
        cookies: Sequence[StoredCookie] = (),
    ) -> Page:
        """
        Send one request, follow its redirects, and read the whole response.

        Args:
            method, url, headers, body: The request. Only harmless headers follow a redirect to another origin.
            deadline_s: The time limit in seconds; None = the client's timeout. Waiting for limits does not count, and
                a login has its own time limit.
            may_follow: Called with (url, method) before each redirect hop. If it returns False, HopClosed is raised.
            named_hosts: Hosts that the user named for this request, as `host`, `host:port` or a URL.
            credential_url: Without a base_url, the client's credential is sent to the origin of this URL.
            credential: Which token of a pool to send (see `has_credential`); "" = the client's own.
            auth_grants: Grants for the extra requests that the credential needs.
            cookies: The cookies of the redirect chain that this request continues.

        Raises:
            FetchError: Blocked, DeadlineExceeded, ConnectionFailed, BadResponse, Truncated, BodyTooLarge,
                TooManyRedirects or AuthFailed. The message is one line that names the request, without credentials.
            HopClosed: `may_follow` returned False.
            AuthLimitClosed: a limit is closed for an extra request (see `AuthGrants.acquire`).
            Postponed: the lookup of the host's name takes longer than `name_patience_s`.
        """
        try:
            check_fields(headers)
            limit_s = self._client.timeout_s if deadline_s is None else deadline_s
            state = _RequestState(
                self._credential_origin
                or (origin(redirects.parse_url(credential_url)) if credential_url else None),
                NamedHosts(named_hosts) if named_hosts else _NO_HOSTS,
                may_follow,
                self._credentials[credential] if credential else self._auth,
                auth_grants,
                Deadline(limit_s),
                self._jar(credential, cookies),
            )
            first = self._unsealed(
                Hop(method.upper(), redirects.parse_url(url), tuple(headers), body), state.named
            )
            first = replace(first, url=self._without_credential(first.url))
            started_s = self._clock.monotonic_s()
            try:
                async with state.deadline:
                    last, raw = await self._follow(first, state)
                    try:
                        content = await self._read(last, raw)
                    finally:
                        await raw.aclose()
            except TimeoutError:
                raise DeadlineExceeded(
                    f"{describe(first)}: no complete response within {limit_s:g} s"
                ) from None
        except FetchError as error:
            error.args = (self.redact(str(error)),)
            raise
        return Page(
            url=self._sealer.seal(str(last.url)),
            status=raw.status,
            headers=raw.headers,
            body=content,
            elapsed_s=self._clock.monotonic_s() - started_s,
            requested_url=url,
            method=last.method,
            is_unrequested=response.is_unrequested(last, raw.status, self._origin_headers),
        )

    async def _follow(self, current: Hop, state: _RequestState) -> tuple[Hop, RawResponse]:
        """Return the last hop of a redirect chain and its response, with the body unread."""
        seen: set[tuple[str, str, str]] = set()  # a server may redirect to the same URL to set a cookie first
        was_sent = False  # whether a request was sent under the current grant
        try:
            while True:
                sent_cookies = state.cookies.header(current.url)
                try:
                    raw = await self._send_one(current, state)
                except Postponed:
                    if not seen or state.may_follow is None:
                        raise
                    raise HopClosed(
                        self._sealed(current), state.cookies.dump()
                    ) from None  # what was sent is not sent again
                location = raw.header("location")
                if (
                    raw.status not in redirects.REDIRECT_STATUSES
                    or not location
                    or response.has_retry_after(raw)
                ):
                    return current, raw
                was_sent = True
                await response.discard(raw)
                seen.add((current.method, str(current.url), sent_cookies))
                if len(seen) > self._max_redirects:
                    raise TooManyRedirects(f"{describe(current)}: more than {self._max_redirects} redirects")
                target = redirects.next_hop(current, raw.status, location)
                current = Hop(
                    target.method, self._without_credential(target.url), target.headers, target.body
                )
                if (current.method, str(current.url), state.cookies.header(current.url)) in seen:
                    raise TooManyRedirects(f"{describe(current)}: the redirects form a loop")
                if state.may_follow is not None:
                    self._check(current, state.named)
                    if not await state.may_follow(str(current.url), current.method):
                        raise HopClosed(self._sealed(current), state.cookies.dump())
                    was_sent = False
        except Blocked as error:
            error.was_sent = was_sent
            raise

    @property
    def credentials(self) -> tuple[str, ...]:
        """The names of the tokens in the pool."""
        return tuple(self._credentials)

    def has_credential(self, credential: str) -> bool:
        """Return whether the pool has this token; True for "", the client's own credential."""
        return not credential or credential in self._credentials

    def refresh(self, credential: str = "") -> bool:
        """
        Drop the credential that the last request of this asyncio task carried, after a 401.

        Args:
            credential: Which token of a pool it was.

        Returns:
            True if it was dropped, so that the next request obtains a new one. False if another request has dropped
            it before (there may be a newer one already), or if it cannot be refreshed (a static token).
        """
        auth = self._credentials.get(credential) if credential else self._auth
        return isinstance(auth, RefreshableAuth) and auth.invalidate()

    def redact(self, text: str) -> str:
        """Return a text with every secret of the configuration and of issued credentials replaced by `***`."""
        obtained = tuple(self._auth.secrets) if isinstance(self._auth, RefreshableAuth) else ()
        return self._sealer.mask(static_auth.redact(text, self._client.auth, obtained))

    def _unsealed(self, hop: Hop, named: NamedHosts) -> Hop:
        """Return a request with its secrets in place, if it goes to a host that the file or a seed names."""
        if not self._sealer or not (
            _host_and_port(hop) in self._secret_hosts or _host_and_port(hop) in named
        ):
            return hop
        unseal = self._sealer.unseal
        body = hop.body
        if body is not None and b"~~" in body:
            body = unseal(body.decode("utf-8", "surrogateescape")).encode("utf-8", "surrogateescape")
        headers = tuple((name, unseal(value)) for name, value in hop.headers)
        check_fields(headers)
        return Hop(hop.method, redirects.parse_url(unseal(str(hop.url))), headers, body)

    def _sealed(self, hop: Hop) -> Hop:
        """Return a request as it may be stored."""
        if not self._sealer:
            return hop
        seal = self._sealer.seal
        body = hop.body
        if body is not None:
            body = seal(body.decode("utf-8", "surrogateescape")).encode("utf-8", "surrogateescape")
        headers = tuple((name, seal(value)) for name, value in hop.headers)
        return Hop(hop.method, redirects.parse_url(seal(str(hop.url))), headers, body)

    def _jar(self, credential: str, cookies: Sequence[StoredCookie]) -> Cookies:
        """Return the cookies of a request: those of its credential, or those of its redirect chain alone."""
        if self._cookies is None:
            return Cookies(cookies)
        jar = self._cookies.setdefault(credential, Cookies(()))
        jar.add(cookies)
        return jar

    def _without_credential(self, url: httpx.URL) -> httpx.URL:
        return static_auth.without_credential(url, self._client.auth)

    def _check(self, hop: Hop, named: NamedHosts) -> bool:
        """Return whether the user named the host. Raises Blocked if not, and it is a special address."""
        host_and_port = _host_and_port(hop)
        if host_and_port in self._named or host_and_port in named:
            return True
        check_literal(host_and_port[0])
        return False

    async def _send_one(self, hop: Hop, state: _RequestState) -> RawResponse:
        """Send one hop, with the credential if it goes to the credential's origin."""
        is_credential_origin = (
            state.credential_origin is not None and origin(hop.url) == state.credential_origin
        )
        url, fields = hop.url, self._fields(hop.headers, is_credential_origin)
        auth = state.auth if is_credential_origin else None
        if isinstance(auth, httpx.Auth):
            return await self._send_with_flow(auth, hop, fields, state)
        if isinstance(auth, RefreshableAuth):
            apply = auth.current()
            if apply is None:
                self._check(hop, state.named)
                with state.deadline.paused():
                    if auth.is_refreshing:
                        state.auth_grants.release_while_waiting()
                    apply = await auth.refresh(lambda request: self._auth_page(request, state))
                    await state.auth_grants.acquire(hop.method, str(hop.url), own=True)
            url, fields = apply(url, fields)
            raw = await self._send_on_wire(hop, url, fields, state.named, state.cookies)
            auth.observe(url, raw.headers)
            return raw
        if auth is not None:
            url, fields = auth(url, fields)
        return await self._send_on_wire(hop, url, fields, state.named, state.cookies)

    def _fields(self, own: Sequence[tuple[str, str]], is_credential_origin: bool) -> list[tuple[str, str]]:
        """Return the header fields of a request: its own, and those of the client that its origin may see."""
        client_fields = self._origin_headers if is_credential_origin else self._foreign_headers
        if not own:
            return list(client_fields.values())
        lower = {name.lower() for name, _ in own}
        fields = [field for name, field in client_fields.items() if name not in lower]
        return fields + [field for field in own if field[0].lower() not in FRAMING]

    async def _send_on_wire(
        self,
        hop: Hop,
        url: httpx.URL,
        fields: list[tuple[str, str]],
        named: NamedHosts,
        cookies: Cookies | None = None,
    ) -> RawResponse:
        is_named = self._check(hop, named)
        if cookies is not None:
            fields = cookies.add_to(url, fields)
        try:
            raw = await self._wire.send(hop.method, url, fields, hop.body, named=is_named)
        except httpx.TransportError as error:
            raise response.transport_failure(hop, error, self.redact(str(error))) from None
        try:
            response.check_head(hop, raw)
        except FetchError:
            await raw.aclose()
            raise
        if cookies is not None:
            cookies.extract(url, raw.headers)
        return raw

    async def _send_patiently(
        self, hop: Hop, fields: list[tuple[str, str]], named: NamedHosts
    ) -> RawResponse:
        """Send a request, and wait for the lookup of its host's name: a login cannot be postponed."""
        while True:
            try:
                return await self._send_on_wire(hop, hop.url, fields, named)
            except Postponed as pending:
                await asyncio.sleep(pending.delay_s)

    async def _read(self, hop: Hop, raw: RawResponse) -> bytes:
        return await response.read(hop, raw, self._client.max_body_size, self.redact)

    # --- the requests of credentials

    async def _send_with_flow(
        self, auth: httpx.Auth, hop: Hop, fields: list[tuple[str, str]], state: _RequestState
    ) -> RawResponse:
        """Send a hop with the flow of an `httpx.Auth`."""
        original = httpx.Request(hop.method, hop.url, headers=fields, content=hop.body)

        async def send(request: httpx.Request) -> tuple[Hop, RawResponse]:
            fields = [field for field in fields_of(request) if field[0].lower() not in FRAMING]
            check_fields(fields)  # a flow may have copied a part of a response into them
            return hop, await self._send_on_wire(hop, request.url, fields, state.named, state.cookies)

        async def read(hop: Hop, raw: RawResponse) -> bytes:
            async with asyncio.timeout(self._client.timeout_s):
                return await self._read(hop, raw)

        return await run_auth_flow(
            auth,
            original,
            send=send,
            send_other=lambda request: self._send_auth_request(request, state),
            read=read,
            auth_grants=state.auth_grants,
            deadline=state.deadline,
        )

    async def _auth_page(self, request: httpx.Request, state: _RequestState) -> Page:
        hop, raw = await self._send_auth_request(request, state)
        return _head(hop, raw)

    async def _send_auth_request(
        self, request: httpx.Request, state: _RequestState
    ) -> tuple[Hop, RawResponse]:
        """Send a request that a credential needs and read its response, without redirects and the credential itself."""
        own, content = fields_of(request), await request.aread()
        check_fields(own)
        hop = Hop(request.method, redirects.parse_url(str(request.url)), tuple(own), content or None)
        fields = self._fields(
            own, state.credential_origin is not None and origin(hop.url) == state.credential_origin
        )
        while True:
            self._check(hop, state.named)
            await state.auth_grants.acquire(hop.method, str(hop.url), own=False)
            try:
                async with asyncio.timeout(self._client.timeout_s):
                    raw = await self._send_patiently(hop, fields, state.named)
                    try:
                        await self._read(hop, raw)
                    finally:
                        await raw.aclose()
            except TimeoutError:
                await state.auth_grants.settle(None, own=False)
                text = f"{describe(hop)}: no complete response within {self._client.timeout_s:g} s"
                raise DeadlineExceeded(text) from None
            except FetchError:
                await state.auth_grants.settle(None, own=False)
                raise
            if not await state.auth_grants.settle(_head(hop, raw), own=False):
                return hop, raw


def _host_and_port(hop: Hop) -> tuple[str, int]:
    return hop.url.raw_host.decode("ascii"), hop.url.port or _DEFAULT_PORTS[hop.url.scheme]


def _head(hop: Hop, raw: RawResponse) -> Page:
    return Page(str(hop.url), raw.status, raw.headers, raw.content or b"", method=hop.method)
