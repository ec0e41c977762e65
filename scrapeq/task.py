"""The words of the queue as values: a group, a task to push, a task popped and the lease it is held under."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

from scrapeq.errors import UsageError

State = Literal["ready", "delayed", "leased", "dead"]
Dedup = Literal["only_new", "raise_priority"]
Order = Literal["strict", "fair"]  # by priority over all groups; round-robin over groups, by priority inside


WEIGHT_UNIT = 1024  # weights are whole parts of this, so that their sums are exact
WEIGHT_MAX = 1e9
OCCURRENCE_MAX = 2**32 - 1


def weight_of(value: float, what: str) -> float:
    """A weight, rounded up to what limits count in. Raises UsageError naming `what`."""
    if not math.isfinite(value) or not 0 <= value <= WEIGHT_MAX:
        raise UsageError(f"{what}: {value!r} is no weight; it must be from 0 to {WEIGHT_MAX:.0f}")
    return math.ceil(value * WEIGHT_UNIT) / WEIGHT_UNIT


@dataclass(frozen=True, slots=True)
class Group:
    """
    The tasks that share limits.

    Args:
        name: The group's key, at most 255 bytes; a digest or a host.
        limits: Limit instances (`"core"`, or `"core|a91f"` for a partition) shared with other groups: the lane.
        private: The one instance that only this group uses, if there is one.
        weights: (instance, what a task weighs there) of `limits`, where that is not 1; 0 or more, rounded up to
            1/1024. The same limit weighs otherwise in another group.

    An instance may be a pool's (`"core|*keys"`): one of its members grants, the same one at all of them.
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
                raise UsageError(
                    f"group {self.name!r}: a weight for {min(unknown)!r}, which is not among its limits"
                )

    def weight(self, instance: str) -> float:
        """What a task of this group weighs in one of its limits."""
        return dict(self.weights).get(instance, 1) if self.weights else 1


DEFAULT_GROUP = Group()


@dataclass(frozen=True, slots=True)
class NewTask:
    """
    A task to push.

    Args:
        payload: Anything orjson can write.
        priority: Any finite number, higher first, ties first-in-first-out.
        delay_s: Seconds before which it is not seen.
        group: What limits it shares.
        key: Its identity for deduplication; empty = never a duplicate.
        occurrence: 0 = asked for once. Else what was done, or has died, in an earlier occurrence is asked for again,
            and only what waits or is under way is a duplicate; it takes the place of a dead letter.
        walk: Of an occurrence: the walk that it is a page of. While one page of it lives no other is pushed; the next
            one enters with the ack of the one before. Empty = no walk.
    """

    payload: Any
    priority: float = 0.0
    delay_s: float = 0.0
    group: Group = DEFAULT_GROUP
    key: str = ""
    occurrence: int = 0
    walk: str = ""

    def __post_init__(self) -> None:
        if not isinstance(self.priority, int | float) or not math.isfinite(self.priority):
            raise UsageError(f"priority: {self.priority!r} is no finite number")
        if not isinstance(self.delay_s, int | float) or not math.isfinite(self.delay_s) or self.delay_s < 0:
            raise UsageError(f"delay: {self.delay_s!r} is no duration; it must be 0 or more seconds")
        if not 0 <= self.occurrence <= OCCURRENCE_MAX:
            raise UsageError(f"occurrence: {self.occurrence!r} is not from 0 to {OCCURRENCE_MAX}")


class Lease(NamedTuple):
    """
    The right to work on one task: void once `token` is stale.

    `granted_us`: when it was granted, queue clock. `member`: the one of a pool that granted it (a credential's digest).
    """

    id: str
    token: str
    granted_us: int
    credential: str = ""


@dataclass(slots=True)
class Task:
    """
    A task as the queue hands it out. (Not frozen: a frozen one costs four times as much to make.)

    Args:
        id: Twelve digits, in push order.
        payload: What was pushed.
        priority: Its priority now.
        group: Its group's name.
        attempts: Tries charged so far (a rate limit never is one).
        expiries: Leases that ran out under it.
        releases: Times it was given back uncharged.
        lease: The lease it is held under; None when only looked at.
        state: Where it is.
        last_error: Why the last try failed; empty if none did.
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
        """A member of the payload: `task['body']`."""
        return self.payload[key]
