"""The clock that code receives as an argument, so that tests can replace it: wall time, monotonic time and sleep."""

from __future__ import annotations

import asyncio
import time
from typing import Protocol


class Clock(Protocol):
    """A source of time, in seconds."""

    def now_s(self) -> float:
        """Return the wall clock, Unix seconds. Use it only to interpret dates; measure durations with `monotonic_s`."""

    def monotonic_s(self) -> float:
        """Return the time of a clock that never steps back, in seconds from an arbitrary start."""

    async def sleep(self, delay_s: float) -> None:
        """Wait `delay_s` seconds of this clock."""


class SystemClock:
    """The clock of the machine."""

    def now_s(self) -> float:
        """Return the wall clock, Unix seconds."""
        return time.time()

    def monotonic_s(self) -> float:
        """Return monotonic seconds."""
        return time.monotonic()

    async def sleep(self, delay_s: float) -> None:
        """Wait `delay_s` seconds on the timer of the event loop."""
        await asyncio.sleep(delay_s)
