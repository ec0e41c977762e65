"""Use the response cache for one request: return a fresh response, or revalidate a stale one."""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import orjson

from scrapeq.clock import Clock
from scrapeq.fetch import freshness
from scrapeq.fetch.response_cache import CachedResponse, ResponseCache
from scrapeq.page import Page
from scrapeq.plan import Cache, Client
from scrapeq.resource.address import canonical, task_key
from scrapeq.version import __version__

_DIGEST_BYTES = 16
_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})  # RFC 9110, 9.2.1
_DEFAULT = Cache()


class CacheLookup:
    """
    The cache operations of one request.

    Call `fresh_response` first. If it returns None, send the request with `conditions`, and pass the response to
    `revalidated` and `store`.

    Args:
        cache: The cache; None = do not cache.
        client: The client, whose credential and headers are part of the cache key.
        clock: Wall time.
        credential: Which credential of a pool the request is sent with.

    Attributes:
        must_resend: The server sent a 304 that does not match the stored response. Send the request again; its
            `conditions` are empty now.
    """

    def __init__(
        self, cache: ResponseCache | None, client: Client, clock: Clock, credential: str = ""
    ) -> None:
        self._configured_cache = cache
        self._client = client
        self._clock = clock
        self._credential = credential
        self._revalidate = (client.cache or _DEFAULT).revalidate
        self._cache: ResponseCache | None = None  # set if the response to this request is cacheable
        self._method = self._url = ""
        self._fields: Sequence[tuple[str, str]] = ()
        self._stored: CachedResponse | None = None
        self._requested_s = 0.0
        self.must_resend = False

    async def fresh_response(
        self,
        method: str,
        url: str,
        fields: Sequence[tuple[str, str]],
        *,
        has_body: bool = False,
        may_use: bool = True,
    ) -> Page | None:
        """
        Return the stored response if it is fresh, so that nothing has to be sent.

        Args:
            method, url, fields: The request.
            has_body: The request has a body, so its URL does not identify it.
            may_use: Whether a stored response may be used. The new response is stored in any case.
        """
        if self._configured_cache is None:
            return None
        self._method, self._url, self._fields = method, url, fields
        self._requested_s = self._clock.now_s()
        bypasses = freshness.bypasses_cache([*self._client.headers.items(), *fields])
        if method == "GET" and not has_body and not bypasses:
            self._cache = self._configured_cache
        if self._cache is None or not may_use:
            return None
        self._stored = await self._cache.get(self._key())
        if self._revalidate is True or self._stored is None or not self._stored.is_fresh(self._requested_s):
            return None
        return await self._with_body(self._stored)

    @property
    def conditions(self) -> list[tuple[str, str]]:
        """The header fields that make the request conditional."""
        return (
            freshness.conditions(self._stored.head) if self._stored and self._revalidate is not False else []
        )

    async def revalidated(self, page: Page) -> Page | None:
        """Return the stored response that a 304 confirms. None for other responses, and for a 304 that matches none."""
        self.must_resend = False
        stored = self._stored
        if (
            self._cache is None
            or stored is None
            or page.status != freshness.NOT_MODIFIED
            or not self._is_same_address(page)
        ):
            return None
        now_s = self._clock.now_s()
        new = stored.freshened(page, self._requested_s, now_s)
        whole = await self._with_body(new) if freshness.is_validated_by(stored.head, page) else None
        if whole is None:
            self.must_resend = True
            self._stored = None
            await self._cache.forget(key=stored.key)
            return None
        has_changed = freshness.conditions(new.head) != freshness.conditions(stored.head)
        if (
            has_changed or freshness.lifetime_s(new.head, now_s) > 0
        ):  # otherwise nothing would ever read the update
            await self._cache.freshen(new)
        return replace(whole, elapsed_s=page.elapsed_s)

    async def store(self, page: Page) -> None:
        """Store a complete, successful response if it is cacheable. Without `fresh_response` before, do nothing."""
        if self._configured_cache is None or not self._method:
            return
        now_s = self._clock.now_s()
        if self._method not in _SAFE_METHODS:  # it may have changed the resource (RFC 9111, 4.4)
            await self._configured_cache.forget(address=self._address())
        elif self._cache is None or not self._is_same_address(page):
            return
        elif freshness.is_storable(page, now_s, revalidate=self._revalidate is not False):
            await self._cache.put(self._key(), self._address(), page, self._requested_s, now_s)
        elif self._stored is not None:
            await self._cache.forget(key=self._stored.key)

    async def forget(self) -> None:
        """Delete the stored response to this request, because its body cannot be used."""
        if self._cache is not None:
            await self._cache.forget(key=self._key())

    def _is_same_address(self, page: Page) -> bool:
        """Return whether the response is from the requested URL, not from one that a redirect led to."""
        return canonical(page.url) == canonical(self._url)

    async def _with_body(self, stored: CachedResponse) -> Page | None:
        """Return the stored response with its body; None if the body is damaged."""
        try:
            return stored.page()
        except zlib.error:
            self._stored = None
            if self._cache is not None:
                await self._cache.forget(key=stored.key)
            return None

    def _key(self) -> bytes:
        """Return the key: a digest of URL, credential and all header fields, so that Vary is always respected."""
        client, auth = self._client, self._client.auth
        identity = [auth.type, self._credential or auth.identity, auth.refresh_token]
        if auth.login is not None:
            identity += [str(auth.login.data), str(auth.login.json)]
        if auth.options:
            identity.append(str(auth.options))
        fields = sorted((name.lower(), str(value)) for name, value in client.headers.items())
        own = sorted((name.lower(), value) for name, value in self._fields)
        agent = client.user_agent or __version__
        return _digest([task_key("GET", self._url, None), identity, fields, own, agent])

    def _address(self) -> bytes:
        return _digest(canonical(self._url))


def _digest(value: Any) -> bytes:
    return hashlib.blake2b(orjson.dumps(value), digest_size=_DIGEST_BYTES).digest()
