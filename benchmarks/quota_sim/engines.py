"""What hands out the tasks: the queue in Python around the engine's own code. Time is handed in, seconds."""

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
LOOK_MAX_S = 86_400.0  # an opening further away is not looked for
LOOK_US = 1000  # how exactly it is
OTHERS_WAIT_S = 8.0  # of those who do not watch


class Engine(Protocol):
    """The verbs of the queue that fetchers use; `marked` is asked after each: does it wake one who waits?"""

    def define(self, limits: dict[str, Limit]) -> None:
        """Make limits known."""

    def push(self, now_s: float, tasks: Sequence[NewTask]) -> None:
        """New tasks."""

    def pop(self, now_s: float, n: int, suspects: int, previous_poll_at_us: int) -> c.Popped:
        """Lease the best n."""

    def settle(self, now_s: float, entries: Sequence[c.Entry]) -> None:
        """What became of leases."""

    def take_marker(self) -> bool:
        """Take the marker that wakes one who waits, if it lies there."""

    def has_better(self, now_s: float, rank: float) -> bool:
        """Does a task of a higher rank stand ready that could go now?"""

    def states(self, now_s: float, names: Sequence[str]) -> list[LimitState]:
        """What is known of limits."""

    def close(self) -> None:
        """End."""


@dataclass
class _Indexed(Model):
    """The reference model with an index of what is ready, for without one a pop looks at every task."""

    ready: dict[str, list[tuple[float, str]]] = field(default_factory=dict)
    delayed: list[tuple[int, str]] = field(default_factory=list)
    ends: list[tuple[int, str, str]] = field(default_factory=list)
    closing: dict[str, list[LimitModel]] = field(default_factory=dict)
    opening: dict[str, int | None] = field(default_factory=dict)  # of groups since anything last changed

    def _grants(self, group: str, now: int, weight: float = 1) -> bool:
        limits = self.closing.get(group)
        if limits is None:
            limits = self.closing[group] = [self.limit(name) for name in self._alone(group).limits]
        return all(limit.grants(now, weight) for limit in limits)

    def _alone(self, group: str) -> Choice:
        return next(self.pools.choices(self.groups[group]))  # there are no pools here

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
        """When time changes something."""
        while self.ends and (
            self.ends[0][1] not in self.leases or self.leases[self.ends[0][1]].token != self.ends[0][2]
        ):
            heapq.heappop(self.ends)
        times = [heap[0][0] for heap in (self.ends, self.delayed) if heap]
        return min(times, default=None)

    def take(self, n: int, lease_s: float, suspects: int) -> list[Task]:
        """As `pop`, by the index: the best head of the groups whose limits grant, again and again."""
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
        """Would a pop give something then (of this group)?"""
        return any(
            heap and (only is None or group == only) and self._grants(group, int(at))
            for group, heap in self.ready.items()
        )

    def opens(self) -> int | None:
        """The first moment from now on at which a pop gives something, if nothing happens before."""
        openings = [self._opens(group) for group, heap in self.ready.items() if heap]
        return min((at for at in openings if at is not None), default=None)

    def _opens(self, group: str) -> int | None:
        if group in self.opening:
            known = self.opening[group]
            if known is None or known > self.now:
                return known
        found = self.opening[group] = self._look_for_opening(group, self.now)
        return found

    def _look_for_opening(self, group: str, now: int) -> int | None:
        if self._grants(group, now):
            return now
        closed, far = 0, LOOK_US
        while not self._grants(group, now + far):
            if far > LOOK_MAX_S * US:
                return None
            closed, far = far, far * 2
        while far - closed > LOOK_US:
            middle = (closed + far) // 2
            if self._grants(group, now + middle):
                far = middle
            else:
                closed = middle
        return now + far


class PythonEngine:
    """`scrapeq.limits.engine` and the queue's reference model: many times faster than the store, for many seeds."""

    def __init__(self, lease_s: float = LEASE_S) -> None:
        self._model = _Indexed(START_S * US)
        self._lease_s = lease_s
        self._marked = False
        self._watch: float = 0  # until then somebody waits who will look
        self._announced: float = 0  # when the last that found nothing was told to come back

    def _set(self, now_s: float) -> None:
        self._model.server_us = START_S * US + round(now_s * US)

    def define(self, limits: dict[str, Limit]) -> None:
        self._model.define(limits)

    def push(self, now_s: float, tasks: Sequence[NewTask]) -> None:
        self._set(now_s)
        self._model.push(tasks)
        self._look_again()

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
        self._look_again()

    def _look_again(self) -> None:
        """Who waits is woken when there is something sooner than was said."""
        soon = min(self._announced, self._model.now + LOOK_MAX_S * US) - LOOK_US
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
