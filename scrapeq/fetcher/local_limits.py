"""
The limits in one process, for a script without a store: the same engine as in one, held by the event loop.

All limits that match must grant. Who waits for a limit stands in its line: first come, first served.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import Any, Protocol

from scrapeq.clock import Clock, SystemClock
from scrapeq.errors import RateLimited
from scrapeq.limits.attribution import attribute
from scrapeq.limits.charges import Charge, ChargedResponse, settle, spend
from scrapeq.limits.consecutive_refusals import ConsecutiveRefusals
from scrapeq.limits.definitions import limits_of
from scrapeq.limits.engine import US, How, LimitModel
from scrapeq.limits.fast_limit import FastLimit
from scrapeq.limits.partition import IMPLICIT, group_of
from scrapeq.limits.server_clock import ServerClocks
from scrapeq.plan import LimitRule
from scrapeq.responses.outcome import Outcome
from scrapeq.task import Group

MAX_INSTANCES, KEPT_INSTANCES = 10_000, 5_000  # from so many on, idle ones are forgotten down to so many


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


@dataclass(slots=True)
class _Instance:
    """A limit instance with what lets callers pass one at a time, in the order they came."""

    model: LimitModel
    turnstile: asyncio.Lock = field(default_factory=asyncio.Lock)
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    users: int = 0  # callers on their way through

    def is_idle(self, now: float) -> bool:
        """Whether nothing would be forgotten with it but what it learned."""
        model = self.model
        if (
            self.users
            or model.in_flight_count
            or model.parked_until > now
            or model.budget(now)[0] is not None
        ):
            return False
        rates = range(len(model.rates))
        return not any(
            model.paced_to.get(i, 0.0) > now or model.used(i, now) or model.calendar_used(i, now)
            for i in rates
        )

    @property
    def has_learned(self) -> bool:
        """Whether it knows what a new one would have to find out by being refused."""
        model = self.model
        return bool(
            model.learned.limit or model.learned.pending or model.consecutive_refusals or model.slowdown
        )


class LocalPermit:
    """A grant from every limit of one request; settle it with what its answer meant."""

    def __init__(self, limits: LocalLimits, group: Group, charge: Charge) -> None:
        self._limits = limits
        self._group = group
        self._charge = charge
        self._sent_s = limits.clock.monotonic_s()

    @property
    def refusals_in_a_row(self) -> int:
        """How many there will have been in a row, should this one be refused."""
        return self._limits.refusals.count_with(self._group.name, self._sent_s)

    def settle(self, outcome: Outcome | None, *, was_sent: bool = True) -> None:
        """Report its answer; None: no answer came, or it never was sent. Only the first call counts."""
        if self._charge.answered:
            return
        limits, name, now_s = self._limits, self._group.name, self._limits.clock.monotonic_s()
        if outcome is None:
            how: How = "expired" if was_sent else "unsent"
            limits.settle(self._charge, ChargedResponse(how, limits.now_us))
            return
        if outcome.action == "rate_limited":
            limits.refusals.refused(name, self.refusals_in_a_row, now_s)
        else:
            limits.refusals.succeeded(name)
        found = attribute(
            self._group, outcome, limits.rules, clocks=limits.clocks, sent_s=self._sent_s, answered_s=now_s
        )
        limits.settle(self._charge, ChargedResponse("answered", limits.now_us, **found._asdict()))


class LocalLimits:
    """
    The limits of this process.

    Args:
        rules: As in a file; requests that none matches share a limit per host and credential.
        token: The credential in use, for `partition_by: [token]`.
        clock: Wall time once, for calendar windows; then monotonic time, and sleeping.
    """

    def __init__(
        self, rules: Sequence[LimitRule] = (), *, token: str = "", clock: Clock | None = None
    ) -> None:
        self.rules = tuple(rules)
        self.clock = clock or SystemClock()
        self.refusals = ConsecutiveRefusals()
        self.clocks = ServerClocks()
        self._token = token
        self._began_s = self.clock.now_s() - self.clock.monotonic_s()
        self._definitions = limits_of(self.rules, self.clock.now_s())
        # one order for all callers, so that none waits for another's; of equally narrow ones the last one written
        narrowest = sorted(enumerate(self.rules), key=lambda one: (-len(one[1].partition_by), -one[0]))
        self._place = {rule.name: place for place, (_, rule) in enumerate(narrowest)} | {IMPLICIT.name: 0}
        self._instances: dict[str, _Instance] = {}  # the least recently used first
        self._full_at = MAX_INSTANCES
        self._number = count()

    @property
    def now_us(self) -> int:
        """The engine's clock: Unix time that never steps, microseconds."""
        return round((self._began_s + self.clock.monotonic_s()) * US)

    async def acquire(self, url: str, method: str = "GET", *, max_wait_s: float | None = None) -> LocalPermit:
        """
        Wait until every limit grants.

        Raises:
            RateLimited: one is closed for longer than `max_wait_s` seconds.
        """
        group = group_of(self.rules, url=url, method=method, token=self._token)
        line = self._line(group)
        for name, one in line:
            if max_wait_s is not None:  # not only when it is our turn
                self._check_wait(name, one, group, url, max_wait_s)
        for _, one in line:
            one.users += 1
        passed = 0  # turnstiles that are ours
        try:
            while True:
                now = self.now_us
                closed = next((at for at in range(passed) if not self._grants(line[at], group, now)), None)
                if closed is not None:
                    while passed > closed + 1:  # the wider ones are for others meanwhile
                        passed -= 1
                        line[passed][1].turnstile.release()
                    name, one = line[closed]
                    await self._change(one, self._check_wait(name, one, group, url, max_wait_s))
                elif passed < len(line):
                    await line[passed][1].turnstile.acquire()
                    passed += 1
                else:
                    return self._permit(group, line)
        finally:
            for _, one in line[:passed]:
                one.turnstile.release()
            for _, one in line:
                one.users -= 1

    async def try_acquire(self, url: str, method: str = "GET") -> LocalPermit | None:
        """A permit now, or None when any limit is closed, or others wait for it."""
        group = group_of(self.rules, url=url, method=method, token=self._token)
        line, now = self._line(group), self.now_us
        if any(one[1].turnstile.locked() or not self._grants(one, group, now) for one in line):
            return None
        return self._permit(group, line)

    def settle(self, charge: Charge, answer: ChargedResponse) -> None:
        """What became of a grant; who waits looks again."""
        settle(lambda name: self._instances[name].model, charge, answer, self.now_us)
        for name in charge.limits:
            self._instances[name].changed.set()

    def _line(self, group: Group) -> list[tuple[str, _Instance]]:
        """The instances of a request by name, the narrowest first."""
        if len(self._instances) >= self._full_at:
            self._retire()
        names = [*group.limits, *([group.private] if group.private else [])]
        names.sort(key=lambda name: self._place[name.partition("|")[0]])
        return [(name, self._instance(name)) for name in names]

    def _instance(self, name: str) -> _Instance:
        one = self._instances.pop(name, None)
        if one is None:
            one = _Instance(FastLimit(name, self._definitions))
        self._instances[name] = one
        return one

    def _retire(self) -> None:
        """Forget idle instances: those that have learned something, and were used lately, last of all."""
        now = self.now_us
        idle = [(one.has_learned, name) for name, one in self._instances.items() if one.is_idle(now)]
        idle.sort(key=lambda one: one[0])
        for _, name in idle[: len(self._instances) - KEPT_INSTANCES]:
            del self._instances[name]
        self._full_at = max(
            MAX_INSTANCES, 2 * len(self._instances)
        )  # when nothing is idle, looking costs little

    def _grants(self, one: tuple[str, _Instance], group: Group, now: float) -> bool:
        name, instance = one
        return instance.model.grants(now, group.weight(name))

    def _permit(self, group: Group, line: Sequence[tuple[str, _Instance]]) -> LocalPermit:
        weights = {name: group.weight(name) for name, _ in line}
        charge = Charge(str(next(self._number)), self.now_us, weights)
        spend(lambda name: self._instances[name].model, charge)
        return LocalPermit(self, group, charge)

    def _check_wait(
        self, name: str, one: _Instance, group: Group, url: str, max_wait_s: float | None
    ) -> float:
        """Seconds until it is worth looking again; infinity: when something is answered."""
        now = self.now_us
        until = one.model.closed_until(now, group.weight(name))
        closed_s = 0.0 if until is None else (until - now) / US
        if max_wait_s is not None and max_wait_s < closed_s < math.inf:
            rule = name.partition("|")[0]
            raise RateLimited(f"{url}: the limit {rule} is closed for {closed_s:.1f} s", closed_s)
        return closed_s

    async def _change(self, one: _Instance, closed_s: float) -> None:
        """Until then, or until something of it was answered."""
        one.changed.clear()
        waits: list[asyncio.Future[Any]] = [asyncio.ensure_future(one.changed.wait())]
        if closed_s < math.inf:
            waits.append(asyncio.ensure_future(self.clock.sleep(closed_s)))
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
