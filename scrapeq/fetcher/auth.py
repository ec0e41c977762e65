"""Permits for the requests of a credential (a login, a token request) in a `Fetcher`, which may wait for limits."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from scrapeq.fetcher.limiter import Limiter, Permit
from scrapeq.limits.partition import instances_of
from scrapeq.page import Page
from scrapeq.plan import LimitRule
from scrapeq.responses.outcome import Outcome


class FetcherAuthGrants:
    """
    The `AuthGrants` of one request of a Fetcher.

    A login uses the permit of the request itself where both have the same limits, and requests that wait for a login
    give their permits back: otherwise each could wait for a permit that only the other can return. The request takes
    a new permit afterwards.

    Args:
        limiter: Grants permits.
        rules: The rate limits that are known.
        method, url: The request.
        permits: Its permits; the last one is in use.
        settle: Judges a response and settles its permit.
        max_wait_s: As for the Fetcher.
    """

    def __init__(
        self,
        limiter: Limiter,
        rules: Sequence[LimitRule],
        method: str,
        url: str,
        permits: list[Permit],
        settle: Callable[[Permit, Page], Outcome],
        max_wait_s: float | None,
    ) -> None:
        self._limiter = limiter
        self._rules = rules
        self._own = self._names(method, url)
        self._permits = permits
        self._settle = settle
        self._max_wait_s = max_wait_s
        self._granted = True
        self._permit = permits[-1]

    async def acquire(self, method: str, url: str, *, own: bool) -> None:
        """See `AuthGrants.acquire`. Raises RateLimited when a limit stays closed for too long."""
        if own and self._granted:
            return
        if not own and self._granted and self._names(method, url) <= self._own:
            self._permit = self._permits[-1]
            return
        self._permit = await self._limiter.acquire(url, method, max_wait_s=self._max_wait_s)
        if own:
            self._permits.append(self._permit)
            self._granted = True

    def release_while_waiting(self) -> None:
        """See `AuthGrants.release_while_waiting`."""
        if self._granted:
            self._permits[-1].settle(None, was_sent=False)
            self._granted = False

    async def settle(self, page: Page | None, *, own: bool) -> bool:
        """See `AuthGrants.settle`."""
        permit = self._permits[-1] if own else self._permit
        if permit is self._permits[-1]:
            self._granted = False
        if page is None:
            permit.settle(None)
            return False
        return self._settle(permit, page).action == "rate_limited"

    def close(self) -> None:
        """Return the permit of a login that was under way when the request was abandoned."""
        if self._permit is not self._permits[-1]:
            self._permit.settle(None)

    def _names(self, method: str, url: str) -> set[str]:
        return {name for _, name in instances_of(self._rules, method=method, url=url)}
