"""The engines under test: a queue in Python around the limit engine. Callers pass the time in seconds."""

from __future__ import annotations

import heapq
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from queue_model.model import Model
from queue_model.pools import Choice
from queue_model.records import SUSPECT_DELAY_US, LeaseRecord, TaskRecord

from scrapeq.limit import Limit, LimitState
from scrapeq.limits.engine import LimitModel
from scrapeq.queue import commands as c
from scrapeq.queue.wait import WATCHDOG_S
from scrapeq.task import Lease, NewTask, Task

US = 1_000_000
START_S = 1_700_000_000
LEASE_S = 60.0
SEARCH_MAX_S = 86_400.0  # the farthest opening to search for
SEARCH_STEP_US = 1000  # the precision of the search
OTHERS_WAIT_S = 8.0  # for waiters other than the designated one


class Engine(Protocol):
    """The operations that fetchers use. After each, `take_marker` returns whether it wakes a waiter."""

    def define(self, limits: dict[str, Limit]) -> None:
        """Define limits."""

    def push(self, now_s: float, tasks: Sequence[NewTask]) -> None:
        """Push tasks."""

    def pop(self, now_s: float, n: int, suspects: int, previous_poll_at_us: int) -> c.Popped:
        """Lease the best n tasks."""

    def settle(self, now_s: float, entries: Sequence[c.Entry]) -> None:
        """Settle leases."""

    def take_marker(self) -> bool:
        """Take the marker that wakes a waiter; return whether it was set."""

    def has_better(self, now_s: float, rank: float) -> bool:
        """Return whether a ready task with a higher rank could be sent now."""

    def states(self, now_s: float, names: Sequence[str]) -> list[LimitState]:
        """Return the states of limits."""

    def close(self) -> None:
        """Release the engine's resources."""


@dataclass
class _Indexed(Model):
    """The reference model with an index of ready tasks: without it, each pop looks at every task."""

    ready: dict[str, list[tuple[float, str]]] = field(default_factory=dict)
    delayed: list[tuple[int, str]] = field(default_factory=list)
    ends: list[tuple[int, str, str]] = field(default_factory=list)
    closing: dict[str, list[LimitModel]] = field(default_factory=dict)
    opening: dict[str, int | None] = field(default_factory=dict)  # of groups, since the last change

    def _grants(self, group: str, now: int, weight: float = 1) -> bool:
        limits = self.closing.get(group)
        if limits is None:
            limits = self.closing[group] = [self.limit(name) for name in self._alone(group).limits]
        return all(limit.grants(now, weight) for limit in limits)

    def _alone(self, group: str) -> Choice:
        return next(self.pools.choices(self.groups[group]))  # the simulation has no pools

    def _back(self, task: TaskRecord, due: int, now: int) -> None:
        super()._back(task, due, now)
        if task.state == "ready":
            heapq.heappush(self.ready.setdefault(task.group, []), (-task.priority, task.id))
        else:
            heapq.heappush(self.delayed, (task.due, task.id))

    def events(self, now: int) -> None:
        while self.delayed and self.delayed[0][0] <= now:
            _, id_ = heapq.heappop(self.delayed)
            task = self.tasks.get(id_)
            if task is not None and task.state == "delayed" and task.due <= now:
                self._back(task, now, now)
        while self.ends and self.ends[0][0] <= now:
            _, id_, token = heapq.heappop(self.ends)
            lease = self.leases.get(id_)
            if lease is not None and lease.token == token:
                self._expire(lease, now)

    def _lease(
        self, id_: str, group: str, choice: Choice, now: int, ends: int, weight: float = 1
    ) -> LeaseRecord:
        self.opening.clear()
        lease = super()._lease(id_, group, choice, now, ends, weight)
        heapq.heappush(self.ends, (ends, id_, lease.token))
        return lease

    def _give_back(self, *values: Any) -> None:
        self.opening.clear()
        super()._give_back(*values)

    def next_event(self) -> int | None:
        """Return the time of the next lease end or delay end."""
        while self.ends and (
            self.ends[0][1] not in self.leases or self.leases[self.ends[0][1]].token != self.ends[0][2]
        ):
            heapq.heappop(self.ends)
        times = [heap[0][0] for heap in (self.ends, self.delayed) if heap]
        return min(times, default=None)

    def take(self, n: int, lease_s: float, suspects: int) -> list[Task]:
        """Pop like the model, but by the index: repeatedly the best head of the groups whose limits grant."""
        now = self._tick()
        self.events(now)
        taken: list[Task] = []
        heads = [(heap[0], group) for group, heap in self.ready.items() if heap]
        heapq.heapify(heads)
        while heads and len(taken) < n:
            (_, id_), group = heapq.heappop(heads)
            if not self._grants(group, now):
                continue
            heap = self.ready[group]
            heapq.heappop(heap)
            task = self.tasks[id_]
            if task.suspect and suspects:
                self._back(task, now + SUSPECT_DELAY_US, now)
                if heap:
                    heapq.heappush(heads, (heap[0], group))
                continue
            suspects += task.suspect
            lease = self._lease(id_, group, self._alone(group), now, now + round(lease_s * US))
            lease.task, task.state = task, "leased"
            taken.append(self._show(task, Lease(id_, lease.token, now), now))
            if heap:
                heapq.heappush(heads, (heap[0], group))
        return taken

    def grants_any(self, at: float, only: str | None = None) -> bool:
        """Return whether a pop at this time would return a task (of this group)."""
        return any(
            heap and (only is None or group == only) and self._grants(group, int(at))
            for group, heap in self.ready.items()
        )

    def opens(self) -> int | None:
        """Return the first time at which a pop returns a task, if nothing happens before; None: unknown."""
        openings = [self._opens(group) for group, heap in self.ready.items() if heap]
        return min((at for at in openings if at is not None), default=None)

    def _opens(self, group: str) -> int | None:
        if group in self.opening:
            known = self.opening[group]
            if known is None or known > self.now:
                return known
        found = self.opening[group] = self._search_opening(group, self.now)
        return found

    def _search_opening(self, group: str, now: int) -> int | None:
        if self._grants(group, now):
            return now
        closed, far = 0, SEARCH_STEP_US
        while not self._grants(group, now + far):
            if far > SEARCH_MAX_S * US:
                return None
            closed, far = far, far * 2
        while far - closed > SEARCH_STEP_US:
            middle = (closed + far) // 2
            if self._grants(group, now + middle):
                far = middle
            else:
                closed = middle
        return now + far


