"""What is kept of the answer to one request: used while it is fresh, asked for conditionally when it is not."""

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
    For one request: `fresh` first, then its `conditions` are sent along, then `revived`, then `keep`.

    Args:
        cache: Where answers are kept; None = nowhere.
        client: Credentials and headers, which an answer belongs to.
        clock: Wall time.
        member: The token of a pool that it is sent with.
    """

    def __init__(
        self, cache: ResponseCache | None, client: Client, clock: Clock, credential: str = ""
    ) -> None:
        self._all = cache
        self._client = client
        self._clock = clock
        self._member = credential
        self._revalidate = (client.cache or _DEFAULT).revalidate
        self._cache: ResponseCache | None = None  # where this request is one whose answer may be kept
        self._method = self._url = ""
        self._fields: Sequence[tuple[str, str]] = ()
        self._kept: CachedResponse | None = None
        self._requested_s = 0.0
        self.was_misled = False  # a 304 came that is none of what is kept

    async def fresh(
        self,
        method: str,
        url: str,
        fields: Sequence[tuple[str, str]],
        *,
        has_body: bool = False,
        may_use: bool = True,
    ) -> Page | None:
        """
        The answer, if it need not be asked for.

        Args:
            method, url, fields: The request; `has_body`: one that is more than its address.
            may_use: Whether what is kept may be used; its answer will be kept all the same.
        """
        if self._all is None:
            return None
        self._method, self._url, self._fields = method, url, fields
        self._requested_s = self._clock.now_s()
        asked_otherwise = freshness.asks_otherwise([*self._client.headers.items(), *fields])
        if method == "GET" and not has_body and not asked_otherwise:
            self._cache = self._all
        if self._cache is None or not may_use:
            return None
        self._kept = await self._cache.get(self._key())
        if self._revalidate is True or self._kept is None or not self._kept.is_fresh(self._requested_s):
            return None
        return await self._whole(self._kept)

    @property
    def conditions(self) -> list[tuple[str, str]]:
        """What makes the request a conditional one."""
        return freshness.conditions(self._kept.head) if self._kept and self._revalidate is not False else []

    async def revived(self, page: Page) -> Page | None:
        """What a 304 stands for; None if the answer is none, or of nothing that is kept (see `was_misled`)."""
        self.was_misled = False
        kept = self._kept
        if (
            self._cache is None
            or kept is None
            or page.status != freshness.NOT_MODIFIED
            or not self._is_ours(page)
        ):
            return None
        now_s = self._clock.now_s()
        new = kept.freshened(page, self._requested_s, now_s)
        whole = await self._whole(new) if freshness.is_of(kept.head, page) else None
        if whole is None:
            self.was_misled = True
            self._kept = None
            await self._cache.forget(key=kept.key)
            return None
        changed = freshness.conditions(new.head) != freshness.conditions(kept.head)
        if changed or freshness.lifetime_s(new.head, now_s) > 0:  # else nothing in it would ever be asked
            await self._cache.freshen(new)
        return replace(whole, elapsed_s=page.elapsed_s)

    async def keep(self, page: Page) -> None:
        """A good answer that came whole; one that `fresh` was not asked about is none to keep."""
        if self._all is None or not self._method:
            return
        now_s = self._clock.now_s()
        if self._method not in _SAFE_METHODS:  # what was read is no longer what is there (RFC 9111, 4.4)
            await self._all.forget(address=self._address())
        elif self._cache is None or not self._is_ours(page):
            return
        elif freshness.may_be_kept(page, now_s, revalidate=self._revalidate is not False):
            await self._cache.put(self._key(), self._address(), page, self._requested_s, now_s)
        elif self._kept is not None:
            await self._cache.forget(key=self._kept.key)

    def _is_ours(self, page: Page) -> bool:
        """What a redirect led to is the answer of another address."""
        return canonical(page.url) == canonical(self._url)

    async def _whole(self, kept: CachedResponse) -> Page | None:
        """With its body; None if that cannot be read any more."""
        try:
            return kept.page()
        except zlib.error:
            self._kept = None
            if self._cache is not None:
                await self._cache.forget(key=kept.key)
            return None

    def _key(self) -> bytes:
        """Address, credential and every field that is sent: so an answer that varies with one of them is another's."""
        client, auth = self._client, self._client.auth
        who = [auth.type, self._member or auth.identity, auth.refresh_token]
        if auth.login is not None:
            who += [str(auth.login.data), str(auth.login.json)]
        if auth.options:
            who.append(str(auth.options))
        fields = sorted((name.lower(), str(value)) for name, value in client.headers.items())
        own = sorted((name.lower(), value) for name, value in self._fields)
        agent = client.user_agent or __version__
        return _digest([task_key("GET", self._url, None), who, fields, own, agent])

    def _address(self) -> bytes:
        return _digest(canonical(self._url))


def _digest(value: Any) -> bytes:
    return hashlib.blake2b(orjson.dumps(value), digest_size=_DIGEST_BYTES).digest()
