"""The limits of one process on a fake clock, for tests of grants and waiting callers."""

from __future__ import annotations

import pytest

from scrapeq.errors import RateLimited
from scrapeq.fetcher.local_limits import LocalLimits, LocalPermit
from scrapeq.limits.judge import Exchange
from scrapeq.plan import LimitRule
from scrapeq.responses.outcome import Outcome
from scrapeq.testing.clock import FakeClock

URL = "https://api.example/items"
OTHER = "https://other.example/"
FINE = Outcome("success")
ALL, HOST = LimitRule("all", partition_by=()), LimitRule("host", partition_by=("host",))
ALONE = LimitRule("all", partition_by=(), max_concurrency=1)
TICK_S = 0.001
NEXT_WINDOW_S = 1_700_006_400 - 1_700_000_000  # from the clock's start to the next whole hour


class Limited:
    """The limits and their clock."""

    def __init__(self, *rules: LimitRule) -> None:
        self.clock = FakeClock()
        self.limits = LocalLimits(rules, clock=self.clock)

    async def one(self, url: str = URL) -> LocalPermit:
        """Return a permit; fail if a limit is closed."""
        permit = await self.limits.try_acquire(url)
        assert permit is not None
        return permit

    async def fill(self, url: str = URL) -> list[LocalPermit]:
        """Return all permits that are available now."""
        permits = []
        while (permit := await self.limits.try_acquire(url)) is not None:
            permits.append(permit)
            assert len(permits) < 1000
        return permits

    async def closed_s(self, url: str = URL) -> float:
        """Return for how many seconds the limits of a URL are closed, to the millisecond."""
        with pytest.raises(RateLimited) as caught:
            await self.limits.acquire(url, max_wait_s=0)
        assert caught.value.retry_after_s is not None
        return round(caught.value.retry_after_s, 3)

    def settle(self, permit: LocalPermit, outcome: Outcome) -> None:
        """Report a response with this outcome."""
        now_s = self.clock.monotonic_s()
        exchange = Exchange(permit.group, permit.sent_s, now_s, self.clock.now_s())
        permit.settle(self.limits.judge.attribute(outcome, exchange))

    def consecutive_refusals(self, permit: LocalPermit) -> int:
        """Return the number of consecutive refusals if this permit's request is refused."""
        return self.limits.judge.refusals.count_with(permit.group.name, permit.sent_s)

    async def request(self, outcome: Outcome = FINE, url: str = URL) -> None:
        """Send one request and report its response one tick later."""
        permit = await self.one(url)
        await self.clock.advance(TICK_S)
        self.settle(permit, outcome)
        await self.clock.advance(TICK_S)


def refusal(wait_s: float) -> Outcome:
    """Return the outcome of a refusal that states this wait."""
    return Outcome("rate_limited", wait_s)
