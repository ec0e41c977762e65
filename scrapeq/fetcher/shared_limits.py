"""
Rate limits in a store, for requests that are not tasks.

A `Fetcher` shares them with every other process that names the same queue.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence

from scrapeq.backoff import pauses_s
from scrapeq.clock import Clock, SystemClock
from scrapeq.errors import RateLimited, ScrapeqError
from scrapeq.limits.attribution import Attribution
from scrapeq.limits.definitions import limits_of
from scrapeq.limits.judge import Judge
from scrapeq.limits.partition import group_of
from scrapeq.plan import LimitRule
from scrapeq.queue import NO_RESPONSE, UNSENT, Entry
from scrapeq.queue.commands import ACK, RELEASE
from scrapeq.queue.worker_queue import WorkerQueue
from scrapeq.task import Group, Lease

WEIGHT = 1
# Seconds between attempts while only a response to another process can open a limit.
RETRY_FIRST_S, RETRY_MAX_S = 0.02, 0.5


class QueuePermit:
    """One granted request (`limiter.Permit`)."""

    def __init__(self, limits: QueueLimits, group: Group, lease: Lease) -> None:
        self._limits = limits
        self._lease: Lease | None = lease
        self.group = group
        self.sent_s = limits.clock.monotonic_s()

    def settle(self, attribution: Attribution | None, *, was_sent: bool = True) -> None:
        """See `limiter.Permit.settle`."""
        lease, self._lease = self._lease, None
        if lease is None:
            return
        if attribution is None:
            self._limits.report(Entry(RELEASE, lease, sent=NO_RESPONSE if was_sent else UNSENT))
        else:
            self._limits.report(Entry(ACK, lease, **attribution._asdict()))


class QueueLimits:
    """
    The rate limits of a queue in a store (`limiter.Limiter`).

    Args:
        queue: The queue whose limits they are.
        rules: The limits that are known; others are read from responses.
        token: The credential that requests carry, in clear; only its digest is stored.
        clock: Monotonic time.
    """

    def __init__(
        self,
        queue: WorkerQueue,
        rules: Sequence[LimitRule] = (),
        *,
        token: str = "",
        clock: Clock | None = None,
    ) -> None:
        self._queue = queue
        self.rules = rules
        self.clock = clock or SystemClock()
        self.judge = Judge(rules)
        self._token = token
        self._defined = False
        self._reported = asyncio.Event()
        self._reports: set[asyncio.Future[None]] = set()

    async def acquire(self, url: str, method: str = "GET", *, max_wait_s: float | None = None) -> QueuePermit:
        """
        Wait until every limit grants the request.

        Raises:
            RateLimited: a limit stays closed for more than `max_wait_s` seconds.
            StoreError: the store cannot be reached.
        """
        group = self._group(url, method)
        pauses = pauses_s(RETRY_FIRST_S, RETRY_MAX_S)
        reports = set(self._reports)
        while True:
            got = await self._try(group)
            if isinstance(got, Lease):
                return QueuePermit(self, group, got)
            if got is not None and max_wait_s is not None and got > max_wait_s:
                if reports:
                    await asyncio.wait(reports)  # they may give back what this request waits for
                    reports.clear()
                    continue
                raise RateLimited(f"{method} {url}: its rate limit is closed for another {got:.1f} s", got)
            self._reported.clear()
            with contextlib.suppress(TimeoutError):
                pause_s = next(pauses)
                await asyncio.wait_for(self._reported.wait(), pause_s if got is None else got)

    async def try_acquire(self, url: str, method: str = "GET") -> QueuePermit | None:
        """Return a permit if every limit grants one now, else None."""
        group = self._group(url, method)
        got = await self._try(group)
        return QueuePermit(self, group, got) if isinstance(got, Lease) else None

    def report(self, entry: Entry) -> None:
        """Settle a grant in the store, and wake the callers of this process that wait."""

        async def send() -> None:
            with contextlib.suppress(ScrapeqError):  # an unreported grant comes back when its lease expires
                await self._queue.settle(entry)
            self._reported.set()

        task = asyncio.ensure_future(send())
        self._reports.add(task)
        task.add_done_callback(self._reports.discard)

    async def close(self) -> None:
        """Wait until every grant is reported."""
        if self._reports:
            await asyncio.wait(self._reports)

    def _group(self, url: str, method: str) -> Group:
        return group_of(self.rules, url=url, method=method, token=self._token)

    async def _try(self, group: Group) -> Lease | float | None:
        if not self._defined:
            await self._queue.define(limits_of(self.rules))
            self._defined = True
        return await self._queue.try_acquire(group, weight=WEIGHT)
