"""
The limits of a plan in a store: how the queue knows them, and permits for requests that are no tasks.

With these a `Fetcher` shares its limits with every other process that names the same queue.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

from scrapeq.errors import FetchError, RateLimited, ScrapeqError
from scrapeq.limit import of_member
from scrapeq.limits.outcome import Outcome
from scrapeq.limits.partition import IMPLICIT, group_of
from scrapeq.limits.readings import Told
from scrapeq.limits.server_clock import ServerClocks
from scrapeq.limits.streaks import Streaks
from scrapeq.limits.weights import settled
from scrapeq.page import Page
from scrapeq.plan import LimitRule, ResponseAction
from scrapeq.queue import Entry, Limit, Queue, Rate
from scrapeq.queue.commands import ACK, RELEASE, UNANSWERED, UNSENT, acquire
from scrapeq.task import Group, Lease

WEIGHT = 1
WIDE_SCOPES = frozenset({"host", "token", "all"})
WEEK_S, FIRST_MONDAY_S = 7 * 86_400, 4 * 86_400
_WIDER = ("host", "all")  # scopes that mean more than the token that was refused
LOOK_FIRST_S, LOOK_MAX_S = 0.02, 0.5  # between looks while only somebody else's answer can open a limit


def limits_of(rules: Sequence[LimitRule], now_s: float | None = None) -> dict[str, Limit]:
    """
    Rate limits as the queue knows them.

    One without rates is learned from what answers tell; what no rule names is the implicit one, learned too.
    """
    now_s = time.time() if now_s is None else now_s
    limits = {IMPLICIT.name: Limit(learn=True)}
    for rule in rules:
        rates = tuple(
            Rate(
                rate.limit, rate.interval_s, rate.burst or 0, aligned_s(rate.aligned, rate.interval_s, now_s)
            )
            for rate in rule.rates
        )
        learn = not rates and rule.observe != "none"
        limits[rule.name] = Limit(rates, rule.max_concurrency, learn=learn, reserve=rule.reserve)
    return limits


def aligned_s(zone: str, interval_s: float, now_s: float) -> float | None:
    """
    Seconds after 1970-01-01T00:00Z at which a calendar window of this time zone began; None without one.

    Whole weeks begin on Mondays. The zone's offset is that of now: after a change of its clocks the windows are off by
    an hour until the limits are defined again, which each run does when it begins.
    """
    if not zone:
        return None
    offset = None if zone == "UTC" else datetime.fromtimestamp(now_s, ZoneInfo(zone)).utcoffset()
    monday_s = FIRST_MONDAY_S if interval_s % WEEK_S == 0 else 0.0
    return (monday_s - (offset.total_seconds() if offset else 0.0)) % interval_s


def scopes_of(actions: Iterable[ResponseAction]) -> frozenset[str]:
    """The scopes wider than a limit that refusals of a plan may close."""
    return frozenset(one.scope for one in actions if one.action == "rate_limited") & WIDE_SCOPES


def closed_by(group: Group, scope: str, member: str = "", members: Sequence[str] = ()) -> list[str]:
    """
    The limit instances of a group that a refusal of this scope closes; none: only the task waits.

    Where a pool granted: those of the member whose request was refused; in a wider scope those of all members.
    """
    names = _closed_by(group, scope)
    if not member:
        return names
    whose = members if scope in _WIDER else [member]
    return list(dict.fromkeys(of_member(name, one) for name in names for one in whose or [member]))


def _closed_by(group: Group, scope: str) -> list[str]:
    every = [*group.limits, *([group.private] if group.private else [])]
    if scope == "task":
        return []
    if scope == "limit":
        if group.private:
            return [group.private]
        return [name for name in every if not name.startswith("=")]
    # a scope wider than a limit has a limit of its own, where the plan knows of it (`partition.group_of`)
    named = [name for name in every if name.partition("|")[0] in (scope, f"={scope}")]
    return named or every


def rules_of(group: Group, rules: Sequence[LimitRule]) -> list[LimitRule]:
    """The rules that the limits of a group are of."""
    if not rules:
        return []
    names = {name.partition("|")[0] for name in (*group.limits, group.private)}
    return [rule for rule in rules if rule.name in names]


def _instances(
    group: Group, outcome: Outcome, rules: Sequence[LimitRule]
) -> list[tuple[str, Told | None, tuple[tuple[float, float], ...]]]:
    """The limit instances of a group that an answer told something, with what it told."""
    names = {
        name.partition("|")[0]: name for name in (*group.limits, *([group.private] if group.private else []))
    }
    if outcome.heard is not None:
        every = [(names.get(one.rule), one) for one in outcome.heard]
        return [(name, one.told, one.rates) for name, one in every if name is not None]
    by_name = {rule.name: (len(rule.partition_by), at) for at, rule in enumerate(rules)}
    deaf = {rule.name for rule in rules if rule.observe == "none"}
    listening = [name for name in names if name not in deaf]
    if not listening or not (outcome.told or outcome.rates):
        return []
    narrowest = max(listening, key=lambda name: by_name.get(name, (0, 0)))
    return [(names[narrowest], outcome.told, outcome.rates)]


def told_to(
    group: Group,
    outcome: Outcome,
    rules: Sequence[LimitRule] = (),
    *,
    clocks: ServerClocks | None = None,
    sent_s: float = 0.0,
    answered_s: float = 0.0,
) -> list[tuple[str, float, float]]:
    """
    The budgets that an answer told, each for the limit that it is of: (instance, remaining, reset seconds).

    Where the answer was not read for each limit (`limits.listening`), its budget belongs to the narrowest one that
    listens: the one with the most keys in its `partition_by`, of equal ones the last written; with `observe: none` a
    limit never listens.

    Args:
        group: Of the request.
        outcome: Of its answer.
        rules: Of the plan.
        clocks: Makes resets in whole seconds exact, of limits that have no rates: there, a probe goes first.
        sent_s: When the request was sent, monotonic seconds.
        answered_s: When its answer was here.
    """
    found = [(name, told) for name, told, _ in _instances(group, outcome, rules) if told is not None]
    if clocks is not None:
        rated = {rule.name for rule in rules if rule.rates}
        found = [
            (name, told if name.partition("|")[0] in rated else clocks.read(name, told, sent_s, answered_s))
            for name, told in found
        ]
    return [(name, float(told.remaining), told.reset_s) for name, told in found]


def rates_told_to(
    group: Group, outcome: Outcome, rules: Sequence[LimitRule] = ()
) -> list[tuple[str, float, float]]:
    """The sizes and windows that an answer named, without what is left, as in `told_to`: (instance, limit, seconds)."""
    return [
        (name, limit, window_s)
        for name, _, rates in _instances(group, outcome, rules)
        for limit, window_s in rates
    ]


def costs_of(
    group: Group,
    outcome: Outcome,
    rules: Sequence[LimitRule],
    *,
    resource: str = "",
    method: str = "GET",
    url: str = "",
    page: Page | None = None,
    error: FetchError | None = None,
    names: Mapping[str, Any] | None = None,
) -> list[tuple[str, float]]:
    """
    What a request has cost the limits that charged it otherwise: (instance, weight).

    By the rules' weights that look at answers; a cost that the answer tells is the narrowest listening limit's.
    """
    instances = {name.partition("|")[0]: name for name in (*group.limits, group.private) if name}
    costs: dict[str, float] = {}
    for rule in rules_of(group, rules):
        paid = settled(rule, resource=resource, method=method, url=url, page=page, error=error, names=names)
        if paid is not None and paid != group.weight(instances[rule.name]):
            costs[instances[rule.name]] = paid
    if outcome.cost is not None and outcome.cost >= 0:
        listening = [one for one in enumerate(rules) if one[1].name in instances and one[1].observe != "none"]
        if listening:
            _, narrowest = max(listening, key=lambda one: (len(one[1].partition_by), one[0]))
            costs[instances[narrowest.name]] = outcome.cost
        elif not rules and IMPLICIT.name in instances:
            costs[instances[IMPLICIT.name]] = outcome.cost
    return list(costs.items())


class QueuePermit:
    """One granted request; settle it with what its answer meant."""

    def __init__(self, limits: QueueLimits, group: Group, lease: Lease) -> None:
        self._limits = limits
        self._group = group
        self._lease: Lease | None = lease
        self._sent_s = time.monotonic()

    @property
    def refusals_in_a_row(self) -> int:
        """How many there will have been in a row, should this one be refused."""
        return self._limits.streaks.with_this(self._group.name, self._sent_s)

    def settle(self, outcome: Outcome | None, *, was_sent: bool = True) -> None:
        """Report its answer; None: no answer came, or it never was sent. Only the first call counts."""
        lease, self._lease = self._lease, None
        if lease is None:
            return
        if outcome is None:
            entry = Entry(RELEASE, lease, sent=UNANSWERED if was_sent else UNSENT)
        elif outcome.action == "rate_limited":
            self._limits.streaks.refused(self._group.name, self.refusals_in_a_row, time.monotonic())
            refused = [(name, outcome.wait_s or 0.0) for name in closed_by(self._group, outcome.scope)]
            entry = Entry(ACK, lease, told=self._told(outcome), refused=refused, guessed=outcome.guessed)
        else:
            self._limits.streaks.answered(self._group.name)
            entry = Entry(ACK, lease, told=self._told(outcome))
        if outcome is not None:
            rules = self._limits.rules
            costs = costs_of(self._group, outcome, [replace(rule, weights=()) for rule in rules])
            entry = entry._replace(rates=rates_told_to(self._group, outcome, rules), costs=costs)
        self._limits.report(entry)

    def _told(self, outcome: Outcome) -> list[tuple[str, float, float]]:
        limits, now_s = self._limits, time.monotonic()
        return told_to(
            self._group, outcome, limits.rules, clocks=limits.clocks, sent_s=self._sent_s, answered_s=now_s
        )


class QueueLimits:
    """
    Permits from the limits in a store.

    Args:
        queue: The queue whose limits they are.
        rules: The limits that are known; others are told by the answers.
        token: The credential that requests carry, in clear; only its digest is stored.
    """

    def __init__(self, queue: Queue, rules: Sequence[LimitRule] = (), *, token: str = "") -> None:
        self._queue = queue
        self.rules = rules
        self._token = token
        self._defined = False
        self._reported = asyncio.Event()
        self._reports: set[asyncio.Future[None]] = set()
        self.streaks = Streaks()
        self.clocks = ServerClocks()

    async def acquire(self, url: str, method: str = "GET", *, max_wait_s: float | None = None) -> QueuePermit:
        """Wait for the limits. Raises RateLimited when one is closed for longer than `max_wait_s`, StoreError."""
        group = self._group(url, method)
        look_s = LOOK_FIRST_S
        reports = set(self._reports)
        while True:
            got = await self._ask(group)
            if isinstance(got, Lease):
                return QueuePermit(self, group, got)
            if got is not None and max_wait_s is not None and got > max_wait_s:
                if reports:
                    await asyncio.wait(reports)  # what this process gives back may be just on its way
                    reports.clear()
                    continue
                raise RateLimited(f"{method} {url}: its limit is closed for another {got:.1f} s", got)
            self._reported.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._reported.wait(), look_s if got is None else got)
            look_s = min(look_s * 2, LOOK_MAX_S)

    async def try_acquire(self, url: str, method: str = "GET") -> QueuePermit | None:
        """A permit now, or None."""
        group = self._group(url, method)
        got = await self._ask(group)
        return QueuePermit(self, group, got) if isinstance(got, Lease) else None

    def report(self, entry: Entry) -> None:
        """Send what became of a grant; who waits in this process looks again."""

        async def send() -> None:
            with contextlib.suppress(ScrapeqError):  # a grant that is not reported comes back by its lease
                await self._queue.settle(entry)
            self._reported.set()

        task = asyncio.ensure_future(send())
        self._reports.add(task)
        task.add_done_callback(self._reports.discard)

    async def close(self) -> None:
        """Wait until everything is reported."""
        if self._reports:
            await asyncio.wait(self._reports)

    def _group(self, url: str, method: str) -> Group:
        return group_of(self.rules, url=url, method=method, token=self._token)

    async def _ask(self, group: Group) -> Lease | float | None:
        if not self._defined:
            await self._queue.define(limits_of(self.rules))
            self._defined = True
        return await self._queue.run(acquire(group, weight=WEIGHT, lease_s=self._queue.lease_s))
