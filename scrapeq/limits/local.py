"""
The limits in one process, for a script without a store: the same rules, held by the event loop.

What grants a request, by what is known of its limits (all that match must grant):

- told (`remaining` and a reset): what remains minus what is in flight, then parked to the reset;
- configured (`rates`): paced one at a time, and a slot per request that is free again one window after its answer, so
  that fixed, sliding and leaky servers all stay unhit; with a `burst`, a token bucket of that size;
- `max_concurrency`;
- unknown: one request until the first answer, then at most `UNKNOWN_IN_FLIGHT`, halved at each refusal.

A refusal parks the limit; after that one probe goes first, and only its answer opens the limit.
"""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any, Protocol

from aiolimiter import AsyncLimiter

from scrapeq.clock import Clock, SystemClock
from scrapeq.errors import RateLimited
from scrapeq.limits.outcome import Outcome
from scrapeq.limits.partition import instances_of
from scrapeq.limits.readings import Told
from scrapeq.plan import LimitRule, Rate

UNKNOWN_IN_FLIGHT = 8
MAX_INSTANCES = 10_000
REGAIN_AFTER = 32  # answers in a row without a refusal that give back one request in flight

OPEN = 0.0
UNTIL_AN_EVENT = math.inf


class Permit(Protocol):
    """The right to send one request."""

    @property
    def refusals_in_a_row(self) -> int:
        """How many there will have been in a row, should this one be refused."""

    def settle(self, outcome: Outcome | None, *, was_sent: bool = True) -> None:
        """Report its answer; None: no answer came, or it never was sent. Only the first call counts."""


class Limiter(Protocol):
    """What a fetcher asks for the right to send: the limits of this process, or of a store."""

    async def acquire(self, url: str, method: str = "GET", *, max_wait_s: float | None = None) -> Permit:
        """Waits for the limits. Raises RateLimited when one is closed for longer than `max_wait_s`."""

    async def try_acquire(self, url: str, method: str = "GET") -> Permit | None:
        """A permit now, or None."""


class Slots:
    """One rate as slots: each is taken by a request and free again one window after its answer."""

    def __init__(self, rate: Rate) -> None:
        self.count = max(1, math.floor(rate.limit))
        self._window_s = rate.interval_s * self.count / rate.limit if rate.limit < 1 else rate.interval_s
        self._answered: deque[float] = deque()

    def closed_s(self, now_s: float, in_flight: int) -> float:
        """Seconds until one is free."""
        while self._answered and self._answered[0] + self._window_s <= now_s:
            self._answered.popleft()
        if in_flight + len(self._answered) < self.count:
            return OPEN
        return self._answered[0] + self._window_s - now_s if self._answered else UNTIL_AN_EVENT

    @property
    def is_free(self) -> bool:
        """Whether no answered request takes one."""
        return not self._answered

    def answered(self, now_s: float) -> None:
        """One more is taken until a window from now."""
        self._answered.append(now_s)


@dataclass(slots=True)
class Grant:
    """One request in flight under one limit."""

    at_s: float
    is_probe: bool


