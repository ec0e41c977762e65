"""
The public fetcher: requests to an API or a site, within its rate limits, with or without a store.

    async with Fetcher(base_url="https://api.example.com") as fetcher:
        page = await fetcher.get("items")
        async for page in fetcher.stream(f"items/{n}" for n in range(300)):
            ...

It waits while a limit is closed, and never sends before the time that the server stated.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import urlencode, urlsplit

import orjson

from scrapeq.backoff import full_jitter_s
from scrapeq.clock import Clock, SystemClock
from scrapeq.errors import (
    AuthFailed,
    Blocked,
    FetchError,
    RateLimited,
    ScrapeqError,
    TooManyRedirects,
    UsageError,
)
from scrapeq.fetch import Egress, HopClosed
from scrapeq.fetch.cache_lookup import CacheLookup
from scrapeq.fetch.response_cache import ResponseCache
from scrapeq.fetcher.auth import FetcherAuthGrants
from scrapeq.fetcher.limiter import Limiter, Permit
from scrapeq.fetcher.local_limits import LocalLimits
from scrapeq.fetcher.shared_limits import QueueLimits
from scrapeq.fetcher.streaming import pages_of
from scrapeq.limits.attribution import NO_ATTRIBUTION
from scrapeq.limits.judge import Exchange
from scrapeq.limits.partition import token_digest
from scrapeq.page import Page
from scrapeq.plan import Auth, Cache, Client, LimitRule
from scrapeq.queue.worker_queue import WorkerQueue
from scrapeq.responses.match import host_of
from scrapeq.responses.outcome import Outcome

if TYPE_CHECKING:
    import httpx
    from redis.asyncio import Redis

MAX_ATTEMPTS = 5
RETRY_BASE_S = 1.0
RETRY_MAX_S = 300.0

_MAX_HOPS = 10
_IDEMPOTENT = frozenset({"GET", "HEAD", "OPTIONS", "PUT", "DELETE", "TRACE"})  # RFC 9110, 9.2.2
_REDIRECTED = Outcome("success")


@dataclass(slots=True)
class _Request:
    """A request on its way; a redirect into a closed limit replaces it by its next hop."""

    method: str
    url: str
    headers: tuple[tuple[str, str], ...]
    body: bytes | None
    requested_url: str

    def follow(self, hop: HopClosed) -> None:
        """Become the hop of a redirect."""
        self.method, self.url, self.headers, self.body = hop.method, hop.url, hop.headers, hop.body


class Fetcher:
    """
    Sends requests within rate limits.

    Hosts in `base_url`, `allow_hosts` and in the URLs passed in may be private addresses. Hosts that a redirect leads
    to may not, unless they are named too.

    Args:
        base_url: Joined with relative URLs by exactly one "/". Credentials are only sent to its origin; without it,
            to the origin of each URL passed in.
        headers: Sent with every request; headers that may hold a secret stay with the origin, like `auth`.
        auth: A `scrapeq.Auth` or any `httpx.Auth`. Tokens of a login are held in memory.
        rate_limits: Limits that are known; a request needs the grant of every limit that it matches. Other limits are
            read from responses or learned.
        concurrency: Requests in flight, at most.
        max_wait_s: A limit that stays closed for longer raises RateLimited; None = wait as long as it takes.
        timeout_s: Seconds for one whole request with its redirects and body, not counting waits for limits.
        max_body_size: Bytes after decoding.
        transport: An httpx transport instead of the built-in one. It must guard the names it resolves itself.
        allow_hosts: More hosts that may be private, as `host` or `host:port`.
        clock: Wall time, monotonic time and sleeping.
        redis: An asyncio Redis client: the limits live there, shared by everybody who uses the same `queue_name`.
        queue_name: The queue whose limits are used.
        limiter: Grants permits; None = the store if `redis` is given, else this process.
        cache: A file in which responses to GET are cached: used while fresh, then requested conditionally.
    """

    def __init__(
        self,
        *,
        base_url: str = "",
        headers: Mapping[str, str] | None = None,
        auth: Auth | httpx.Auth | None = None,
        rate_limits: Sequence[LimitRule] = (),
        concurrency: int = 20,
        max_wait_s: float | None = None,
        timeout_s: float = 30.0,
        max_body_size: int = 64_000_000,
        transport: httpx.AsyncBaseTransport | None = None,
        allow_hosts: Sequence[str] = (),
        clock: Clock | None = None,
        redis: Redis | None = None,
        queue_name: str = "fetcher",
        limiter: Limiter | None = None,
        cache: Path | str | None = None,
    ) -> None:
        if concurrency < 1:
            raise UsageError(f"concurrency: {concurrency} is too small; it must be at least 1")
        own_auth = auth if isinstance(auth, Auth) else Auth()
        if own_auth.tokens:
            raise UsageError("auth: a pool of tokens needs `scrapeq run`; a Fetcher uses one token")
        if cache is not None and auth not in (None, own_auth):
            raise UsageError(
                "cache: caching needs an auth with an identity to key on, and an httpx.Auth has none; "
                "pass a scrapeq.Auth"
            )
        self._base_url = base_url
        self._client = Client(
            base_url=base_url,
            headers=dict(headers or {}),
            timeout_s=timeout_s,
            max_body_size=max_body_size,
            auth=own_auth,
            allow_hosts=tuple(allow_hosts),
        )
        self._clock = clock or SystemClock()
        self._max_wait_s = max_wait_s
        self._concurrency = concurrency
        self._sending = asyncio.Semaphore(concurrency)
        self._egress = Egress(
            self._client,
            transport=transport,
            clock=self._clock,
            max_redirects=_MAX_HOPS,
            connections=concurrency,
            auth=None if auth is None or isinstance(auth, Auth) else auth,
        )
        self._cache = ResponseCache(Path(cache), max_size=Cache().max_size) if cache is not None else None
        self._rules = tuple(rate_limits)
        token = own_auth.identity
        self._token = token_digest(token)
        self._queue: WorkerQueue | None = None
        self._shared: QueueLimits | None = None
        if limiter is None and redis is not None:
            self._queue = WorkerQueue(redis, queue_name)
            self._shared = limiter = QueueLimits(self._queue, rate_limits, token=token, clock=self._clock)
        self._limiter: Limiter = limiter or LocalLimits(rate_limits, token=token, clock=self._clock)

    async def __aenter__(self) -> Self:
        await self._egress.__aenter__()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close connections, the cache and, where limits are shared, report what is still to be reported."""
        await self._egress.__aexit__(None, None, None)
        if self._cache is not None:
            await self._cache.aclose()
        if self._shared is not None and self._queue is not None:
            await self._shared.close()
            await self._queue.close()

    async def get(
        self, url: str, *, params: Mapping[str, Any] | None = None, headers: Mapping[str, str] | None = None
    ) -> Page:
        """Send a GET request; see `request`."""
        return await self.request("GET", url, params=params, headers=headers)

    async def post(self, url: str, **options: Any) -> Page:
        """
        Send a POST request; `options` are those of `request`.

            page = await fetcher.post("search", json={"query": "rate limits"})
        """
        return await self.request("POST", url, **options)

    async def put(self, url: str, **options: Any) -> Page:
        """Send a PUT request; `options` are those of `request`."""
        return await self.request("PUT", url, **options)

    async def patch(self, url: str, **options: Any) -> Page:
        """Send a PATCH request; `options` are those of `request`."""
        return await self.request("PATCH", url, **options)

    async def delete(self, url: str, **options: Any) -> Page:
        """Send a DELETE request; `options` are those of `request`."""
        return await self.request("DELETE", url, **options)

    async def request(
        self,
        method: str,
        url: str,
        *,
        params: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
        json: Any = None,
        data: Mapping[str, Any] | None = None,
        content: bytes | str | None = None,
    ) -> Page:
        """
        Send a request, and repeat it as its responses require.

        A refusal (429 and the like) is waited out, however often it happens. Broken connections, time-outs and the
        statuses 408, 425 and 5xx are retried up to `MAX_ATTEMPTS` times with full jitter, for idempotent methods
        only (RFC 9110, 9.2.2).

        Args:
            method: For example GET.
            url: Absolute, or relative to `base_url`.
            params: Added to the query; None values are left out.
            headers: Added to those of the Fetcher.
            json: A body, serialized as JSON.
            data: A body, serialized as a form.
            content: A body as it is sent. Give at most one body.

        Returns:
            The page, whatever its status: a 404 is a page, and so is a 503 after the last attempt. See
            `Page.raise_for_status`.

        Raises:
            RateLimited: a limit stays closed for more than `max_wait_s` seconds.
            FetchError: no complete response was received.
        """
        fields = list((headers or {}).items())
        body, content_type = _encoded(json, data, content)
        if content_type and not any(name.lower() == "content-type" for name, _ in fields):
            fields.append(("Content-Type", content_type))
        full_url = self._address(url, params)
        return await self._until_done(_Request(method.upper(), full_url, tuple(fields), body, full_url))

    def stream(
        self,
        urls: Iterable[str] | AsyncIterable[str],
        *,
        on_error: Callable[[str, ScrapeqError], None] | None = None,
    ) -> AsyncIterator[Page]:
        """
        GET many pages, and yield each as soon as it is there, in no order (`page.requested_url` says which it is).

            async for page in fetcher.stream(f"items/{n}" for n in range(300)):
                print(page.status, page.requested_url)

        URLs are taken from the iterable as they are needed. While a limit is closed, URLs of other hosts go on. A
        failed URL does not stop the others: it is passed to `on_error`, or all errors are raised together at the end.

        Raises:
            ExceptionGroup: of ScrapeqErrors, after the last page.
        """
        return pages_of(self.get, urls, on_error, at_once=self._concurrency)

    def _address(self, url: str, params: Mapping[str, Any] | None) -> str:
        if "://" not in url:
            if not self._base_url:
                raise UsageError(f"{url!r} is a relative URL, and the Fetcher has no base_url to join it to")
            url = f"{self._base_url.rstrip('/')}/{url.lstrip('/')}"
        if params:
            present = {key: value for key, value in params.items() if value is not None}
            url = f"{url}{'&' if urlsplit(url).query else '?'}{urlencode(present, doseq=True)}"
        return url

    async def _until_done(self, request: _Request) -> Page:
        attempts = hops = 0
        lookup = CacheLookup(self._cache, self._client, self._clock)
        cached = await lookup.fresh_response(
            request.method, request.url, request.headers, has_body=request.body is not None
        )
        if cached is not None:
            return replace(cached, requested_url=request.requested_url)
        while True:
            permits = [await self._limiter.acquire(request.url, request.method, max_wait_s=self._max_wait_s)]
            page: Page | None = None
            error: FetchError | None = None
            was_sent = False
            try:
                async with self._sending:
                    was_sent = True
                    conditions = lookup.conditions if request.url == request.requested_url else ()
                    page = await self._send(request, conditions, permits)
            except FetchError as caught:
                error = caught
            except HopClosed as hop:
                hops += 1
                if hops > _MAX_HOPS:
                    raise TooManyRedirects(
                        f"{request.method} {request.requested_url}: more than {_MAX_HOPS} redirects"
                    ) from None
                request.follow(hop)
                continue
            finally:
                if page is None and error is None:
                    permits[-1].settle(None, was_sent=was_sent)
            outcome = self._settle(permits[-1], request.method, request.url, page, error)
            if outcome.action == "rate_limited":
                continue
            attempts += 1
            may_repeat = isinstance(error, AuthFailed) or request.method in _IDEMPOTENT
            if outcome.action == "retry" and attempts < MAX_ATTEMPTS and may_repeat:
                wait_s = error.pause_s if isinstance(error, AuthFailed) else outcome.wait_s
                await self._pause(request.url, attempts, wait_s or 0.0)
                continue
            if page is None:
                assert error is not None
                raise error
            page = await lookup.revalidated(page) or page
            if lookup.must_resend:
                continue
            if outcome.action == "success":
                await lookup.store(page)
            return replace(page, requested_url=request.requested_url)

    async def _send(
        self, request: _Request, conditions: Sequence[tuple[str, str]], permits: list[Permit]
    ) -> Page:
        async def may_follow(hop_url: str, hop_method: str) -> bool:
            self._settle_redirect(permits[-1])
            permit = await self._limiter.try_acquire(hop_url, hop_method)
            if permit is not None:
                permits.append(permit)
            return permit is not None

        auth_grants = FetcherAuthGrants(
            self._limiter,
            self._rules,
            request.method,
            request.url,
            permits,
            lambda permit, page: self._settle(permit, page.method, page.url, page, None),
            self._max_wait_s,
        )
        try:
            return await self._egress.send(
                request.method,
                request.url,
                headers=(*request.headers, *conditions),
                body=request.body,
                may_follow=may_follow,
                named_hosts=(request.requested_url,),  # a hop that is sent later belongs to the same chain
                credential_url=request.requested_url,
                auth_grants=auth_grants,
            )
        finally:
            auth_grants.close()

    def _settle(
        self, permit: Permit, method: str, url: str, page: Page | None, error: FetchError | None
    ) -> Outcome:
        """Judge a response, or the error in its place, and report it to the limits."""
        exchange = self._exchange(permit, method, url, page, error)
        outcome, attribution = self._limiter.judge.judge(exchange)
        if page is not None:
            permit.settle(attribution)
        elif isinstance(error, TooManyRedirects) or (isinstance(error, Blocked) and error.was_sent):
            self._settle_redirect(permit)
        else:
            permit.settle(None, was_sent=not isinstance(error, Blocked | AuthFailed))
        return outcome

    def _settle_redirect(self, permit: Permit) -> None:
        """Settle a permit whose response was a redirect."""
        self._limiter.judge.attribute(_REDIRECTED, self._exchange(permit, "", "", None, None))
        permit.settle(NO_ATTRIBUTION)

    def _exchange(
        self, permit: Permit, method: str, url: str, page: Page | None, error: FetchError | None
    ) -> Exchange:
        now_s = self._clock.now_s()
        return Exchange(
            permit.group,
            permit.sent_s,
            self._clock.monotonic_s(),
            now_s,
            method=method,
            url=url,
            page=page,
            error=error,
            names={"now": now_s, "host": host_of(page.url if page else url), "token": self._token},
        )

    async def _pause(self, url: str, attempts: int, wait_s: float) -> None:
        """Sleep before a retry: full jitter, but at least as long as the server asked for."""
        if self._max_wait_s is not None and wait_s > self._max_wait_s:
            raise RateLimited(f"{url}: the server asks to retry in {wait_s:.1f} s", wait_s)
        await self._clock.sleep(max(wait_s, full_jitter_s(attempts, RETRY_BASE_S, RETRY_MAX_S)))


def _encoded(
    json: Any, data: Mapping[str, Any] | None, content: bytes | str | None
) -> tuple[bytes | None, str]:
    """Return a body and its content type."""
    if sum(body is not None for body in (json, data, content)) > 1:
        raise UsageError("give one of json, data and content")
    if json is not None:
        return orjson.dumps(json), "application/json"
    if data is not None:
        present = {key: value for key, value in data.items() if value is not None}
        return urlencode(present, doseq=True).encode(), "application/x-www-form-urlencoded"
    return content.encode() if isinstance(content, str) else content, ""
