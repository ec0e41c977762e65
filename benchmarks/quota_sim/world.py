"""The simulated world: fetchers with slots, random travel times and servers, with a clock that jumps between events."""

from __future__ import annotations

import heapq
import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from benchmarks.quota_sim.engines import START_S, Engine
from benchmarks.quota_sim.headers import ServerState, headers
from benchmarks.servers.shapes import Shape
from scrapeq.limits.attribution import closed_by, reported_budgets, reported_rates, rules_of
from scrapeq.limits.consecutive_refusals import ConsecutiveRefusals
from scrapeq.limits.definitions import limits_of
from scrapeq.limits.partition import group_of
from scrapeq.limits.server_clock import ServerClocks
from scrapeq.page import Page
from scrapeq.plan import LimitRule
from scrapeq.queue.commands import ACK, BURY, RELEASE, RETRY
from scrapeq.queue.replies import Entry, Popped
from scrapeq.queue.wait import WATCHDOG_S
from scrapeq.responses.outcome import decide
from scrapeq.responses.rule_observations import observe_for_rules
from scrapeq.task import Group, NewTask, Task

PHASE_S = 3.7  # offset of the server's clock, so that its whole windows are not those of the client
MIN_WAIT_S = 0.001
POP_MAX = 100


@dataclass
class Host:
    """
    A server.

    Args:
        shape: Its limit.
        limit, window_s: The limit as its headers state it.
        telling: The style of its headers.
        skew_s: How far its clock is ahead.
        service_s: How long an accepted request takes.
        dated: Whether responses have a Date.
        status: The status of a refusal.
    """

    shape: Shape
    limit: int
    window_s: float
    telling: str = "nothing"
    skew_s: float = 0.0
    service_s: float = 0.0
    dated: bool = True
    status: int = 429


@dataclass
class Setting:
    """The other settings of a run, in seconds. `backlog`: tasks kept ready for each group while there is work."""

    hosts: dict[str, Host]
    rules: Sequence[LimitRule] = ()
    until_s: float = math.inf
    items: int | None = None  # for each host; None: unlimited
    processes: int = 4
    slots: int = 16
    way_s: float = 0.020
    jitter_s: float = 0.060
    client_skew_s: float = 0.0
    kill_s: float | None = None  # when the first process dies
    seed: int = 1
    backlog: int = 128
    ranked: bool = False
    check_order: bool = False  # after each pop, check whether a better task was ready and open


@dataclass
class RequestRecord:
    """One request, at the server and at the client; times are seconds of the simulation's clock."""

    host: str
    n: int
    process: int
    sent_s: float
    arrived_s: float = 0.0
    accepted: bool = False
    wait_s: float = 0.0  # if refused: the real time until a request is accepted again
    stated_s: float | None = None  # the wait that the client read from the response
    left_s: float = 0.0
    received_s: float = math.inf

    @property
    def decided_s(self) -> float:
        """When the server accepted or refused it."""
        return self.arrived_s


@dataclass
class Grant:
    """A task that a pop returned, to check the order."""

    at_s: float
    host: str
    rank: float


@dataclass
class Log:
    """What happened in a run."""

    records: list[RequestRecord] = field(default_factory=list)
    grants: list[Grant] = field(default_factory=list)
    pops: int = 0
    empty: int = 0
    woken: int = 0
    woken_empty: int = 0
    worse: int = 0  # grants while a better task was ready and open
    ended_s: float = 0.0


