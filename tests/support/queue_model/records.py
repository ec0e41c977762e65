"""The tasks and leases of the reference model, and the constants that it shares with the scripts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from scrapeq.limits.charges import Charge
from scrapeq.task import Lease, State, Task

POISON = 3  # expired leases that make a task a dead letter
EXPIRY_JITTER_US = 1_000_000
JITTER_FACTOR = 7919
SUSPECT_DELAY_US = 100_000
CRASHED = f"crashed: its lease ran out {POISON} times"
COUNTED = (
    *("pushed", "done", "granted", "refused", "expired", "died"),
    *("retried", "released", "duplicates", "inexact", "cancelled", "answered"),
)


@dataclass
class TaskRecord:
    """A task in any state."""

    id: str
    payload: Any
    priority: float
    group: str
    key: str
    state: State = "ready"
    due: int = 0
    attempts: int = 0
    expiries: int = 0
    releases: int = 0
    error: str = ""
    suspect: bool = False
    scheduled_run: int = 0
    page_sequence: str = ""

    def show(self, lease: Lease | None, due_s: float) -> Task:
        """Return the task as the queue hands it out under a lease, or as it reads it without one."""
        counts = (self.attempts, self.expiries, self.releases)
        if lease is not None or self.state not in ("delayed", "leased"):
            due_s = 0.0
        error = "" if lease else self.error
        return Task(
            self.id, self.payload, self.priority, self.group, *counts, lease, self.state, error, due_s
        )


@dataclass(kw_only=True)
class LeaseRecord(Charge):
    """A lease that is not settled yet; times in microseconds."""

    id: str
    token: str
    ends: int
    task: TaskRecord | None = None  # None: a grant without a task, or the task was cancelled
    quiet: bool = False  # `set_visibility` set its end, so it does not count as an expiry
    void: bool = False  # the task was cancelled, so only the response counts
