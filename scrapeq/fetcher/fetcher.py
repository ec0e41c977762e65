"""
The public fetcher: pages of an API or a site, within its limits, with or without a store.

    async with Fetcher(base_url="https://api.example.com") as fetcher:
        page = await fetcher.get("items")
        async for page in fetcher.stream(f"items/{n}" for n in range(300)):
            ...

It waits by itself when a limit is closed, and never sends before the time it was told.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import urlencode, urlsplit

import orjson

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
from scrapeq.fetcher.local_limits import Limiter, LocalLimits, Permit
from scrapeq.fetcher.shared_limits import QueueLimits
from scrapeq.fetcher.streaming import pages_of
from scrapeq.limits.partition import instances_of, token_digest
from scrapeq.page import Page
from scrapeq.plan import Auth, Cache, Client, LimitRule
from scrapeq.queue.worker_queue import WorkerQueue
from scrapeq.responses.match import host_of
from scrapeq.responses.observation import NO_OBSERVATION
from scrapeq.responses.outcome import Outcome, decide
from scrapeq.responses.rule_observations import observe_for_rules

if TYPE_CHECKING:
    import httpx
    from redis.asyncio import Redis

MAX_ATTEMPTS = 5
RETRY_BASE_S = 1.0
RETRY_MAX_S = 300.0

_MAX_HOPS = 10
_IDEMPOTENT = frozenset({"GET", "HEAD", "OPTIONS", "PUT", "DELETE", "TRACE"})  # RFC 9110, 9.2.2
_REDIRECTED = Outcome("success")


class Fetcher:
    """
    Sends requests within limits.

    Hosts in `base_url`, `allow_hosts` and the URLs that are passed in are named: they may be private ones. What a
    redirect leads to may not, unless named.

    Args:
        base_url: Joined with relative URLs by exactly one "/". Credentials go to its origin only; without it, to
            the origin of each URL passed in.
        headers: For every request; those that may hold a secret stay with the origin like `auth`.
        auth: A `plan.Auth`, or any `httpx.Auth`. What a login gave is kept in memory.
        rate_limits: Limits that are known; a request needs the grant of all that match it. Others are told by the
            answers, or found out carefully.
        concurrency: The most requests in flight.
        max_wait_s: A limit that is closed for longer raises RateLimited; None = wait as long as it takes.
        timeout_s: Seconds for one whole request, redirects and body included; waiting for limits is not.
        max_body_size: Bytes after decoding.
        transport: An httpx transport instead of the default wire. It must guard the names it resolves.
        allow_hosts: More hosts that may be private, as `host` or `host:port`.
        clock: Wall and monotonic time, and sleeping.
        redis: An asyncio Redis client: the limits live there, shared by all who name the same `queue_name`.
        queue_name: The queue whose limits they are.
        grants: Where permits come from; None = the store if there is one, else this process alone.
        cache: A file in which answers to GET are kept: used while they are fresh, asked for conditionally afterwards.
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
        grants: Limiter | None = None,
        cache: Path | str | None = None,
    ) -> None:
        if concurrency < 1:
            raise UsageError(f"concurrency: {concurrency} is too small; it must be at least 1")
        own_auth = auth if isinstance(auth, Auth) else Auth()
        if own_auth.tokens:
            raise UsageError("auth: a pool of tokens is for `scrapeq run`; a Fetcher sends one token")
        if cache is not None and auth not in (None, own_auth):
            raise UsageError("cache: of an httpx.Auth nobody can tell whose an answer is; give a plan.Auth")
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
        if grants is None and redis is not None:
            self._queue = WorkerQueue(redis, queue_name)
            self._shared = grants = QueueLimits(self._queue, rate_limits, token=token)
        self._grants: Limiter = grants or LocalLimits(rate_limits, token=token, clock=self._clock)

    async def __aenter__(self) -> Self:
        await self._egress.__aenter__()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._egress.__aexit__(exc_type, exc, traceback)
        if self._cache is not None:
            await self._cache.aclose()
        if self._shared is not None and self._queue is not None:
            await self._shared.close()
            await self._queue.close()

    async def get(
        self, url: str, *, params: Mapping[str, Any] | None = None, headers: Mapping[str, str] | None = None
    ) -> Page:
        """GET a page. See `request`."""
        return await self.request("GET", url, params=params, headers=headers)

    async def request(
        self,
        method: str,
        url: str,
        *,
        params: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
        json: Any = None,
        body: bytes | None = None,
    ) -> Page:
        """
        Send one request, and again as its answers ask for.

        A refusal is waited out, however often. Broken connections, time-outs and statuses 408, 425 and 5xx are
        tried again up to `MAX_ATTEMPTS` times with full jitter, but only methods that may be repeated.

        Returns:
            The page, whatever its status: a 404 is a page, and so is a 503 after the last attempt.

        Raises:
            RateLimited: a limit is closed for longer than `max_wait_s`.
            FetchError: no whole answer came.
        """
        full = self._address(url, params)
        fields = list((headers or {}).items())
        if json is not None:
            body = orjson.dumps(json)
            if not any(name.lower() == "content-type" for name, _ in fields):
                fields.append(("Content-Type", "application/json"))
        return await self._until_done(method.upper(), full, tuple(fields), body)

    def stream(
        self,
        urls: Iterable[str] | AsyncIterable[str],
        *,
        on_error: Callable[[str, ScrapeqError], None] | None = None,
    ) -> AsyncIterator[Page]:
        """
        GET many pages; each comes as soon as it is there, in no order (`page.requested_url` says which).

        URLs are taken as they are needed. While a limit is closed, URLs of other hosts go on. One that fails does
        not stop the others: it goes to `on_error`; without that, all errors are raised together at the end.

        Raises:
            ExceptionGroup: of the ScrapeqErrors, after the last page.
        """
        return pages_of(self.get, urls, on_error, at_once=self._concurrency)

    def _address(self, url: str, params: Mapping[str, Any] | None) -> str:
        if "://" not in url:
            if not self._base_url:
                raise UsageError(f"{url!r} is relative, and there is no base_url")
            url = f"{self._base_url.rstrip('/')}/{url.lstrip('/')}"
        if params:
            given = {key: value for key, value in params.items() if value is not None}
            url = f"{url}{'&' if urlsplit(url).query else '?'}{urlencode(given, doseq=True)}"
        return url

    async def _until_done(
        self, method: str, url: str, fields: tuple[tuple[str, str], ...], body: bytes | None
    ) -> Page:
        asked_for = url
        attempts = hops = 0
        cache_lookup = CacheLookup(self._cache, self._client, self._clock)
        if (kept := await cache_lookup.fresh(method, url, fields, has_body=body is not None)) is not None:
            return replace(kept, requested_url=asked_for)
        while True:
            permit = await self._grants.acquire(url, method, max_wait_s=self._max_wait_s)
            page: Page | None = None
            error: FetchError | None = None
            held = [permit]
            began = False
            try:
                async with self._sending:
                    began = True
                    conditions = cache_lookup.conditions if url == asked_for else ()
                    page = await self._send(method, url, (*fields, *conditions), body, held, asked_for)
            except FetchError as caught:
                error = caught
            except HopClosed as hop:
                hops += 1
                if hops > _MAX_HOPS:
                    raise TooManyRedirects(f"{method} {asked_for}: more than {_MAX_HOPS} redirects") from None
                method, url, fields, body = hop.method, hop.url, hop.headers, hop.body
                continue
            finally:
                if page is None and error is None:
                    held[-1].settle(None, was_sent=began)
            outcome = self._settle(held[-1], method, url, page, error)
            if outcome.action == "rate_limited":
                continue
            attempts += 1
            unsent = isinstance(error, AuthFailed)
            if outcome.action == "retry" and attempts < MAX_ATTEMPTS and (unsent or method in _IDEMPOTENT):
                wait_s = error.pause_s if isinstance(error, AuthFailed) else outcome.wait_s
                await self._pause(url, attempts, wait_s or 0.0)
                continue
            if page is None:
                assert error is not None
                raise error
            page = await cache_lookup.revived(page) or page
            if cache_lookup.was_misled:
                continue
            if outcome.action == "success":
                await cache_lookup.keep(page)
            return replace(page, requested_url=asked_for)

    async def _send(
        self,
        method: str,
        url: str,
        fields: tuple[tuple[str, str], ...],
        body: bytes | None,
        held: list[Permit],
        asked_for: str,
    ) -> Page:
        async def gate(hop_url: str, hop_method: str) -> bool:
            held[-1].settle(_REDIRECTED)
            permit = await self._grants.try_acquire(hop_url, hop_method)
            if permit is not None:
                held.append(permit)
            return permit is not None

        auth_grants = FetcherAuthGrants(
            self._grants,
            self._rules,
            method,
            url,
            held,
            lambda permit, page: self._settle(permit, page.method, page.url, page, None),
            self._max_wait_s,
        )
        try:
            return await self._egress.send(
                method,
                url,
                headers=fields,
                body=body,
                hop=gate,
                named_hosts=(asked_for,),  # a hop that is sent later belongs to the same chain
                home=asked_for,
                auth_grants=auth_grants,
            )
        finally:
            auth_grants.close()

    def _settle(
        self, permit: Permit, method: str, url: str, page: Page | None, error: FetchError | None
    ) -> Outcome:
        if page is None:
            seen, rule_observations = NO_OBSERVATION, None
        else:
            rules = [rule for rule, _ in instances_of(self._rules, method=method, url=url)]
            now_s = self._clock.now_s()
            names = {"now": now_s, "host": host_of(page.url), "token": self._token}
            seen, rule_observations = observe_for_rules(page, now_s, rules, names)
        outcome = decide(
            (),
            method=method,
            url=url,
            page=page,
            error=error,
            observation=seen,
            refusals_in_a_row=permit.refusals_in_a_row,
            rule_observations=rule_observations,
        )
        if page is not None:
            permit.settle(outcome)
        elif isinstance(error, TooManyRedirects) or (isinstance(error, Blocked) and error.was_sent):
            permit.settle(_REDIRECTED)
        else:
            permit.settle(None, was_sent=not isinstance(error, Blocked | AuthFailed))
        return outcome

    async def _pause(self, url: str, attempts: int, wait_s: float) -> None:
        """Before the next try: full jitter, but never less than was told."""
        if self._max_wait_s is not None and wait_s > self._max_wait_s:
            raise RateLimited(f"{url}: it asks to come back in {wait_s:.1f} s", wait_s)
        most_s = min(RETRY_MAX_S, RETRY_BASE_S * 2 ** (attempts - 1))
        await self._clock.sleep(max(wait_s, random.uniform(0, most_s)))
