"""Which ready task comes next, for the reference model: by priority, or round-robin over groups."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass, field

from queue_model.records import TaskRecord
from scrapeq.task import Order


@dataclass
class Turns:
    """
    The order of a queue.

    In `fair` order each group with ready tasks has a turn: how many tasks had been given out when it was served last,
    or when it got its first ready task. A group that empties has none, so it comes back behind all others.
    """

    order: Order = "strict"
    given: int = 0  # tasks given out in fair order
    of: dict[str, int] = field(default_factory=dict)

    def change(self, order: Order, tasks: Collection[TaskRecord]) -> None:
        """Another order from now on: all groups begin alike."""
        if order != self.order:
            self.order, self.of = order, {}
            for task in tasks:
                self.enter(task)

    def enter(self, task: TaskRecord) -> None:
        """A task has come, perhaps the first of its group that is ready."""
        if task.state == "ready" and self.order == "fair":
            self.of.setdefault(task.group, self.given)

    def serve(self, group: str) -> None:
        """A task of this group is given out: it goes behind all others."""
        if self.order == "fair":
            self.given += 1
            self.of[group] = self.given

    def forget(self, tasks: Collection[TaskRecord]) -> None:
        """Groups without ready tasks have no turn."""
        ready = {task.group for task in tasks if task.state == "ready"}
        self.of = {group: turn for group, turn in self.of.items() if group in ready}

    def best_first(self, tasks: Collection[TaskRecord]) -> Iterator[TaskRecord]:
        """What is ready. Each one that is given out is told by `serve` before the next is asked for."""
        ready = (task for task in tasks if task.state == "ready")
        left = sorted(ready, key=lambda task: (-task.priority, task.id))
        if self.order == "strict":
            yield from left
            return
        while left:
            heads: dict[str, TaskRecord] = {}
            for task in left:
                heads.setdefault(task.group, task)
            best = min(heads.values(), key=lambda task: (self.of[task.group], task.id))
            left.remove(best)
            yield best
