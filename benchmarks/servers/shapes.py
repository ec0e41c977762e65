"""The shapes of server-side limits. Pure: each is told the time (seconds, any origin) and says yes or no."""

from __future__ import annotations

from collections import deque
from typing import NamedTuple, Protocol


class Verdict(NamedTuple):
    """`remaining` requests until `reset_s` seconds from now; refused: `reset_s` is when one is accepted again."""

    accepted: bool
    remaining: int
    reset_s: float


class Shape(Protocol):
    """One limit."""

    def admit(self, now_s: float) -> Verdict:
        """A request arrives."""

    def leave(self, now_s: float) -> None:
        """An accepted request is answered."""


class Open:
    """No limit at all."""

    def admit(self, now_s: float) -> Verdict:
        return Verdict(True, 1_000_000, 0.0)

    def leave(self, now_s: float) -> None:
        pass


class FixedWindow(Open):
    """`limit` requests a window; it begins with the first request after the last one, or on the clock."""

    def __init__(self, limit: int, window_s: float, *, aligned: bool = False) -> None:
        self._limit, self._window_s, self._aligned = limit, window_s, aligned
        self._ends_s = float("-inf")
        self._count = 0

    def admit(self, now_s: float) -> Verdict:
        if now_s >= self._ends_s:
            start_s = now_s - now_s % self._window_s if self._aligned else now_s
            self._ends_s, self._count = start_s + self._window_s, 0
        accepted = self._count < self._limit
        self._count += accepted
        return Verdict(accepted, self._limit - self._count, self._ends_s - now_s)


class SlidingLog(Open):
    """`limit` accepted requests in any span of a window."""

    def __init__(self, limit: int, window_s: float) -> None:
        self._limit, self._window_s = limit, window_s
        self._log: deque[float] = deque()

    def _has_room(self, now_s: float) -> bool:
        """Whether one more is accepted, once what has left the window is forgotten."""
        while self._log and self._log[0] <= now_s - self._window_s:
            self._log.popleft()
        return len(self._log) < self._limit

    def admit(self, now_s: float) -> Verdict:
        accepted = self._has_room(now_s)
        if accepted:
            self._log.append(now_s)
        return Verdict(accepted, self._limit - len(self._log), self._log[0] + self._window_s - now_s)


class TwoBucket(Open):
    """The sliding counter: this window's count and the last one's, weighted by what of it is still in sight."""

    def __init__(self, limit: int, window_s: float) -> None:
        self._limit, self._window_s = limit, window_s
        self._window, self._count, self._before = 0, 0, 0

    def admit(self, now_s: float) -> Verdict:
        window, into_s = divmod(now_s, self._window_s)
        if window != self._window:
            self._before = self._count if window == self._window + 1 else 0
            self._window, self._count = int(window), 0
        share = self._before * (1 - into_s / self._window_s)
        accepted = share + self._count < self._limit
        self._count += accepted
        remaining = max(0, int(self._limit - share - self._count))
        if self._before and self._count < self._limit:
            reset_s = max(0.0, share + self._count - self._limit) / self._before * self._window_s
        else:
            reset_s = self._window_s - into_s
        return Verdict(accepted, remaining, reset_s)


class TokenBucket(Open):
    """`burst` tokens, refilled at `limit` a window."""

    def __init__(self, limit: int, window_s: float, burst: int) -> None:
        self._per_s, self._burst = limit / window_s, burst
        self._tokens, self._seen_s = float(burst), float("-inf")

    def admit(self, now_s: float) -> Verdict:
        if self._seen_s > float("-inf"):
            self._tokens = min(self._burst, self._tokens + (now_s - self._seen_s) * self._per_s)
        self._seen_s = now_s
        accepted = self._tokens >= 1
        self._tokens -= accepted
        return Verdict(accepted, int(self._tokens), max(0.0, 1 - self._tokens) / self._per_s)


class Concurrency(Open):
    """`limit` requests at once."""

    def __init__(self, limit: int) -> None:
        self._limit, self._inside = limit, 0

    def admit(self, now_s: float) -> Verdict:
        accepted = self._inside < self._limit
        self._inside += accepted
        return Verdict(accepted, self._limit - self._inside, 1.0)

    def leave(self, now_s: float) -> None:
        self._inside -= 1


class Closed(Open):
    """Refuses everything for `closed_s` seconds from its first request on, and says to come back in `again_s`."""

    def __init__(self, closed_s: float, again_s: float) -> None:
        self._closed_s, self._again_s = closed_s, again_s
        self._first_s: float | None = None

    def admit(self, now_s: float) -> Verdict:
        if self._first_s is None:
            self._first_s = now_s
        if now_s < self._first_s + self._closed_s:
            return Verdict(False, 0, self._again_s)
        return super().admit(now_s)
