"""
The scheduler: expires leases and makes delayed tasks ready in queues that nobody pops.

No queue needs it to be correct: each pop does the same for itself. It keeps the books of a queue true
(`status`, alarms, who waits on a marker) while no fetcher runs.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable

from scrapeq.errors import StoreError
from scrapeq.schedule.election import OFFICE_MS, Election

TURN_S = OFFICE_MS / 1000 / 3  # the office is renewed at a third of its time
AWAY_S = 1.0  # before the next try while the store is away

Sweep = Callable[[], Awaitable[tuple[bool, float | None]]]


class Scheduler:
    """
    Args:
        election: The office; only its holder acts.
        sweep: Does what is due in the queue: (more is due now, seconds to the next event or None).
    """

    def __init__(self, election: Election, sweep: Sweep) -> None:
        self._election = election
        self._sweep = sweep
        self.sweeps = 0

    async def run(self, stop: asyncio.Event) -> None:
        """Until `stop`: sweep at each event while elected, stand by otherwise."""
        try:
            while not stop.is_set():
                pause_s = await self._turn()
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(stop.wait(), pause_s)
        finally:
            with contextlib.suppress(Exception):
                await self._election.resign()

    async def _turn(self) -> float:
        """One turn; seconds until the next one."""
        try:
            if not await self._election.stand():
                return TURN_S
            more, wait_s = await self._sweep()
            self.sweeps += 1
        except (StoreError, OSError):
            return AWAY_S
        if more:
            return 0.0
        return TURN_S if wait_s is None else min(TURN_S, wait_s)
