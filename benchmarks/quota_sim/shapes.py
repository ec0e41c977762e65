"""More shapes of server-side limits, and other behavior: servers that punish, change, restart or serve others. Pure."""

from __future__ import annotations

import math
import random
from collections import deque
from collections.abc import Callable

from benchmarks.servers.shapes import (
    Admission,
    Concurrency,
    FixedWindow,
    Shape,
    SlidingLog,
    TokenBucket,
    TwoBucket,
)


class CountingLog(SlidingLog):
    """A sliding log that also counts refused requests."""

    def admit(self, now_s: float) -> Admission:
        accepted = self._has_room(now_s)
        self._log.append(now_s)
        over = len(self._log) - self._limit  # so many must leave before a request is accepted
        reset_s = self._log[max(over, 0)] + self._window_s - now_s
        return Admission(accepted, max(0, -over), reset_s)


class Bucket(TokenBucket):
    """A token bucket that reports to an accepted request when it is full again, as most servers do."""

    def __init__(self, limit: int, window_s: float, burst: int) -> None:
        super().__init__(limit, window_s, burst)
        self._size, self._rate = burst, limit / window_s

    def admit(self, now_s: float) -> Admission:
        admission = super().admit(now_s)
        if not admission.accepted:
            return admission
        return admission._replace(reset_s=(self._size - admission.remaining) / self._rate)


class Banning:
    """Refuses everything for `ban_s` seconds after `most` refusals within `window_s` seconds."""

    def __init__(self, inner: Shape, most: int, window_s: float, ban_s: float) -> None:
        self._inner, self._most, self._window_s, self._ban_s = inner, most, window_s, ban_s
        self._refusals: deque[float] = deque()
        self._until_s = -math.inf
        self.bans = 0

    def admit(self, now_s: float) -> Admission:
        if now_s < self._until_s:
            return Admission(False, 0, self._until_s - now_s)
        admission = self._inner.admit(now_s)
        if admission.accepted:
            return admission
        while self._refusals and self._refusals[0] <= now_s - self._window_s:
            self._refusals.popleft()
        self._refusals.append(now_s)
        if len(self._refusals) >= self._most:
            self._until_s, self.bans = now_s + self._ban_s, self.bans + 1
            self._refusals.clear()
            return Admission(False, 0, self._ban_s)
        return admission

    def leave(self, now_s: float) -> None:
        self._inner.leave(now_s)


class Extending:
    """After a refusal, refuses everything for `block_s` seconds; each request meanwhile restarts the time."""

    def __init__(self, inner: Shape, block_s: float) -> None:
        self._inner, self._block_s = inner, block_s
        self._until_s = -math.inf
        self.bans = 0  # blocks that were extended

    def admit(self, now_s: float) -> Admission:
        if now_s < self._until_s:
            self.bans += 1
            self._until_s = now_s + self._block_s
            return Admission(False, 0, self._block_s)
        admission = self._inner.admit(now_s)
        if not admission.accepted:
            self._until_s = now_s + self._block_s
            return Admission(False, 0, self._block_s)
        return admission

    def leave(self, now_s: float) -> None:
        self._inner.leave(now_s)


class Doubling:
    """Doubles the wait at each request while it is closed."""

    def __init__(self, inner: Shape, most_s: float) -> None:
        self._inner, self._most_s = inner, most_s
        self._until_s, self._wait_s = -math.inf, 0.0
        self.bans = 0  # waits that were doubled

    def admit(self, now_s: float) -> Admission:
        if now_s < self._until_s:
            self.bans += 1
            self._wait_s = min(self._most_s, self._wait_s * 2)
            self._until_s = now_s + self._wait_s
            return Admission(False, 0, self._wait_s)
        admission = self._inner.admit(now_s)
        if not admission.accepted:
            self._wait_s, self._until_s = admission.reset_s, now_s + admission.reset_s
        return admission

    def leave(self, now_s: float) -> None:
        self._inner.leave(now_s)


class Changing:
    """Replaces the limit at a time: halved, doubled, removed, or the same with its counts forgotten."""

    def __init__(self, first: Shape, at_s: float, then: Shape) -> None:
        self._now, self._at_s, self._then = first, at_s, then

    def admit(self, now_s: float) -> Admission:
        if now_s >= self._at_s:
            self._now = self._then
        return self._now.admit(now_s)

    def leave(self, now_s: float) -> None:
        self._now.leave(now_s)


class Outage:
    """Refuses everything for a while and states a wait of `again_s`; then continues as before."""

    def __init__(self, inner: Shape, at_s: float, for_s: float, again_s: float) -> None:
        self._inner, self._at_s, self._end_s, self._again_s = inner, at_s, at_s + for_s, again_s

    def admit(self, now_s: float) -> Admission:
        if self._at_s <= now_s < self._end_s:
            return Admission(False, 0, self._again_s)
        return self._inner.admit(now_s)

    def leave(self, now_s: float) -> None:
        self._inner.leave(now_s)


class Shared:
    """Other clients send `per_s` requests a second on average, at random moments."""

    def __init__(self, inner: Shape, per_s: float, seed: int) -> None:
        self._inner, self._per_s = inner, per_s
        self._random = random.Random(seed)
        self._next_s: float | None = None
        self.taken = 0

    def admit(self, now_s: float) -> Admission:
        if self._next_s is None:
            self._next_s = now_s
        while self._next_s < now_s:
            if self._inner.admit(self._next_s).accepted:
                self._inner.leave(self._next_s)
                self.taken += 1
            self._next_s += self._random.expovariate(self._per_s)
        return self._inner.admit(now_s)

    def leave(self, now_s: float) -> None:
        self._inner.leave(now_s)


SHAPES: dict[str, Callable[[int, float], Shape]] = {
    "fixed": lambda limit, window_s: FixedWindow(limit, window_s),
    "aligned": lambda limit, window_s: FixedWindow(limit, window_s, aligned=True),
    "sliding log": SlidingLog,
    "log counting refused": CountingLog,
    "two-bucket": TwoBucket,
    "token b=q": lambda limit, window_s: Bucket(limit, window_s, limit),
    "token b=q/10": lambda limit, window_s: Bucket(limit, window_s, max(1, limit // 10)),
    "leaky b=1": lambda limit, window_s: Bucket(limit, window_s, 1),
    "token, reset of one": lambda limit, window_s: TokenBucket(limit, window_s, limit),
    "concurrency": lambda limit, window_s: Concurrency(limit),
}
