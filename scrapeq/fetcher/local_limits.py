"""
Rate limits in one process, for scripts without a store: the same engine as in the store.

All limits that match a request must grant it. Callers that wait for a limit are served first come, first served.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import Any

from scrapeq.clock import Clock, SystemClock
from scrapeq.errors import RateLimited
from scrapeq.limits.attribution import Attribution
from scrapeq.limits.charges import Charge, ChargedResponse, settle, spend
from scrapeq.limits.definitions import limits_of
from scrapeq.limits.engine import US, How, LimitModel
from scrapeq.limits.fast_limit import FastLimit
from scrapeq.limits.judge import Judge
from scrapeq.limits.partition import IMPLICIT, group_of
from scrapeq.plan import LimitRule
from scrapeq.task import Group

# Above MAX_INSTANCES limit instances, idle ones are dropped until RETAINED_INSTANCES are left.
MAX_INSTANCES, RETAINED_INSTANCES = 10_000, 5_000


@dataclass(slots=True)
class _Instance:
    """A limit instance, and a turnstile that lets callers pass one at a time in the order in which they came."""

    model: LimitModel
    turnstile: asyncio.Lock = field(default_factory=asyncio.Lock)
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    users: int = 0  # callers that are passing through

    def is_idle(self, now: float) -> bool:
        """Whether dropping it would lose nothing but what it learned."""
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
        """Whether it knows something that a new one could only find out by being refused."""
        model = self.model
        return bool(
            model.learned.limit or model.learned.pending or model.consecutive_refusals or model.slowdown
        )


class LocalPermit:
    """A grant from every limit of one request (`limiter.Permit`)."""

    def __init__(self, limits: LocalLimits, group: Group, charge: Charge) -> None:
        self._limits = limits
        self._charge = charge
        self.group = group
        self.sent_s = limits.clock.monotonic_s()

    def settle(self, attribution: Attribution | None, *, was_sent: bool = True) -> None:
        """See `limiter.Permit.settle`."""
        if self._charge.settled:
            return
        limits = self._limits
        if attribution is None:
            how: How = "expired" if was_sent else "unsent"
            limits.settle(self._charge, ChargedResponse(how, limits.now_us))
        else:
            limits.settle(self._charge, ChargedResponse("responded", limits.now_us, **attribution._asdict()))


class LocalLimits:
    """
    The rate limits of this process (`limiter.Limiter`).

    Args:
        rules: As in a configuration; requests that match no rule share one limit per host and credential.
        token: The credential in use, for `partition_by: [token]`.
        clock: Read once for wall time (calendar windows), then for monotonic time and sleeping.
    """

    def __init__(
        self, rules: Sequence[LimitRule] = (), *, token: str = "", clock: Clock | None = None
    ) -> None:
        self.rules = tuple(rules)
        self.clock = clock or SystemClock()
        self.judge = Judge(self.rules)
        self._token = token
        self._epoch_s = self.clock.now_s() - self.clock.monotonic_s()
        self._definitions = limits_of(self.rules, self.clock.now_s())
        # All callers take limits in one order, so that two never wait for each other: the narrowest first, of equally
        # narrow ones the last one in the file.
        narrowest = sorted(enumerate(self.rules), key=lambda one: (-len(one[1].partition_by), -one[0]))
        self._rank = {rule.name: rank for rank, (_, rule) in enumerate(narrowest)} | {IMPLICIT.name: 0}
        self._instances: dict[str, _Instance] = {}  # least recently used first
        self._full_at = MAX_INSTANCES
        self._number = count()

    @property
    def now_us(self) -> int:
        """The engine's clock: Unix time that never steps, in microseconds."""
        return round((self._epoch_s + self.clock.monotonic_s()) * US)

    async def acquire(self, url: str, method: str = "GET", *, max_wait_s: float | None = None) -> LocalPermit:
        """
        Wait until every limit grants the request.

        Raises:
            RateLimited: a limit stays closed for more than `max_wait_s` seconds.
        """
        group = group_of(self.rules, url=url, method=method, token=self._token)
        queue = self._instances_of(group)
        for name, one in queue:
            if max_wait_s is not None:  # at once, not only when it is our turn
                self._check_wait(name, one, group, url, max_wait_s)
        for _, one in queue:
            one.users += 1
        passed = 0  # turnstiles that this caller holds
        try:
            while True:
                now = self.now_us
                closed = next((at for at in range(passed) if not self._grants(queue[at], group, now)), None)
                if closed is not None:
                    while passed > closed + 1:  # let others through the wider ones meanwhile
                        passed -= 1
                        queue[passed][1].turnstile.release()
                    name, one = queue[closed]
                    await self._change(one, self._check_wait(name, one, group, url, max_wait_s))
                elif passed < len(queue):
                    await queue[passed][1].turnstile.acquire()
                    passed += 1
                else:
                    return self._permit(group, queue)
        finally:
            for _, one in queue[:passed]:
                one.turnstile.release()
            for _, one in queue:
                one.users -= 1

    async def try_acquire(self, url: str, method: str = "GET") -> LocalPermit | None:
        """Return a permit, or None when a limit is closed or others wait for it."""
        group = group_of(self.rules, url=url, method=method, token=self._token)
        queue, now = self._instances_of(group), self.now_us
        if any(one[1].turnstile.locked() or not self._grants(one, group, now) for one in queue):
            return None
        return self._permit(group, queue)

    def settle(self, charge: Charge, response: ChargedResponse) -> None:
        """Settle a grant, and wake the callers that wait for its limits."""
        settle(lambda name: self._instances[name].model, charge, response, self.now_us)
        for name in charge.limits:
            self._instances[name].changed.set()

    def _instances_of(self, group: Group) -> list[tuple[str, _Instance]]:
        """Return the limit instances of a request with their names, the narrowest first."""
        if len(self._instances) >= self._full_at:
            self._retire()
        names = [*group.limits, *([group.private] if group.private else [])]
        names.sort(key=lambda name: self._rank[name.partition("|")[0]])
        return [(name, self._instance(name)) for name in names]

    def _instance(self, name: str) -> _Instance:
        one = self._instances.pop(name, None)
        if one is None:
            one = _Instance(FastLimit(name, self._definitions))
        self._instances[name] = one
        return one

    def _retire(self) -> None:
        """Drop idle instances: first those that learned nothing, then the least recently used."""
        now = self.now_us
        idle = [(one.has_learned, name) for name, one in self._instances.items() if one.is_idle(now)]
        idle.sort(key=lambda one: one[0])
        for _, name in idle[: len(self._instances) - RETAINED_INSTANCES]:
            del self._instances[name]
        # when nothing is idle, do not scan at every request
        self._full_at = max(MAX_INSTANCES, 2 * len(self._instances))

    def _grants(self, one: tuple[str, _Instance], group: Group, now: float) -> bool:
        name, instance = one
        return instance.model.grants(now, group.weight(name))

    def _permit(self, group: Group, queue: Sequence[tuple[str, _Instance]]) -> LocalPermit:
        weights = {name: group.weight(name) for name, _ in queue}
        charge = Charge(str(next(self._number)), self.now_us, weights)
        spend(lambda name: self._instances[name].model, charge)
        return LocalPermit(self, group, charge)

    def _check_wait(
        self, name: str, one: _Instance, group: Group, url: str, max_wait_s: float | None
    ) -> float:
        """Return the seconds until it is worth trying again; infinity when only a response can open the limit."""
        now = self.now_us
        until = one.model.closed_until(now, group.weight(name))
        closed_s = 0.0 if until is None else (until - now) / US
        if max_wait_s is not None and max_wait_s < closed_s < math.inf:
            rule = name.partition("|")[0]
            raise RateLimited(f"{url}: the limit {rule} is closed for {closed_s:.1f} s", closed_s)
        return closed_s

    async def _change(self, one: _Instance, closed_s: float) -> None:
        """Wait `closed_s` seconds, or until a request of this limit is settled."""
        one.changed.clear()
        waits: list[asyncio.Future[Any]] = [asyncio.ensure_future(one.changed.wait())]
        if closed_s < math.inf:
            waits.append(asyncio.ensure_future(self.clock.sleep(closed_s)))
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