class Instance:
    """The state of one limit instance. Pure: every method is given the time, monotonic seconds."""

    def __init__(self, rule: LimitRule) -> None:
        self.rule = rule
        self.in_flight = 0
        self.refusals = 0
        self._parked_until_s = -math.inf
        self._park_began_s = -math.inf
        self._probing = False
        self._probes = 0
        self._heard = False  # an answer came, so more than one may be in flight
        self._allowed = rule.max_concurrency or UNKNOWN_IN_FLIGHT
        self._calm = 0
        self._remaining: int | None = None
        self._reset_at_s = math.inf
        self._told_at_s = -math.inf
        self._slots = [Slots(rate) for rate in rule.rates if rate.burst is None]

    def closed_s(self, now_s: float) -> float:
        """Seconds until it grants: 0 = now, infinity = when something is answered."""
        if now_s < self._parked_until_s:
            return self._parked_until_s - now_s
        if self._remaining is not None and now_s >= self._reset_at_s:
            self._remaining, self._heard = None, False  # a new window: its size is told by its first answer
        if self._probing:
            return UNTIL_AN_EVENT if self._probes else OPEN
        most = self.rule.max_concurrency or math.inf
        if not self.rule.rates and self._remaining is None:
            most = min(most, self._allowed if self._heard else 1)
        if self.in_flight >= most:
            return UNTIL_AN_EVENT
        if self._remaining is not None and self._remaining - self.in_flight <= 0:
            return self._reset_at_s - now_s
        return max((slots.closed_s(now_s, self.in_flight) for slots in self._slots), default=OPEN)

    def is_idle(self, now_s: float) -> bool:
        """Whether nothing would be forgotten with it but what it learned."""
        return self.in_flight == 0 and self.closed_s(now_s) <= 0 and all(s.is_free for s in self._slots)

    def take(self, now_s: float) -> Grant:
        """Spend one grant."""
        self.in_flight += 1
        self._probes += self._probing
        return Grant(now_s, self._probing)

    def refusals_with(self, grant: Grant) -> int:
        """Refusals in a row with this one: all that were in flight when a park began count as one."""
        return max(1, self.refusals + (grant.at_s >= self._park_began_s))

    def refused(self, grant: Grant, now_s: float, wait_s: float) -> None:
        """Park for at least `wait_s`; parks only grow."""
        self._landed(grant, now_s)
        self._calm = 0
        if grant.at_s >= self._park_began_s:
            self.refusals += 1
            self._allowed = max(1, self._allowed // 2)
            self._park_began_s = now_s
        self._parked_until_s = max(self._parked_until_s, now_s + wait_s)
        self._probing = True
        self._remaining = None

    def answered(self, grant: Grant, now_s: float, told: Told | None) -> None:
        """An answer that is no refusal."""
        self._landed(grant, now_s)
        self._heard = True
        self._calm += 1
        if self._calm >= REGAIN_AFTER and self._allowed < (self.rule.max_concurrency or UNKNOWN_IN_FLIGHT):
            self._calm, self._allowed = 0, self._allowed + 1
        if grant.is_probe and grant.at_s >= self._park_began_s:
            self._probing, self.refusals = False, 0
        if self.rule.observe == "none":
            return
        if told is None:
            if self._remaining is not None:
                self._remaining = max(0, self._remaining - 1)
        elif self._remaining is None or grant.at_s >= self._told_at_s:
            self._remaining, self._told_at_s = told.remaining, now_s
            self._reset_at_s = now_s + told.reset_s
        else:  # it left before the last word on it: the smaller counts
            self._remaining = min(self._remaining, told.remaining)
            self._reset_at_s = max(self._reset_at_s, now_s + told.reset_s)

    def lost(self, grant: Grant, now_s: float) -> None:
        """No answer came: it may have been counted, and proves nothing."""
        self._landed(grant, now_s)
        if self._remaining is not None:
            self._remaining = max(0, self._remaining - 1)

    def unsent(self, grant: Grant) -> None:
        """It was never sent, and cost nothing."""
        self.in_flight -= 1
        self._probes -= grant.is_probe

    def _landed(self, grant: Grant, now_s: float) -> None:
        self.unsent(grant)
        for slots in self._slots:
            slots.answered(now_s)


@dataclass(slots=True)
class _Held:
    """An instance with what lets callers pass one at a time, in the order they came."""

    state: Instance
    turnstile: asyncio.Lock = field(default_factory=asyncio.Lock)
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    pacers: list[AsyncLimiter] = field(default_factory=list)
    users: int = 0  # callers on their way through


def _pacer(rate: Rate) -> AsyncLimiter:
    size = rate.burst or 1
    return AsyncLimiter(size, size * rate.interval_s / rate.limit)


class LocalPermit:
    """A grant from every limit of one request; its answer speaks of the first of them."""

    def __init__(self, clock: Clock, held: Sequence[_Held]) -> None:
        now_s = clock.monotonic_s()
        self._clock = clock
        self._held = held
        self._grants = [one.state.take(now_s) for one in held]
        self._open = True

    @property
    def refusals_in_a_row(self) -> int:
        """How many there will have been in a row, should this one be refused."""
        return self._held[0].state.refusals_with(self._grants[0])

    def settle(self, outcome: Outcome | None, *, was_sent: bool = True) -> None:
        """Report its answer; None: no answer came, or it never was sent. Only the first call counts."""
        if not self._open:
            return
        self._open = False
        now_s = self._clock.monotonic_s()
        told = next((one for one in self._held if one.state.rule.observe != "none"), None)
        for one, grant in zip(self._held, self._grants, strict=True):
            is_target = one is self._held[0]
            if not was_sent:
                one.state.unsent(grant)
            elif outcome is None:
                one.state.lost(grant, now_s)
            elif outcome.action == "rate_limited" and is_target and outcome.scope != "task":
                one.state.refused(grant, now_s, outcome.wait_s or 0.0)
            else:
                one.state.answered(grant, now_s, outcome.told if one is told else None)
            one.changed.set()


class LocalLimits:
    """
    The limits of this process.

    Args:
        rules: As in a file; requests that none matches share a limit per host and credential.
        token: The credential in use, for `partition_by: [token]`.
        clock: Monotonic time, and sleeping.
    """

    def __init__(
        self, rules: Sequence[LimitRule] = (), *, token: str = "", clock: Clock | None = None
    ) -> None:
        self._rules = tuple(rules)
        self._token = token
        self.clock = clock or SystemClock()
        self._instances: dict[str, _Held] = {}

    def _held(self, url: str, method: str) -> list[_Held]:
        """The instances of a request, the narrowest first: of that one its answer speaks."""
        found = instances_of(self._rules, method=method, url=url, token=self._token)
        # One order for all callers, so that none waits for another's. Of equally narrow ones the last one written.
        place = {id(rule): -index for index, rule in enumerate(self._rules)}
        found.sort(key=lambda one: (-len(one[0].partition_by), place.get(id(one[0]), 0)))
        return [self._instance(rule, name) for rule, name in found]

    def _instance(self, rule: LimitRule, name: str) -> _Held:
        held = self._instances.get(name)
        if held is None:
            if len(self._instances) >= MAX_INSTANCES:
                self._retire()
            held = _Held(Instance(rule), pacers=[_pacer(rate) for rate in rule.rates])
            self._instances[name] = held
        return held

    def _retire(self) -> None:
        """Forget the instances that hold nothing worth keeping."""
        now_s = self.clock.monotonic_s()
        for name, held in list(self._instances.items()):
            if not held.users and held.state.is_idle(now_s):
                del self._instances[name]

    async def acquire(self, url: str, method: str = "GET", *, max_wait_s: float | None = None) -> LocalPermit:
        """
        Wait until every limit grants.

        Raises:
            RateLimited: one is closed for longer than `max_wait_s` seconds.
        """
        held = self._held(url, method)
        for one in held:
            one.users += 1
        try:
            while True:
                async with AsyncExitStack() as turnstiles:
                    for one in held:
                        await turnstiles.enter_async_context(one.turnstile)
                        await self._until_open(one, url, max_wait_s)
                        for pacer in one.pacers:
                            await pacer.acquire()
                    now_s = self.clock.monotonic_s()
                    if all(one.state.closed_s(now_s) <= 0 for one in held):
                        return LocalPermit(self.clock, held)
        finally:
            for one in held:
                one.users -= 1

    async def _until_open(self, one: _Held, url: str, max_wait_s: float | None) -> None:
        while (closed_s := one.state.closed_s(self.clock.monotonic_s())) > 0:
            if max_wait_s is not None and max_wait_s < closed_s < UNTIL_AN_EVENT:
                raise RateLimited(
                    f"{url}: the limit {one.state.rule.name} is closed for {closed_s:.1f} s", closed_s
                )
            one.changed.clear()
            waits: list[asyncio.Future[Any]] = [asyncio.ensure_future(one.changed.wait())]
            if closed_s < UNTIL_AN_EVENT:
                waits.append(asyncio.ensure_future(self.clock.sleep(closed_s)))
            try:
                await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for wait in waits:
                    wait.cancel()

    async def try_acquire(self, url: str, method: str = "GET") -> LocalPermit | None:
        """A permit now, or None when any limit is closed, or others wait for it."""
        held = self._held(url, method)
        now_s = self.clock.monotonic_s()
        for one in held:
            if one.turnstile.locked() or one.state.closed_s(now_s) > 0:
                return None
            if not all(pacer.has_capacity() for pacer in one.pacers):
                return None
        for one in held:
            for pacer in one.pacers:
                await pacer.acquire()  # has room, so it does not wait
        return LocalPermit(self.clock, held)
