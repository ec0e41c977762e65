"""The shapes of server-side limits. Pure: the caller passes the time, in seconds from any origin."""

from __future__ import annotations

from collections import deque
from typing import NamedTuple, Protocol


class Admission(NamedTuple):
    """A decision: `remaining` requests until `reset_s` seconds from now; if refused, `reset_s` is the time to wait."""

    accepted: bool
    remaining: int
    reset_s: float


class Shape(Protocol):
    """One limit."""

    def admit(self, now_s: float) -> Admission:
        """Decide on a request that arrives now."""

    def leave(self, now_s: float) -> None:
        """Record the response to an accepted request."""


class Open:
    """Accepts everything."""

    def admit(self, now_s: float) -> Admission:
        return Admission(True, 1_000_000, 0.0)

    def leave(self, now_s: float) -> None:
        pass


class FixedWindow(Open):
    """`limit` requests per window, which starts with the first request after the last window, or by the clock."""

    def __init__(self, limit: int, window_s: float, *, aligned: bool = False) -> None:
        self._limit, self._window_s, self._aligned = limit, window_s, aligned
        self._ends_s = float("-inf")
        self._count = 0

    def admit(self, now_s: float) -> Admission:
        if now_s >= self._ends_s:
            start_s = now_s - now_s % self._window_s if self._aligned else now_s
            self._ends_s, self._count = start_s + self._window_s, 0
        accepted = self._count < self._limit
        self._count += accepted
        return Admission(accepted, self._limit - self._count, self._ends_s - now_s)


class SlidingLog(Open):
    """`limit` accepted requests in any time of the length of a window."""

    def __init__(self, limit: int, window_s: float) -> None:
        self._limit, self._window_s = limit, window_s
        self._log: deque[float] = deque()

    def _has_room(self, now_s: float) -> bool:
        """Forget requests that left the window; return whether one more is accepted."""
        while self._log and self._log[0] <= now_s - self._window_s:
            self._log.popleft()
        return len(self._log) < self._limit

    def admit(self, now_s: float) -> Admission:
        accepted = self._has_room(now_s)
        if accepted:
            self._log.append(now_s)
        return Admission(accepted, self._limit - len(self._log), self._log[0] + self._window_s - now_s)


class TwoBucket(Open):
    """A sliding counter: the count of this window, plus that of the last one, weighted by its part still in sight."""

    def __init__(self, limit: int, window_s: float) -> None:
        self._limit, self._window_s = limit, window_s
        self._window, self._count, self._before = 0, 0, 0

    def admit(self, now_s: float) -> Admission:
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
        return Admission(accepted, remaining, reset_s)


class TokenBucket(Open):
    """`burst` tokens, refilled at `limit` per window."""

    def __init__(self, limit: int, window_s: float, burst: int) -> None:
        self._per_s, self._burst = limit / window_s, burst
        self._tokens, self._seen_s = float(burst), float("-inf")

    def admit(self, now_s: float) -> Admission:
        if self._seen_s > float("-inf"):
            self._tokens = min(self._burst, self._tokens + (now_s - self._seen_s) * self._per_s)
        self._seen_s = now_s
        accepted = self._tokens >= 1
        self._tokens -= accepted
        return Admission(accepted, int(self._tokens), max(0.0, 1 - self._tokens) / self._per_s)


class Concurrency(Open):
    """`limit` requests at once."""

    def __init__(self, limit: int) -> None:
        self._limit, self._inside = limit, 0

    def admit(self, now_s: float) -> Admission:
        accepted = self._inside < self._limit
        self._inside += accepted
        return Admission(accepted, self._limit - self._inside, 1.0)

    def leave(self, now_s: float) -> None:
        self._inside -= 1


class Closed(Open):
    """Refuses everything for `closed_s` seconds after its first request, and states a wait of `again_s`."""

    def __init__(self, closed_s: float, again_s: float) -> None:
        self._closed_s, self._again_s = closed_s, again_s
        self._first_s: float | None = None

    def admit(self, now_s: float) -> Admission:
        if self._first_s is None:
            self._first_s = now_s
        if now_s < self._first_s + self._closed_s:
            return Admission(False, 0, self._again_s)
        return super().admit(now_s)
