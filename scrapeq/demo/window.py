"""The sample API's rate limit: a fixed window, advertised in the header fields that GitHub uses."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Admission:
    """The window's decision on a request; `reset_s` is a Unix time, `retry_after_s` a wait in whole seconds."""

    granted: bool
    limit: int
    remaining: int
    reset_s: int
    retry_after_s: int

    def headers(self) -> dict[str, str]:
        """Return the decision as header fields; Retry-After only on a refusal (RFC 9110, 10.2.3)."""
        fields = {
            "X-RateLimit-Limit": str(self.limit),
            "X-RateLimit-Remaining": str(self.remaining),
            "X-RateLimit-Used": str(self.limit - self.remaining),
            "X-RateLimit-Reset": str(self.reset_s),
            "X-RateLimit-Resource": "core",
        }
        if not self.granted:
            fields["Retry-After"] = str(self.retry_after_s)
        return fields


class FixedWindow:
    """
    Grants `limit` requests in each window of `window_s` seconds of the wall clock.

    Windows start at multiples of `window_s` since the epoch. With whole seconds the advertised reset is exact;
    otherwise it is rounded up, so it is never too early.

    Args:
        limit: Requests granted per window.
        window_s: Length of a window, seconds.
        now_s: The wall clock, Unix seconds.
    """

    def __init__(self, limit: int, window_s: float, now_s: Callable[[], float]) -> None:
        self.limit = limit
        self.window_s = window_s
        self._now_s = now_s
        self._index = -1
        self.granted: dict[int, int] = {}
        self.refused: dict[int, int] = {}

    def take(self) -> Admission:
        """Count one request; grant it while the window has room."""
        now = self._now_s()
        # A wall clock that is set back must not reopen an earlier window.
        self._index = max(self._index, math.floor(now / self.window_s))
        used = self.granted.get(self._index, 0)
        granted = used < self.limit
        if granted:
            used += 1
            self.granted[self._index] = used
        else:
            self.refused[self._index] = self.refused.get(self._index, 0) + 1
        end_s = (self._index + 1) * self.window_s
        return Admission(
            granted=granted,
            limit=self.limit,
            remaining=self.limit - used,
            reset_s=math.ceil(end_s),
            retry_after_s=max(1, math.ceil(end_s - now)),
        )

    def windows(self) -> list[dict[str, int | float]]:
        """Return the windows with requests: start (Unix seconds), and how many were granted and refused."""
        return [
            {
                "start_s": index * self.window_s,
                "granted": self.granted.get(index, 0),
                "refused": self.refused.get(index, 0),
            }
            for index in sorted(self.granted.keys() | self.refused.keys())
        ]
