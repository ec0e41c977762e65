"""
Permits from the limits in a store, for requests that are no tasks.

With these a `Fetcher` shares its limits with every other process that names the same queue.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Sequence

from scrapeq.errors import RateLimited, ScrapeqError
from scrapeq.limits.attribution import attribute
from scrapeq.limits.consecutive_refusals import ConsecutiveRefusals
from scrapeq.limits.definitions import limits_of
from scrapeq.limits.partition import group_of
from scrapeq.limits.server_clock import ServerClocks
from scrapeq.plan import LimitRule
from scrapeq.queue import NO_RESPONSE, UNSENT, Entry
from scrapeq.queue.commands import ACK, RELEASE
from scrapeq.queue.worker_queue import WorkerQueue
from scrapeq.responses.outcome import Outcome
from scrapeq.task import Group, Lease

WEIGHT = 1
LOOK_FIRST_S, LOOK_MAX_S = 0.02, 0.5  # between looks while only somebody else's answer can open a limit


class QueuePermit:
    """One granted request; settle it with what its answer meant."""

    def __init__(self, limits: QueueLimits, group: Group, lease: Lease) -> None:
        self._limits = limits
        self._group = group
        self._lease: Lease | None = lease
        self._sent_s = time.monotonic()

    @property
    def refusals_in_a_row(self) -> int:
        """How many there will have been in a row, should this one be refused."""
        return self._limits.refusals.count_with(self._group.name, self._sent_s)

    def settle(self, outcome: Outcome | None, *, was_sent: bool = True) -> None:
        """Report its answer; None: no answer came, or it never was sent. Only the first call counts."""
        lease, self._lease = self._lease, None
        if lease is None:
            return
        limits, now_s = self._limits, time.monotonic()
        if outcome is None:
            limits.report(Entry(RELEASE, lease, sent=NO_RESPONSE if was_sent else UNSENT))
            return
        if outcome.action == "rate_limited":
            limits.refusals.refused(self._group.name, self.refusals_in_a_row, now_s)
        else:
            limits.refusals.succeeded(self._group.name)
        found = attribute(
            self._group, outcome, limits.rules, clocks=limits.clocks, sent_s=self._sent_s, answered_s=now_s
        )
        limits.report(Entry(ACK, lease, **found._asdict()))


class QueueLimits:
    """
    Permits from the limits in a store.

    Args:
        queue: The queue whose limits they are.
        rules: The limits that are known; others are told by the answers.
        token: The credential that requests carry, in clear; only its digest is stored.
    """

    def __init__(self, queue: WorkerQueue, rules: Sequence[LimitRule] = (), *, token: str = "") -> None:
        self._queue = queue
        self.rules = rules
        self._token = token
        self._defined = False
        self._reported = asyncio.Event()
        self._reports: set[asyncio.Future[None]] = set()
        self.refusals = ConsecutiveRefusals()
        self.clocks = ServerClocks()

    async def acquire(self, url: str, method: str = "GET", *, max_wait_s: float | None = None) -> QueuePermit:
        """Wait for the limits. Raises RateLimited when one is closed for longer than `max_wait_s`, StoreError."""
        group = self._group(url, method)
        look_s = LOOK_FIRST_S
        reports = set(self._reports)
        while True:
            got = await self._ask(group)
            if isinstance(got, Lease):
                return QueuePermit(self, group, got)
            if got is not None and max_wait_s is not None and got > max_wait_s:
                if reports:
                    await asyncio.wait(reports)  # what this process gives back may be just on its way
                    reports.clear()
                    continue
                raise RateLimited(f"{method} {url}: its limit is closed for another {got:.1f} s", got)
            self._reported.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._reported.wait(), look_s if got is None else got)
            look_s = min(look_s * 2, LOOK_MAX_S)

    async def try_acquire(self, url: str, method: str = "GET") -> QueuePermit | None:
        """A permit now, or None."""
        group = self._group(url, method)
        got = await self._ask(group)
        return QueuePermit(self, group, got) if isinstance(got, Lease) else None

    def report(self, entry: Entry) -> None:
        """Send what became of a grant; who waits in this process looks again."""

        async def send() -> None:
            with contextlib.suppress(ScrapeqError):  # a grant that is not reported comes back by its lease
                await self._queue.settle(entry)
            self._reported.set()

        task = asyncio.ensure_future(send())
        self._reports.add(task)
        task.add_done_callback(self._reports.discard)

    async def close(self) -> None:
        """Wait until everything is reported."""
        if self._reports:
            await asyncio.wait(self._reports)

    def _group(self, url: str, method: str) -> Group:
        return group_of(self.rules, url=url, method=method, token=self._token)

    async def _ask(self, group: Group) -> Lease | float | None:
        if not self._defined:
            await self._queue.define(limits_of(self.rules))
            self._defined = True
        return await self._queue.try_acquire(group, weight=WEIGHT)
