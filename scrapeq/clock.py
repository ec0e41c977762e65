"""The clock is handed in, so that tests can hold it: wall time, monotonic time and sleeping in one seam."""

from __future__ import annotations

import asyncio
import time
from typing import Protocol


class Clock(Protocol):
    """What the rooms may ask of time. Seconds throughout."""

    def now_s(self) -> float:
        """Wall clock, Unix seconds. Only for reading dates: durations use `monotonic_s`."""

    def monotonic_s(self) -> float:
        """A clock that never steps back, seconds from an arbitrary start."""

    async def sleep(self, delay_s: float) -> None:
        """Wait for `delay_s` seconds of this clock."""


class SystemClock:
    """The machine's own clock."""

    def now_s(self) -> float:
        """Wall clock, Unix seconds."""
        return time.time()

    def monotonic_s(self) -> float:
        """Monotonic seconds."""
        return time.monotonic()

    async def sleep(self, delay_s: float) -> None:
        """Wait on the event loop's timer."""
        await asyncio.sleep(delay_s)
