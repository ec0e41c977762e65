"""The values of the queue: a group, a task to push, a popped task and its lease."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

from scrapeq.errors import UsageError

State = Literal["ready", "delayed", "leased", "dead"]
Dedup = Literal["only_new", "raise_priority"]
Order = Literal[
    "strict", "fair"
]  # by priority over all groups; round-robin over groups, by priority within each

WEIGHT_UNIT = 1024  # weights are multiples of 1/1024, so that their sums are exact
WEIGHT_MAX = 1e9
SCHEDULED_RUN_MAX = 2**32 - 1


def weight_of(value: float, what: str) -> float:
    """Round a weight up to a multiple of 1/1024. Raises UsageError, which names the value by `what`."""
    if not math.isfinite(value) or not 0 <= value <= WEIGHT_MAX:
        raise UsageError(f"{what}: expected a weight from 0 to {WEIGHT_MAX:,.0f}, got {value!r}")
    return math.ceil(value * WEIGHT_UNIT) / WEIGHT_UNIT


@dataclass(frozen=True, slots=True)
class Group:
    """
    The limits that a set of tasks shares.

        Group("example.org", ("api|a91f",), private="host|example.org", weights=(("api|a91f", 2),))

    Args:
        name: The group's key, at most 255 bytes: a host, for example, or a digest.
        limits: The limit instances that it shares with other groups (its lane): `"core"`, or `"core|a91f"` for a
            partition.
        private: The instance that only this group uses; empty = none.
        weights: (instance, weight of a task there) for those of `limits` where it is not 1. 0 or more, rounded up to
            a multiple of 1/1024.

    An instance may name a pool (`"core|*keys"`): one of the pool's credentials grants, the same at all such instances.

    Raises:
        UsageError: a weight is out of range, or belongs to an instance that is not among the limits.
    """

    name: str = ""
    limits: tuple[str, ...] = ()
    private: str = ""
    weights: tuple[tuple[str, float], ...] = ()

    def __post_init__(self) -> None:
        if self.weights:
            exact = tuple((name, weight_of(weight, name)) for name, weight in self.weights)
            object.__setattr__(self, "weights", exact)
            if unknown := {name for name, _ in exact} - set(self.limits):
                raise UsageError(f"group {self.name!r}: weights: {min(unknown)!r} is not among its limits")

    def weight(self, instance: str) -> float:
        """Return the weight of this group's tasks in one of its limits."""
        return dict(self.weights).get(instance, 1) if self.weights else 1


DEFAULT_GROUP = Group()


@dataclass(frozen=True, slots=True)
class NewTask:
    """
    A task to push.

    Args:
        payload: Anything that orjson can serialize, at most 1 MiB as JSON.
        priority: Any finite number. Higher comes first; equal priorities are first in, first out.
        delay_s: Seconds before which it is not handed out.
        group: The limits that it needs.
        key: Its identity for deduplication; empty = never a duplicate.
        scheduled_run: The number of the scheduled run that requests it; 0 = none. A later run pushes a key again that
            was done or died in an earlier one (and replaces the dead letter); only a task that still waits or is in
            progress is a duplicate.
        page_sequence: With `scheduled_run`: the page sequence that it is a page of; empty = none. While one page of a
            sequence is in the queue no other is pushed, except with the `ack` of the page before.

    Raises:
        UsageError: a priority that is not finite, a negative delay, a run number out of range.
    """

    payload: Any
    priority: float = 0.0
    delay_s: float = 0.0
    group: Group = DEFAULT_GROUP
    key: str = ""
    scheduled_run: int = 0
    page_sequence: str = ""

    def __post_init__(self) -> None:
        if not isinstance(self.priority, int | float) or not math.isfinite(self.priority):
            raise UsageError(f"priority: expected a finite number, got {self.priority!r}")
        if not isinstance(self.delay_s, int | float) or not math.isfinite(self.delay_s) or self.delay_s < 0:
            raise UsageError(f"delay: expected 0 or more seconds, got {self.delay_s!r}")
        if not 0 <= self.scheduled_run <= SCHEDULED_RUN_MAX:
            raise UsageError(
                f"scheduled_run: expected a number from 0 to {SCHEDULED_RUN_MAX:,}, got {self.scheduled_run!r}"
            )


class Lease(NamedTuple):
    """
    The right to work on one task.

    Attributes:
        id: The task's id.
        token: The fencing token; a later lease of the task makes it stale.
        granted_us: When it was granted, in microseconds of the queue's clock.
        credential: The credential of a pool that granted it (a digest); empty = none.
    """

    id: str
    token: str
    granted_us: int
    credential: str = ""


@dataclass(slots=True)
class Task:
    """
    A task as the queue hands it out. Not frozen, since a frozen one takes four times as long to create.

    Args:
        id: Twelve digits, in push order.
        payload: What was pushed.
        priority: Its present priority.
        group: Its group's name.
        attempts: Attempts charged so far; being rate limited is not one.
        expiries: How many leases expired under it.
        releases: How often it was given back without a charge.
        lease: Its lease; None if the task was read, not popped.
        state: `ready`, `delayed`, `leased` or `dead`.
        last_error: Why the last attempt failed; empty if none did.
        due_in_s: Seconds until it is due (delayed) or its lease ends (leased).
    """

    id: str
    payload: Any
    priority: float = 0.0
    group: str = ""
    attempts: int = 0
    expiries: int = 0
    releases: int = 0
    lease: Lease | None = field(default=None, compare=False)
    state: State = "leased"
    last_error: str = ""
    due_in_s: float = 0.0

    def __getitem__(self, key: Any) -> Any:
        """Return a member of the payload: `task["url"]`."""
        return self.payload[key]


def lease_of(task: Task) -> Lease:
    """Return the lease of a popped task. Raises UsageError if the task was only read."""
    if task.lease is None:
        raise UsageError(f"task {task.id}: not leased; settle tasks that were popped, not only read")
    return task.lease
