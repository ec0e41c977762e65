"""What is kept of the answer to one visit's request: used while it is fresh, asked for conditionally when it is not."""

from __future__ import annotations

import hashlib
import zlib
from dataclasses import replace
from typing import Any

import orjson

from scrapeq.fetch import freshness
from scrapeq.fetch.answer_cache import AnswerCache, Kept
from scrapeq.page import Page
from scrapeq.resource import canonical, task_key
from scrapeq.resource.restart import is_restart
from scrapeq.supervise.means import Means
from scrapeq.version import __version__

_DIGEST_BYTES = 16
_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})  # RFC 9110, 9.2.1


class Recall:
    """
    Args:
        means: What the worker has.
        member: The token of a pool that it is sent with.
    """

    def __init__(self, means: Means, member: str) -> None:
        self._means = means
        self._payload: dict[str, Any] = {}
        self._member = member
        self._cache: AnswerCache | None = None  # where the request is one that may be kept
        self._kept: Kept | None = None
        self._requested_s = 0.0
        self.was_misled = False  # a 304 came that is none of what is kept

    @property
    def _revalidate(self) -> bool:
        settings = self._means.plan.client.cache
        return settings is not None and settings.revalidate

    def _suits(self) -> bool:
        """A hop's answer is that of another address, and a body makes a request of its own."""
        client, payload = self._means.plan.client, self._payload
        return (
            payload.get("method", "GET") == "GET"
            and payload.get("body") is None
            and "hops" not in payload
            and not freshness.asks_otherwise(
                [*client.headers.items(), *(payload.get("headers") or {}).items()]
            )
        )

    async def fresh(self, payload: dict[str, Any]) -> Page | None:
        """The answer to this task's request, if it need not be asked for."""
        self._payload = payload
        if self._means.cache is None:
            return None
        self._requested_s = self._means.clock.now_s()
        self._cache = self._means.cache if self._suits() else None
        # a walk begins anew because what it was told is void
        if self._cache is None or is_restart(self._payload):
            return None
        self._kept = await self._cache.get(self._key())
        if self._kept is None or not self._kept.is_fresh(self._requested_s):
            return None
        return await self._whole(self._kept)

    async def _whole(self, kept: Kept) -> Page | None:
        """With its body; None if that cannot be read any more."""
        try:
            return kept.page()
        except zlib.error:
            self._kept = None
            if self._cache is not None:
                await self._cache.forget(key=kept.key)
            return None

    @property
    def conditions(self) -> list[tuple[str, str]]:
        """What makes the request a conditional one."""
        return freshness.conditions(self._kept.head) if self._kept and self._revalidate else []

    async def revived(self, page: Page) -> Page | None:
        """What a 304 stands for; None if the answer is none, or of nothing that is kept."""
        if self._cache is None or self._kept is None or page.status != freshness.NOT_MODIFIED:
            return None
        if not freshness.is_of(self._kept.head, page):
            self.was_misled = True
            await self._cache.forget(key=self._kept.key)
            return None
        now_s = self._means.clock.now_s()
        kept = self._kept.freshened(page, self._requested_s, now_s)
        changed = freshness.conditions(kept.head) != freshness.conditions(self._kept.head)
        if changed or freshness.lifetime_s(kept.head, now_s) > 0:  # else nothing in it would ever be asked
            await self._cache.freshen(kept)
        whole = await self._whole(kept)
        self.was_misled = whole is None
        return whole and replace(whole, elapsed_s=page.elapsed_s)

    async def keep(self, page: Page) -> None:
        """A good answer that came whole."""
        if self._means.cache is None:
            return
        now_s = self._means.clock.now_s()
        if self._cache is None or canonical(page.url) != canonical(self._payload["url"]):
            await self._invalidate()
        elif freshness.may_be_kept(page, now_s, revalidate=self._revalidate):
            await self._cache.put(self._key(), self._address(), page, self._requested_s, now_s)
        elif self._kept is not None:
            await self._cache.forget(key=self._kept.key)

    async def _invalidate(self) -> None:
        """What was written is no longer what was read (RFC 9111, 4.4)."""
        if self._means.cache is not None and self._payload.get("method", "GET") not in _SAFE_METHODS:
            await self._means.cache.forget(address=self._address())

    def _key(self) -> bytes:
        """Task, credential and every field that is sent: so an answer that varies with one of them is another's."""
        client, payload = self._means.plan.client, self._payload
        auth = client.auth
        who = [auth.type, self._member or auth.token, auth.username, auth.client_id, auth.refresh_token]
        if auth.login is not None:
            who += [str(auth.login.data), str(auth.login.json)]
        if auth.options:
            who.append(str(auth.options))
        fields = sorted((name.lower(), str(value)) for name, value in client.headers.items())
        own = sorted((name.lower(), value) for name, value in (payload.get("headers") or {}).items())
        agent = client.user_agent or __version__
        return _digest([task_key("GET", payload["url"], None), who, fields, own, agent])

    def _address(self) -> bytes:
        return _digest(canonical(self._payload["url"]))


def _digest(value: Any) -> bytes:
    return hashlib.blake2b(orjson.dumps(value), digest_size=_DIGEST_BYTES).digest()