class World:
    """One run of the simulation."""

    def __init__(self, engine: Engine, setting: Setting) -> None:
        self.engine, self.setting = engine, setting
        self.now_s = 0.0
        self.log = Log()
        self.random = random.Random(setting.seed)
        self.groups: dict[str, Group] = {}
        self.by_group: dict[str, str] = {}
        self._events: list[tuple[float, int, Callable[..., None], tuple[Any, ...]]] = []
        self._order = 0
        self._pushed = dict.fromkeys(setting.hosts, 0)
        self._unpopped = dict.fromkeys(setting.hosts, 0)
        self.done = 0
        engine.define(limits_of(setting.rules))
        for host in setting.hosts:
            group = group_of(setting.rules, url=self.url(host))
            self.groups[host], self.by_group[group.name] = group, host
            self._feed(host)
        self.fetchers = [Fetcher(self, number) for number in range(setting.processes)]
        for fetcher in self.fetchers:
            self.at(self.random.uniform(0, 0.05), fetcher.turn)
        if setting.kill_s is not None:
            self.at(setting.kill_s, self.fetchers[0].die)

    def url(self, host: str) -> str:
        """Return the URL of a request to a host."""
        return f"http://{host}/item/1"

    def at(self, time_s: float, call: Callable[..., None], *values: Any) -> int:
        """Schedule a call."""
        self._order += 1
        heapq.heappush(self._events, (time_s, self._order, call, values))
        return self._order

    def run(self) -> Log:
        """Run until all items are fetched or the time is over."""
        expected_items = None if self.setting.items is None else self.setting.items * len(self.setting.hosts)
        while self._events and (expected_items is None or self.done < expected_items):
            self.now_s, _, call, values = heapq.heappop(self._events)
            if self.now_s > self.setting.until_s:
                break
            call(*values)
        self.log.ended_s = min(self.now_s, self.setting.until_s)
        self.log.records = [record for record in self.log.records if record.arrived_s]
        return self.log

    def popped(self, task: Task) -> str:
        """Record that a task was popped; return its host."""
        host = self.by_group[task.group]
        self.log.grants.append(Grant(self.now_s, host, task.priority))
        if not task.releases and not task.expiries and not task.attempts:
            self._unpopped[host] -= 1
            if self._unpopped[host] * 2 < self.setting.backlog:
                self._feed(host)
        return host

    def _feed(self, host: str) -> None:
        count = self.setting.backlog - self._unpopped[host]
        if self.setting.items is not None:
            count = min(count, self.setting.items - self._pushed[host])
        if count <= 0:
            return
        ranks = [self.random.random() if self.setting.ranked else 0.0 for _ in range(count)]
        first = self._pushed[host]
        tasks = [NewTask(first + n, rank, group=self.groups[host]) for n, rank in enumerate(ranks)]
        self._pushed[host] += count
        self._unpopped[host] += count
        self.engine.push(self.now_s, tasks)
        self.wake()

    def settle(self, entry: Entry) -> None:
        """Settle a lease."""
        self.engine.settle(self.now_s, [entry])
        self.wake()

    def wake(self) -> None:
        """If the marker is set, wake the fetcher that has waited longest."""
        waiting = [fetcher for fetcher in getattr(self, "fetchers", ()) if fetcher.waits]
        if waiting and self.engine.take_marker():
            first = min(waiting, key=lambda fetcher: fetcher.waits_since)
            first.waits = 0
            self.at(self.now_s, first.turn, True)


