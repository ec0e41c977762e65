"""
The queue never exceeds a limit as the server counts it, whatever delays requests and responses.

A simulated server records each arrival; delays are drawn to bunch arrivals (none, or the longest). Times are not
multiples of any window. Some requests are never sent, some are cancelled, some are lost, and the store's clock steps
back.
"""

from __future__ import annotations

import heapq
import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import pytest
import redis

from scrapeq.limit import Limit, Rate, Reserve
from scrapeq.queue import commands as c
from scrapeq.queue.scripts import scripts
from scrapeq.task import Group, Lease, NewTask

US = 1_000_000
START_US = 1_600_000_000_123_457
LEASE_S = 7.0
GRANTS = 800
ALIGNMENTS = 16  # offsets at which fixed windows are counted
EARLY_SHARE = 0.95  # of the quota that must be used without delays
KEY = "scrapeq:{q}:c"
GROUP = Group("g", ("a",), "b")
HEAVY = {"h": 3, "x": 5}  # weight of a request of these groups in limit a
SLACK_US = 1  # rounding of the simulation


T = TypeVar("T")


@dataclass
class Simulation:
    """A queue with limits, its workers, the network, and a server that counts arrivals."""

    store: redis.Redis
    seed: int
    most_delay_s: float
    trouble: bool = True
    now_us: int = START_US
    skew_us: int = 0
    arrivals: list[int] = field(default_factory=list)
    served: list[tuple[int, int]] = field(default_factory=list)  # arrival, response
    reports: list[tuple[int, int, c.Entry, int]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.r = random.Random(self.seed)
        self.shas = {name: self.store.script_load(s.text) for name, s in scripts(test_clock=True).items()}

    def run(self, command: c.Command[T]) -> T:
        """Run one script at the store's time, which may have been set back."""
        self.store.set("scrapeq:{q}:testclock", self.now_us - self.skew_us)
        return command.parse(self.store.evalsha(self.shas[command.script], 1, KEY, *command.args))

    def _delay(self) -> int:
        most = round(self.most_delay_s * US)
        return self.r.choice([0, most, self.r.randint(0, most)])

    def _send(self, lease: Lease, weight: int) -> None:
        chance = self.r.random() if self.trouble else 1.0
        if chance < 0.05:  # never sent
            self._report(self.now_us + self._delay(), c.Entry(c.RELEASE, lease, sent=c.UNSENT), 0)
            return
        arrival = self.now_us + self._delay()
        if chance < 0.10:  # its worker dies: it arrives within the lease, but is never settled
            arrival = self.now_us + self.r.randint(0, round(LEASE_S * US))
            self.arrivals += [arrival] * weight
            self.served.append((arrival, arrival))
            return
        response = arrival + self._delay()
        self.arrivals += [arrival] * weight
        self.served.append((arrival, response))
        if chance < 0.15:  # cancelled in flight
            self.run(c.edit("cancel", [lease.id]))
        reported = response + (self.r.randint(0, US // 2) if self.trouble else 0)
        self._report(reported, c.Entry(c.ACK, lease), reported - response)

    def _report(self, at: int, entry: c.Entry, age_us: int) -> None:
        heapq.heappush(self.reports, (at, len(self.arrivals), entry, age_us))

    def go(self, grants: int) -> None:
        """Pop until this many tasks are granted."""
        granted = 0
        while granted < grants:
            while self.reports and self.reports[0][0] <= self.now_us:
                _, _, entry, age_us = heapq.heappop(self.reports)
                entry = c.Entry(entry.verb, entry.lease, entry.sent, age_us / US)
                self.run(c.settle([entry]))
            popped = self.run(c.pop(self.r.choice([1, 3, 20]), lease_s=LEASE_S))
            assert isinstance(popped, c.Popped)
            for task in popped.tasks:
                assert task.lease
                self._send(task.lease, HEAVY.get(task.group, 1))
            granted += len(popped.tasks)
            if self.trouble and self.r.random() < 0.01:
                self.skew_us += self.r.randint(0, 20 * US)
            if not popped.tasks:
                wait_us = 3600 * US if popped.wait_s is None else max(1, int(popped.wait_s * US))
                at = self.now_us + wait_us
                self.now_us = min(at, self.reports[0][0]) if self.reports else at
            self.now_us += self.r.choice([0, 1, 777])

    def most_in_window(self, window_us: int) -> int:
        """Return the most arrivals in any sliding window of this length."""
        times, first, most = sorted(self.arrivals), 0, 0
        for i, time in enumerate(times):
            while times[first] <= time - window_us + SLACK_US:
                first += 1
            most = max(most, i - first + 1)
        return most

    def most_in_fixed_window(self, window_us: int, offset_us: int) -> int:
        """Return the most arrivals in fixed windows that start at multiples of their length plus an offset."""
        counts: dict[int, int] = {}
        for time in self.arrivals:
            slot = (time - offset_us) // window_us
            counts[slot] = counts.get(slot, 0) + 1
        return max(counts.values())

    def most_at_once(self) -> int:
        """Return the most requests that the server processes at one moment."""
        edges = sorted([(end, 0, -1) for _, end in self.served] + [(begin, 1, 1) for begin, _ in self.served])
        most = at_once = 0
        for _, _, change in edges:
            at_once += change
            most = max(most, at_once)
        return most


def fill(
    simulation: Simulation,
    limits: dict[str, Limit],
    tasks: int = 2 * GRANTS,
    groups: Sequence[Group] = (GROUP,),
) -> None:
    """Define the limits and push tasks to each group in turn, with random priorities if there are several groups."""
    simulation.run(c.define(limits))
    for i in range(0, tasks, 1000):
        new = [
            NewTask(n, simulation.r.randrange(9) if len(groups) > 1 else 0, group=groups[n % len(groups)])
            for n in range(i, min(tasks, i + 1000))
        ]
        for command in c.push(new, max_tasks=0, dedup="only_new"):
            simulation.run(command)


CASES = {
    "a few a second": (Limit((Rate(5, 1.0),)), Limit()),
    "many a second": (Limit((Rate(97, 1.0),)), Limit()),
    "a fraction": (Limit((Rate(0.7, 1.3),)), Limit()),
    "two buckets": (Limit((Rate(10, 1.0), Rate(100, 60.0))), Limit()),
    "shared and private": (Limit((Rate(50, 10.0),)), Limit((Rate(7, 3.0),), max_concurrency=4)),
    "counted in sub-windows": (Limit((Rate(400, 20.0),)), Limit()),
    "concurrency": (Limit(max_concurrency=3), Limit(max_concurrency=7)),
}


@pytest.mark.parametrize("most_delay_s", [0.0, 0.9, 3.0])
@pytest.mark.parametrize("name", CASES)
def test_the_server_never_counts_more_than_its_limit(
    store: redis.Redis, name: str, most_delay_s: float
) -> None:
    """Neither a sliding nor a fixed window of any rate has too many arrivals, nor are too many in flight."""
    simulation = Simulation(store, seed=len(name), most_delay_s=most_delay_s)
    shared, private = CASES[name]
    fill(simulation, {"a": shared, "b": private})
    simulation.go(GRANTS // 4)
    for limit in (shared, private):
        for rate in limit.rates:
            window, most = round(rate.interval_s * US), max(1, rate.limit)
            assert simulation.most_in_window(window) <= most
            for i in range(ALIGNMENTS):
                assert simulation.most_in_fixed_window(window, i * window // ALIGNMENTS) <= most
        if limit.max_concurrency:
            assert simulation.most_at_once() <= limit.max_concurrency


WEIGHED = {
    "a few a second": Limit((Rate(5, 1.0),)),
    "many a second": Limit((Rate(97, 1.0),)),
    "two rates": Limit((Rate(10, 1.0), Rate(100, 60.0))),
    "counted in sub-windows": Limit((Rate(400, 20.0),)),
    "a reserve": Limit((Rate(20, 3.0),), reserve=Reserve(0.4, 4)),
}


@pytest.mark.parametrize("most_delay_s", [0.0, 3.0])
@pytest.mark.parametrize("name", WEIGHED)
def test_the_weights_in_a_window_stay_within_the_limit(
    store: redis.Redis, name: str, most_delay_s: float
) -> None:
    """Requests of several weights share one limit, and their sum never exceeds it in any window."""
    simulation = Simulation(store, seed=len(name), most_delay_s=most_delay_s)
    groups = [GROUP, *(Group(one, ("a",), weights=(("a", weight),)) for one, weight in HEAVY.items())]
    fill(simulation, {"a": WEIGHED[name]}, groups=groups)
    simulation.go(GRANTS // 4)
    assert len(set(simulation.arrivals)) > GRANTS // 10
    for rate in WEIGHED[name].rates:
        assert simulation.most_in_window(round(rate.interval_s * US)) <= rate.limit


@pytest.mark.parametrize("most_delay_s", [0.0, 0.9, 5.0])
def test_a_calendar_window_is_never_exceeded_and_used_at_once(
    store: redis.Redis, most_delay_s: float
) -> None:
    """Requests in flight at the boundary count in both windows; within a window nothing is paced."""
    simulation = Simulation(store, seed=9, most_delay_s=most_delay_s)
    fill(simulation, {"a": Limit((Rate(30, 10.0, aligned_s=2.5),))})
    simulation.go(GRANTS // 4)
    assert simulation.most_in_fixed_window(10 * US, 5 * US // 2) <= 30
    if not most_delay_s:
        assert simulation.most_in_window(US) >= 20
        assert simulation.most_in_window(10 * US) > 30  # across a boundary


def test_tasks_below_the_threshold_leave_the_reserve(store: redis.Redis) -> None:
    """The last part of a window's quota stays until tasks above the threshold take it at once."""
    simulation = Simulation(store, seed=10, most_delay_s=0.0, trouble=False)
    limits = {"a": Limit((Rate(20, 3600.0, aligned_s=0.0),), reserve=Reserve(0.25, 5))}
    fill(simulation, limits, tasks=40)
    popped = simulation.run(c.pop(40, lease_s=LEASE_S))
    assert isinstance(popped, c.Popped) and len(popped.tasks) == 15
    (push,) = c.push([NewTask("urgent", 7, group=GROUP)] * 9, max_tasks=0, dedup="only_new")
    simulation.run(push)
    popped = simulation.run(c.pop(40, lease_s=LEASE_S))
    assert isinstance(popped, c.Popped) and [task.priority for task in popped.tasks] == [7] * 5


def test_a_request_that_cost_nothing_frees_its_slot_at_once(store: redis.Redis) -> None:
    """A private limit opens for the next task when the response states that the last one was free."""
    simulation = Simulation(store, seed=11, most_delay_s=0.0, trouble=False)
    fill(simulation, {"b": Limit((Rate(1, 3600.0),))}, tasks=3)
    for _ in range(3):
        popped = simulation.run(c.pop(2, lease_s=LEASE_S))
        assert isinstance(popped, c.Popped) and len(popped.tasks) == 1
        assert popped.tasks[0].lease
        simulation.run(c.settle([c.Entry(c.ACK, popped.tasks[0].lease, costs=[("b", 0.0)])]))


def test_a_request_that_cost_more_delays_the_next_one(store: redis.Redis) -> None:
    """One response that cost four takes four of five slots."""
    simulation = Simulation(store, seed=12, most_delay_s=0.0, trouble=False)
    fill(simulation, {"a": Limit((Rate(5, 100.0),))})
    popped = simulation.run(c.pop(1, lease_s=LEASE_S))
    assert isinstance(popped, c.Popped) and popped.tasks[0].lease
    simulation.run(c.settle([c.Entry(c.ACK, popped.tasks[0].lease, costs=[("a", 4.0)])]))
    (state,) = simulation.run(c.limit_states(["a"]))
    assert state.used == 4 and state.opens_s == pytest.approx(80.0, abs=0.1)


def test_a_request_heavier_than_the_whole_limit_is_sent_alone(store: redis.Redis) -> None:
    """It waits for an empty window and fills it; the state of the limit shows its weight."""
    simulation = Simulation(store, seed=13, most_delay_s=0.0, trouble=False)
    giant = Group("giant", ("a",), weights=(("a", 50.0),))
    fill(simulation, {"a": Limit((Rate(10, 5.0),))}, groups=[giant])
    popped = simulation.run(c.pop(3, lease_s=LEASE_S))
    assert isinstance(popped, c.Popped) and len(popped.tasks) == 1
    assert popped.tasks[0].lease
    simulation.run(c.settle([c.Entry(c.ACK, popped.tasks[0].lease)]))
    (state,) = simulation.run(c.limit_states(["a"]))
    assert state.heaviest == 50 and state.used == 50
    popped = simulation.run(c.pop(1, lease_s=LEASE_S))
    assert isinstance(popped, c.Popped) and popped.wait_s == pytest.approx(5.0, abs=0.1)


def test_a_former_definition_does_not_close_longer_than_the_new_one(store: redis.Redis) -> None:
    """After one in ten hours becomes one in ten seconds, the limit is not closed for hours."""
    simulation = Simulation(store, seed=14, most_delay_s=0.0, trouble=False)
    fill(simulation, {"a": Limit((Rate(1, 36_000.0),))})
    popped = simulation.run(c.pop(1, lease_s=LEASE_S))
    assert isinstance(popped, c.Popped) and popped.tasks[0].lease
    simulation.run(c.settle([c.Entry(c.ACK, popped.tasks[0].lease)]))
    simulation.run(c.define({"a": Limit((Rate(1, 10.0),), version=1)}))
    popped = simulation.run(c.pop(1, lease_s=LEASE_S))
    assert isinstance(popped, c.Popped) and popped.wait_s is not None and popped.wait_s <= 10.0


def test_the_server_detects_an_exceeded_limit(store: redis.Redis) -> None:
    """With a higher limit in the queue than at the server, the same simulation exceeds it."""
    simulation = Simulation(store, seed=3, most_delay_s=0.9)
    fill(simulation, {"a": Limit((Rate(6, 1.0),))})
    simulation.go(GRANTS // 4)
    assert simulation.most_in_window(US) > 5


def test_the_quota_is_used(store: redis.Redis) -> None:
    """Without delays, a paced limit grants nearly its whole quota."""
    simulation = Simulation(store, seed=4, most_delay_s=0.0, trouble=False)
    fill(simulation, {"a": Limit((Rate(20, 1.0),))})
    simulation.go(GRANTS)
    spent_s = (max(simulation.arrivals) - min(simulation.arrivals)) / US
    assert GRANTS / spent_s > 20 * EARLY_SHARE


def test_stamps_outlast_many_windows(store: redis.Redis) -> None:
    """A limit that is never idle counts correctly after more windows than 32 bits of ticks hold: 2^32 / 2^20."""
    simulation = Simulation(store, seed=5, most_delay_s=0.0, trouble=False)
    grants, step_us = 2 * 4096 + 100, US // 4
    fill(simulation, {"a": Limit((Rate(2, 0.5),))}, tasks=grants)
    used: list[float] = []
    for first in range(1, grants, 100):
        pipe = store.pipeline(transaction=False)
        for i in range(first, first + 100):
            now = START_US + i * step_us
            lease = Lease(f"{i:012d}", f"{now}.{i}", now)
            pipe.set("scrapeq:{q}:testclock", now)
            for command in (
                c.pop(1, lease_s=LEASE_S),
                c.settle([c.Entry(c.ACK, lease)]),
                c.limit_states(["a"]),
            ):
                pipe.evalsha(simulation.shas[command.script], 1, KEY, *command.args)
        used += [c.limit_states(["a"]).parse(reply)[0].used for reply in pipe.execute()[3::4]]
    assert used[0] == 1 and set(used[1:grants]) == {2}


def test_a_longer_interval_closes_for_one_window_at_most(store: redis.Redis) -> None:
    """After a redefinition, former responses count at their times, so for one new window at most."""
    simulation = Simulation(store, seed=6, most_delay_s=0.0, trouble=False)
    fill(simulation, {"a": Limit((Rate(2, 0.5),))})
    simulation.go(500)
    simulation.run(c.define({"a": Limit((Rate(2, 60.0),), version=1)}))
    popped = simulation.run(c.pop(1, lease_s=LEASE_S))
    assert isinstance(popped, c.Popped) and not popped.tasks  # two requests had a response in the last minute
    simulation.now_us += round(60 + LEASE_S + 1) * US
    popped = simulation.run(c.pop(1, lease_s=LEASE_S))
    assert isinstance(popped, c.Popped) and popped.tasks
