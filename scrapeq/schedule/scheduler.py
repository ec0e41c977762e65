"""
The scheduler: pushes again what recurs, and expires leases and makes delayed tasks ready in queues that nobody pops.

No queue needs the latter to be correct: each pop does the same for itself. It keeps the books of a queue true
(`status`, alarms, who waits on a marker) while no fetcher runs.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable

from scrapeq.errors import ScrapeqError, StoreError
from scrapeq.schedule.leader_lock import LEADERSHIP_MS, LeaderLock

TURN_S = LEADERSHIP_MS / 1000 / 3  # the office is renewed at a third of its time
AWAY_S = 1.0  # before the next try while the store is away
STANDBY_S = 0.2  # between looks whether the office is ours
FAILED_S = (
    10.0  # before what could not be pushed is tried again: a file of seeds that makes no sense, a full queue
)
LOOK_S = 10.0  # at most between looks at what is due, for a person may have changed it

Sweep = Callable[[], Awaitable[tuple[bool, float | None]]]
Recur = Callable[[], Awaitable[float | None]]


class Scheduler:
    """
    Args:
        election: The office; only its holder acts.
        sweep: Does what is due in the queue: (more is due now, seconds to the next event or None).
        recur: Pushes what is due again: seconds to the next time, or None. It may wait for room in the queue for long.
        event: Told why `recur` could not.
    """

    def __init__(
        self,
        election: LeaderLock,
        sweep: Sweep,
        recur: Recur | None = None,
        event: Callable[[str], None] | None = None,
    ) -> None:
        self._election = election
        self._sweep = sweep
        self._recur = recur
        self._event = event
        self._failed = ""
        self.sweeps = 0

    async def run(self, stop: asyncio.Event) -> None:
        """Until `stop`: sweep at each event and push what is due while elected, stand by otherwise."""
        recurring = None if self._recur is None else asyncio.create_task(self._keep_recurring(self._recur))
        try:
            while not stop.is_set():
                if recurring is not None and recurring.done():
                    recurring.result()  # an error that nobody foresaw: whoever keeps this process starts it again
                pause_s = await self._turn()
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(stop.wait(), pause_s)
        finally:
            if recurring is not None:
                recurring.cancel()
                await asyncio.wait([recurring])
            with contextlib.suppress(Exception):
                await self._election.release()

    async def _keep_recurring(self, recur: Recur) -> None:
        while True:
            pause_s = STANDBY_S
            if self._election.elected:
                try:
                    wait_s = await recur()
                    pause_s = LOOK_S if wait_s is None else min(LOOK_S, wait_s)
                    self._failed = ""
                except (StoreError, OSError):
                    pause_s = AWAY_S
                except ScrapeqError as error:
                    pause_s = FAILED_S
                    if self._event is not None and str(error) != self._failed:  # said once
                        self._failed = str(error)
                        self._event(f"due    it cannot be pushed: {error}")
            await asyncio.sleep(pause_s)

    async def _turn(self) -> float:
        """One turn; seconds until the next one."""
        try:
            if not await self._election.acquire():
                return TURN_S
            more, wait_s = await self._sweep()
            self.sweeps += 1
        except (StoreError, OSError):
            return AWAY_S
        if more:
            return 0.0
        return TURN_S if wait_s is None else min(TURN_S, wait_s)