class Fetcher:
    """One process, which works like `FetchWorker` and `TaskRun`."""

    def __init__(self, world: World, number: int) -> None:
        self.world, self.number = world, number
        self.dead = False
        self.waits = 0  # the timer's number, while it waits for tasks
        self.waits_since = 0.0
        self.poll_at_us = 0  # when it polls as the designated waiter
        self._full = False
        self._held: dict[str, Task] = {}  # by lease token
        self._refusals = ConsecutiveRefusals()
        self._clocks = ServerClocks()

    def die(self) -> None:
        """Kill it: its requests are never settled."""
        self.dead = True
        self.waits = 0

    def turn(self, woken: bool = False) -> None:
        """Pop for the free slots until none is left; then wait."""
        world = self.world
        while not self.dead:
            free = world.setting.slots - len(self._held)
            if free <= 0:
                self._full = True
                return
            suspects = sum(1 for task in self._held.values() if task.expiries)
            most = min(free, POP_MAX)
            popped = world.engine.pop(world.now_s, most, suspects, self.poll_at_us)
            self.poll_at_us = popped.poll_at_us
            world.log.pops += 1
            world.log.woken += woken
            if world.setting.check_order and popped.tasks:
                worst = min(task.priority for task in popped.tasks)
                world.log.worse += world.engine.has_better(world.now_s, worst)
            for task in popped.tasks:
                self._send(task)
            world.wake()
            if not popped.tasks:
                world.log.empty += 1
                world.log.woken_empty += woken
            if len(popped.tasks) < most:
                self._wait(popped)
                return
            woken = False

    def _wait(self, popped: Popped) -> None:
        world = self.world
        wait_s = WATCHDOG_S if popped.wait_s is None else min(WATCHDOG_S, popped.wait_s)
        self.waits = world.at(world.now_s + max(wait_s, MIN_WAIT_S), lambda: self._due(number))
        number = self.waits
        self.waits_since = world.now_s
        world.wake()

    def _due(self, number: int) -> None:
        if self.waits == number:
            self.waits = 0
            self.turn(True)

    # --- one task in flight

    def _way_s(self) -> float:
        setting = self.world.setting
        return setting.way_s + self.world.random.uniform(0, setting.jitter_s)

    def _send(self, task: Task) -> None:
        world = self.world
        host = world.popped(task)
        assert task.lease is not None
        self._held[task.lease.token] = task
        record = RequestRecord(host, int(task.id), self.number, world.now_s)
        world.log.records.append(record)
        world.at(world.now_s + self._way_s(), self._arrive, task, record)

    def _arrive(self, task: Task, record: RequestRecord) -> None:
        world = self.world
        server = world.setting.hosts[record.host]
        record.arrived_s = world.now_s
        clock_s = START_S + world.now_s + PHASE_S + server.skew_s
        admission = server.shape.admit(world.now_s + PHASE_S)
        record.accepted = admission.accepted
        record.wait_s = 0.0 if admission.accepted else admission.reset_s
        record.left_s = world.now_s + (server.service_s if admission.accepted else 0.0)
        if admission.accepted:
            world.at(record.left_s, server.shape.leave, record.left_s + PHASE_S)
        fields = headers(
            server.telling, ServerState(admission, server.limit, server.window_s, clock_s), dated=server.dated
        )
        status = 200 if admission.accepted else server.status
        world.at(record.left_s + self._way_s(), self._respond, task, record, status, fields)

    def _respond(self, task: Task, record: RequestRecord, status: int, fields: list[tuple[str, str]]) -> None:
        if self.dead:
            return
        world = self.world
        now_s, url = world.now_s, world.url(record.host)
        group = world.groups[record.host]
        record.received_s = now_s
        page = Page(url, status, tuple(fields), b"{}")
        rules = rules_of(group, world.setting.rules)
        observed, rule_observations = observe_for_rules(
            page, START_S + now_s + world.setting.client_skew_s, rules
        )
        consecutive_refusals = self._refusals.count_with(group.name, record.sent_s)
        outcome = decide(
            (),
            url=url,
            page=page,
            observation=observed,
            refusals_in_a_row=consecutive_refusals,
            rule_observations=rule_observations,
        )
        reported = reported_budgets(
            group,
            outcome,
            world.setting.rules,
            clocks=self._clocks,
            sent_s=record.sent_s,
            received_s=now_s,
        )
        rates = reported_rates(group, outcome, world.setting.rules)
        assert task.lease is not None
        if outcome.action == "rate_limited":
            record.stated_s = None if outcome.guessed else outcome.wait_s
            self._refusals.refused(group.name, consecutive_refusals, now_s)
            refused = [(name, outcome.wait_s or 0.0) for name in closed_by(group, outcome.scope)]
            entry = Entry(
                RELEASE, task.lease, reported=reported, refused=refused, guessed=outcome.guessed, rates=rates
            )
        else:
            self._refusals.succeeded(group.name)
            verb = {"success": ACK, "ignore": ACK, "retry": RETRY}.get(outcome.action, BURY)
            entry = Entry(verb, task.lease, reported=reported, rates=rates)
            world.done += verb == ACK
        self._held.pop(task.lease.token)
        world.settle(entry)
        if self._full:
            self._full = False
            world.at(now_s, self.turn)
