"""
The scheduler: it pushes due resources again, and sweeps queues from which no fetcher pops.

A sweep expires leases and makes delayed tasks ready. Each pop does the same, so no queue needs a scheduler to be
correct. The sweeps keep counts, alarms and waiting clients up to date while no fetcher runs.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable

from scrapeq.errors import ScrapeqError, StoreDamaged, StoreError
from scrapeq.schedule.leader_lock import LEADER_TTL_MS, LeaderLock

TURN_S = LEADER_TTL_MS / 1000 / 3  # the leader renews its lock three times in its lifetime
STORE_AWAY_PAUSE_S = 1.0  # before the next try while the store is away
STANDBY_PAUSE_S = 0.2  # between checks whether this scheduler has become the leader
FAILED_PAUSE_S = 10.0  # before a failed push is tried again: a seed file with errors, a full queue
DUE_CHECK_MAX_S = 10.0  # between checks of the due times, since the user may have changed them

Sweep = Callable[[], Awaitable[tuple[bool, float | None]]]
"""Does what is due in the queue; returns whether more is due now, and the seconds until the next event (None: none)."""

PushDue = Callable[[], Awaitable[float | None]]
"""Pushes due resources, perhaps waiting long for room in the queue; returns the seconds until the next is due."""


class Scheduler:
    """
    The scheduler of one queue. Any number may run; only the leader acts.

    Args:
        leader_lock: Decides which scheduler leads.
        sweep: Does what is due in the queue.
        push_due: Pushes due resources; None = the queue is without schedules.
        on_event: Takes a sentence for the user when a push fails.
    """

    def __init__(
        self,
        leader_lock: LeaderLock,
        sweep: Sweep,
        push_due: PushDue | None = None,
        on_event: Callable[[str], None] | None = None,
    ) -> None:
        self.sweeps = 0
        self._leader_lock = leader_lock
        self._sweep = sweep
        self._push_due = push_due
        self._on_event = on_event
        self._last_failure = ""

    async def run(self, stop: asyncio.Event) -> None:
        """
        Lead or stand by until `stop` is set; the leader sweeps at each event and pushes what is due.

        Raises:
            StoreDamaged: the store lost data of the queue; while it is away, this waits.
        """
        pushing = None if self._push_due is None else asyncio.create_task(self._keep_pushing(self._push_due))
        try:
            while not stop.is_set():
                if pushing is not None and pushing.done():
                    pushing.result()  # an unexpected error: it ends this process, and the supervisor restarts it
                pause_s = await self._turn()
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(stop.wait(), pause_s)
        finally:
            if pushing is not None:
                pushing.cancel()
                await asyncio.wait([pushing])
            with contextlib.suppress(Exception):
                await self._leader_lock.release()

    async def _keep_pushing(self, push_due: PushDue) -> None:
        while True:
            pause_s = STANDBY_PAUSE_S
            if self._leader_lock.is_leader:
                try:
                    wait_s = await push_due()
                    pause_s = DUE_CHECK_MAX_S if wait_s is None else min(DUE_CHECK_MAX_S, wait_s)
                    self._last_failure = ""
                except StoreDamaged:
                    raise
                except (StoreError, OSError):
                    pause_s = STORE_AWAY_PAUSE_S
                except ScrapeqError as error:
                    pause_s = FAILED_PAUSE_S
                    self._report_failure(str(error))
            await asyncio.sleep(pause_s)

    def _report_failure(self, failure: str) -> None:
        """Report a failed push, once until it changes."""
        if self._on_event is not None and failure != self._last_failure:
            self._last_failure = failure
            self._on_event(f"due    cannot push: {failure}")

    async def _turn(self) -> float:
        """Renew the lock and, as the leader, sweep once; return the seconds until the next turn."""
        try:
            if not await self._leader_lock.acquire():
                return TURN_S
            is_more_due, wait_s = await self._sweep()
            self.sweeps += 1
        except StoreDamaged:
            raise
        except (StoreError, OSError):
            return STORE_AWAY_PAUSE_S
        if is_more_due:
            return 0.0
        return TURN_S if wait_s is None else min(TURN_S, wait_s)
