"""A clock that stands still until a test moves it."""

from __future__ import annotations

import asyncio
import heapq
from itertools import count


class FakeClock:
    """
    A `Clock` that moves only when a test calls `advance` or `step`.

    Args:
        start_s: The wall clock at the start, Unix seconds.
        auto: Let each `sleep` advance the clock itself and return at once; for code with one coroutine that sleeps.
    """

    def __init__(self, start_s: float = 1_700_000_000.0, *, auto: bool = False) -> None:
        self.auto = auto
        self.slept_s: list[float] = []
        self._wall_s = start_s
        self._monotonic_s = 0.0
        self._order = count()
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []

    def now_s(self) -> float:
        """Return the wall clock, Unix seconds."""
        return self._wall_s

    def monotonic_s(self) -> float:
        """Return the seconds since this clock was created; `step` does not change them."""
        return self._monotonic_s

    @property
    def sleepers(self) -> int:
        """How many coroutines sleep on this clock now."""
        return sum(1 for _, _, future in self._sleepers if not future.done())

    async def sleep(self, delay_s: float) -> None:
        """Wait until the test has advanced the clock by `delay_s`."""
        self.slept_s.append(delay_s)
        if self.auto or delay_s <= 0:
            self._move(max(0.0, delay_s) if self.auto else 0.0)
            await asyncio.sleep(0)
            return
        future = asyncio.get_running_loop().create_future()
        heapq.heappush(self._sleepers, (self._monotonic_s + delay_s, next(self._order), future))
        await future

    def step(self, delta_s: float) -> None:
        """Set the wall clock forward or back, as an administrator would; sleepers are not affected."""
        self._wall_s += delta_s

    async def advance(self, delta_s: float) -> None:
        """Let time pass: each sleeper that comes due wakes at its time, and runs before the next one wakes."""
        end = self._monotonic_s + delta_s
        await _settle()
        while self._sleepers and self._sleepers[0][0] <= end:
            due, _, future = heapq.heappop(self._sleepers)
            self._move(max(0.0, due - self._monotonic_s))
            if not future.done():
                future.set_result(None)
                await _settle()
        self._move(max(0.0, end - self._monotonic_s))

    def _move(self, delta_s: float) -> None:
        self._wall_s += delta_s
        self._monotonic_s += delta_s


SETTLE_TURNS = 10  # turns of the event loop that a woken task gets to reach its next wait


async def _settle() -> None:
    for _ in range(SETTLE_TURNS):
        await asyncio.sleep(0)
