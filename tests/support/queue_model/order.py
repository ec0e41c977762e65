"""The order in which the reference model hands out ready tasks: by priority, or round-robin over groups."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass, field

from queue_model.records import TaskRecord
from scrapeq.task import Order


@dataclass
class Turns:
    """
    The order of a queue, and the turns of its groups.

    In `fair` order each group with ready tasks has a turn: the number of tasks handed out when it was last served, or
    when it got its first ready task. A group that becomes empty loses its turn, so it comes back behind all others.
    """

    order: Order = "strict"
    handed_out: int = 0  # tasks in fair order
    of: dict[str, int] = field(default_factory=dict)

    def change(self, order: Order, tasks: Collection[TaskRecord]) -> None:
        """Change the order; all groups start with equal turns."""
        if order != self.order:
            self.order, self.of = order, {}
            for task in tasks:
                self.enter(task)

    def enter(self, task: TaskRecord) -> None:
        """Record a task that became ready, perhaps the first of its group."""
        if task.state == "ready" and self.order == "fair":
            self.of.setdefault(task.group, self.handed_out)

    def serve(self, group: str) -> None:
        """Record that a task of this group was handed out: the group goes behind all others."""
        if self.order == "fair":
            self.handed_out += 1
            self.of[group] = self.handed_out

    def forget(self, tasks: Collection[TaskRecord]) -> None:
        """Remove the turns of groups without ready tasks."""
        ready = {task.group for task in tasks if task.state == "ready"}
        self.of = {group: turn for group, turn in self.of.items() if group in ready}

    def best_first(self, tasks: Collection[TaskRecord]) -> Iterator[TaskRecord]:
        """Yield ready tasks in order. The caller calls `serve` for each that it hands out before it takes the next."""
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
