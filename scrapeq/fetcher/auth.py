"""Permits for what a credential needs, where the one who asks may wait for limits: a `Fetcher`'s."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from scrapeq.fetcher.local_limits import Limiter, Permit
from scrapeq.limits.partition import instances_of
from scrapeq.page import Page
from scrapeq.plan import LimitRule
from scrapeq.responses.outcome import Outcome

Judge = Callable[[Permit, Page], Outcome]


class FetcherAuthGrants:
    """
    The `AuthGrants` of one request of a Fetcher.

    A login takes the request's own permit where that is one of the same limits, and those who wait for it give theirs
    back, so that nobody waits for a permit that only he can give back; the request takes another one then.

    Args:
        grants: Where permits come from.
        rules: The limits that are known.
        method, url: The request.
        held: Its permits; the last one is in use.
        judge: Settles a permit by an answer.
        max_wait_s: As the Fetcher's.
    """

    def __init__(
        self,
        grants: Limiter,
        rules: Sequence[LimitRule],
        method: str,
        url: str,
        held: list[Permit],
        judge: Judge,
        max_wait_s: float | None,
    ) -> None:
        self._grants = grants
        self._rules = rules
        self._own = self._names(method, url)
        self._held = held
        self._judge = judge
        self._max_wait_s = max_wait_s
        self._granted = True
        self._permit = held[-1]

    async def acquire(self, method: str, url: str, *, own: bool) -> None:
        """See `AuthGrants.acquire`. Raises RateLimited when a limit is closed for longer than the caller waits."""
        if own and self._granted:
            return
        if not own and self._granted and self._names(method, url) <= self._own:
            self._permit = self._held[-1]
            return
        self._permit = await self._grants.acquire(url, method, max_wait_s=self._max_wait_s)
        if own:
            self._held.append(self._permit)
            self._granted = True

    def release_while_waiting(self) -> None:
        """See `AuthGrants.release_while_waiting`."""
        if self._granted:
            self._held[-1].settle(None, was_sent=False)
            self._granted = False

    async def settle(self, page: Page | None, *, own: bool) -> bool:
        """See `AuthGrants.settle`."""
        permit = self._held[-1] if own else self._permit
        if permit is self._held[-1]:
            self._granted = False
        if page is None:
            permit.settle(None)
            return False
        return self._judge(permit, page).action == "rate_limited"

    def close(self) -> None:
        """Give back what was in use when the request was given up."""
        if self._permit is not self._held[-1]:
            self._permit.settle(None)

    def _names(self, method: str, url: str) -> set[str]:
        return {name for _, name in instances_of(self._rules, method=method, url=url)}