class PythonEngine:
    """`scrapeq.limits.engine` with the queue's reference model: much faster than a store, for many seeds."""

    def __init__(self, lease_s: float = LEASE_S) -> None:
        self._model = _Indexed(START_S * US)
        self._lease_s = lease_s
        self._marked = False
        self._watch: float = 0  # until then, a designated waiter will look
        self._announced: float = 0  # when the last pop without tasks has to return

    def _set(self, now_s: float) -> None:
        self._model.server_us = START_S * US + round(now_s * US)

    def define(self, limits: dict[str, Limit]) -> None:
        self._model.define(limits)

    def push(self, now_s: float, tasks: Sequence[NewTask]) -> None:
        self._set(now_s)
        self._model.push(tasks)
        self._mark_if_sooner()

    def pop(self, now_s: float, n: int, suspects: int, previous_poll_at_us: int) -> c.Popped:
        self._set(now_s)
        self._marked = False
        model = self._model
        if previous_poll_at_us == self._watch:
            self._watch = 0
        taken = model.take(n, self._lease_s, suspects)
        times = [at for at in (model.opens(), model.next_event()) if at is not None]
        self._announced = min(times, default=math.inf)
        is_watched = model.now < self._watch <= self._announced
        if len(taken) == n:
            soon = self._announced < model.now + WATCHDOG_S * US
            self._marked = model.grants_any(model.now) or (soon and not is_watched)
            return c.Popped(taken, 0.0, len(model.tasks))
        if is_watched:
            wait_s = max(OTHERS_WAIT_S, (self._watch - model.now) / US)
            return c.Popped(taken, wait_s, len(model.tasks))
        self._watch = min(self._announced, model.now + WATCHDOG_S * US)
        return c.Popped(taken, (self._watch - model.now) / US, len(model.tasks), poll_at_us=int(self._watch))

    def settle(self, now_s: float, entries: Sequence[c.Entry]) -> None:
        self._set(now_s)
        self._model.settle(entries)
        self._mark_if_sooner()

    def _mark_if_sooner(self) -> None:
        """Set the marker if a task can be popped sooner than the last pop announced."""
        soon = min(self._announced, self._model.now + SEARCH_MAX_S * US) - SEARCH_STEP_US
        if soon < self._model.now or self._model.grants_any(soon):
            self._marked = True

    def take_marker(self) -> bool:
        marked, self._marked = self._marked, False
        return marked

    def has_better(self, now_s: float, rank: float) -> bool:
        self._set(now_s)
        model = self._model
        return any(
            heap and -heap[0][0] > rank and model.grants_any(model.now, group)
            for group, heap in model.ready.items()
        )

    def states(self, now_s: float, names: Sequence[str]) -> list[LimitState]:
        self._set(now_s)
        return self._model.limit_states(names)

    def close(self) -> None:
        pass
