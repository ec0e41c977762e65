"""More shapes of server-side limits, and what servers do beside: punish, change, restart, serve others. Pure."""

from __future__ import annotations

import math
import random
from collections import deque
from collections.abc import Callable

from benchmarks.servers.shapes import (
    Concurrency,
    FixedWindow,
    Shape,
    SlidingLog,
    TokenBucket,
    TwoBucket,
    Verdict,
)


class CountingLog(SlidingLog):
    """A sliding log in which refused requests count, too."""

    def admit(self, now_s: float) -> Verdict:
        accepted = self._has_room(now_s)
        self._log.append(now_s)
        over = len(self._log) - self._limit  # so many must leave before one is accepted
        reset_s = self._log[max(over, 0)] + self._window_s - now_s
        return Verdict(accepted, max(0, -over), reset_s)


class Bucket(TokenBucket):
    """A token bucket that tells an accepted request when it is full again, as most servers do."""

    def __init__(self, limit: int, window_s: float, burst: int) -> None:
        super().__init__(limit, window_s, burst)
        self._size, self._rate = burst, limit / window_s

    def admit(self, now_s: float) -> Verdict:
        verdict = super().admit(now_s)
        if not verdict.accepted:
            return verdict
        return verdict._replace(reset_s=(self._size - verdict.remaining) / self._rate)


class Banning:
    """Refuses everything for `ban_s` seconds after `most` refusals within `window_s` seconds."""

    def __init__(self, inner: Shape, most: int, window_s: float, ban_s: float) -> None:
        self._inner, self._most, self._window_s, self._ban_s = inner, most, window_s, ban_s
        self._refusals: deque[float] = deque()
        self._until_s = -math.inf
        self.bans = 0

    def admit(self, now_s: float) -> Verdict:
        if now_s < self._until_s:
            return Verdict(False, 0, self._until_s - now_s)
        verdict = self._inner.admit(now_s)
        if verdict.accepted:
            return verdict
        while self._refusals and self._refusals[0] <= now_s - self._window_s:
            self._refusals.popleft()
        self._refusals.append(now_s)
        if len(self._refusals) >= self._most:
            self._until_s, self.bans = now_s + self._ban_s, self.bans + 1
            self._refusals.clear()
            return Verdict(False, 0, self._ban_s)
        return verdict

    def leave(self, now_s: float) -> None:
        self._inner.leave(now_s)


class Extending:
    """After a refusal everything is refused for `block_s` seconds, begun anew by each request meanwhile."""

    def __init__(self, inner: Shape, block_s: float) -> None:
        self._inner, self._block_s = inner, block_s
        self._until_s = -math.inf
        self.bans = 0  # blocks that were extended

    def admit(self, now_s: float) -> Verdict:
        if now_s < self._until_s:
            self.bans += 1
            self._until_s = now_s + self._block_s
            return Verdict(False, 0, self._block_s)
        verdict = self._inner.admit(now_s)
        if not verdict.accepted:
            self._until_s = now_s + self._block_s
            return Verdict(False, 0, self._block_s)
        return verdict

    def leave(self, now_s: float) -> None:
        self._inner.leave(now_s)


class Doubling:
    """A request while closed doubles the wait."""

    def __init__(self, inner: Shape, most_s: float) -> None:
        self._inner, self._most_s = inner, most_s
        self._until_s, self._wait_s = -math.inf, 0.0
        self.bans = 0  # waits that were doubled

    def admit(self, now_s: float) -> Verdict:
        if now_s < self._until_s:
            self.bans += 1
            self._wait_s = min(self._most_s, self._wait_s * 2)
            self._until_s = now_s + self._wait_s
            return Verdict(False, 0, self._wait_s)
        verdict = self._inner.admit(now_s)
        if not verdict.accepted:
            self._wait_s, self._until_s = verdict.reset_s, now_s + verdict.reset_s
        return verdict

    def leave(self, now_s: float) -> None:
        self._inner.leave(now_s)


class Changing:
    """Another limit from a time on: halved, doubled, gone, or the same one that has forgotten its counts."""

    def __init__(self, first: Shape, at_s: float, then: Shape) -> None:
        self._now, self._at_s, self._then = first, at_s, then

    def admit(self, now_s: float) -> Verdict:
        if now_s >= self._at_s:
            self._now = self._then
        return self._now.admit(now_s)

    def leave(self, now_s: float) -> None:
        self._now.leave(now_s)


class Outage:
    """Refuses everything for a while, whoever asks, and says to come back in `again_s`; then it is as before."""

    def __init__(self, inner: Shape, at_s: float, for_s: float, again_s: float) -> None:
        self._inner, self._at_s, self._end_s, self._again_s = inner, at_s, at_s + for_s, again_s

    def admit(self, now_s: float) -> Verdict:
        if self._at_s <= now_s < self._end_s:
            return Verdict(False, 0, self._again_s)
        return self._inner.admit(now_s)

    def leave(self, now_s: float) -> None:
        self._inner.leave(now_s)


class Shared:
    """Others send requests of their own, `per_s` a second on average, at random moments."""

    def __init__(self, inner: Shape, per_s: float, seed: int) -> None:
        self._inner, self._per_s = inner, per_s
        self._random = random.Random(seed)
        self._next_s: float | None = None
        self.taken = 0

    def admit(self, now_s: float) -> Verdict:
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
