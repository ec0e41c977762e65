"""What all task runs of a fetch worker share, and the small records that they fill in."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from scrapeq.clock import Clock
from scrapeq.fetch import Egress
from scrapeq.fetch.response_cache import ResponseCache
from scrapeq.limits.judge import Judge
from scrapeq.limits.partition import token_digest
from scrapeq.plan import Plan
from scrapeq.protocols import CursorStore, Extractor, Item, Sink
from scrapeq.queue import Entry, Settled
from scrapeq.resource import GroupOf
from scrapeq.sink import captures_responses
from scrapeq.task import Group, Lease, Task
from scrapeq.worker.host_health import HostHealth

AUTH_RETRIES_MAX = 10_000  # tasks remembered at once


class TaskQueue(Protocol):
    """What a task run needs of the queue: grants, and settling them."""

    max_attempts: int
    lease_s: float

    async def try_acquire(self, group: Group, *, credential: str = "") -> Lease | float | None:
        """Return a grant, or the seconds until another try is worth it; None = an event decides."""

    async def acquire(self, group: Group, *, credential: str = "") -> Lease | None:
        """Return a grant for a request that is not a task, or None while a limit is closed."""

    async def settle(self, entry: Entry) -> Settled:
        """Settle a lease. Raises StoreError."""

    def settle_soon(self, entry: Entry) -> asyncio.Future[Settled]:
        """Settle a lease together with others; the future fails with StoreError."""


@dataclass(slots=True)
class Tally:
    """What a worker did since it last reported."""

    requests: int = 0
    refused: int = 0
    retried: int = 0
    done: int = 0
    dead: int = 0
    items: int = 0
    unchanged: int = 0
    lost: int = 0
    skipped: int = 0
    redirects: int = 0
    polled: int = 0
    not_modified: int = 0
    cached: int = 0
    dropped: int = 0

    def take(self) -> dict[str, int]:
        """Return the counts that are not zero, and reset them."""
        counts = {name: getattr(self, name) for name in self.__slots__ if getattr(self, name)}
        for name in counts:
            setattr(self, name, 0)
        return counts


@dataclass(slots=True)
class LeasedTask:
    """A task in a slot. `is_over`: its lease was settled, and what is left to do needs none."""

    task: Task
    lease: Lease
    worker: asyncio.Task[None] | None = None
    is_over: bool = False


@dataclass(frozen=True, slots=True)
class Fatal:
    """Why the whole run ends: a key of `exit_codes.FATAL_REASONS`, and a message for the user."""

    kind: str
    message: str


class ItemBoundReached(Exception):
    """The bound on items is reached, and the page has more."""


class ItemBound:
    """
    The items that may still be written (`--max-items`).

    Args:
        most: How many; None = any number.
    """

    def __init__(self, most: int | None = None) -> None:
        self.most = most
        self._left = most or 0
        self._lock = asyncio.Lock()  # how many of a commit are new is known only afterwards

    @property
    def is_reached(self) -> bool:
        """Whether no further item may be written."""
        return self.most is not None and not self._left

    async def write(self, items: Sequence[Item], commit: Callable[[Sequence[Item]], Awaitable[int]]) -> None:
        """
        Commit items, at most as many new ones as are left; repeated and unchanged ones are free.

        Raises:
            ItemBoundReached: some are left over.
        """
        if self.most is None:
            await commit(items)
            return
        async with self._lock:
            start = 0
            while not start or start < len(items):
                if self.is_reached and items:
                    raise ItemBoundReached
                piece = items[start : start + self._left]
                self._left -= await commit(piece)
                start += max(1, len(piece))


class AuthRetries:
    """
    Counts how often tasks were sent again with a fresh credential, until they end.

    A task may end in another process and then stays here, so the oldest are dropped at AUTH_RETRIES_MAX.
    """

    def __init__(self) -> None:
        self._tasks: dict[str, int] = {}

    def add(self, task_id: str) -> int:
        """Count one more retry of a task; return how many there are now."""
        count = self._tasks[task_id] = self._tasks.get(task_id, 0) + 1
        if len(self._tasks) > AUTH_RETRIES_MAX:
            del self._tasks[next(iter(self._tasks))]
        return count

    def discard(self, task_id: str) -> None:
        """Forget a task."""
        self._tasks.pop(task_id, None)


@dataclass(slots=True)
class WorkerContext:
    """Everything that a task run needs, and where it records what it did."""

    plan: Plan
    queue: TaskQueue
    egress: Egress
    extractor: Extractor
    sink: Sink
    cursor_store: CursorStore
    group_of: GroupOf
    clock: Clock
    cache: ResponseCache | None = None
    tally: Tally = field(default_factory=Tally)
    events: list[str] = field(default_factory=list)
    fatal: Fatal | None = None
    stopping: asyncio.Event = field(default_factory=asyncio.Event)
    hosts: HostHealth = field(default_factory=HostHealth)
    auth_retries: AuthRetries = field(default_factory=AuthRetries)
    item_bound: ItemBound = field(default_factory=ItemBound)
    removed: Collection[str] = ()  # resources that the file no longer has; their tasks are dropped
    resources: frozenset[str] = field(init=False)
    judge: Judge = field(init=False)
    captures_responses: bool = field(init=False)  # whether an output stores whole responses
    written: frozenset[str] = field(init=False)  # the resources whose records an output writes
    token: str = field(init=False)  # digest of the only credential; a pool's is in the lease

    def __post_init__(self) -> None:
        self.resources = frozenset(resource.name for resource in self.plan.resources)
        self.judge = Judge(self.plan.rate_limits, self.egress.credentials)
        self.captures_responses = captures_responses(self.plan.outputs)
        outputs = [output.resources for output in self.plan.outputs if output.type != "warc"]
        names = (resource.name for resource in self.plan.resources)
        self.written = frozenset(name for name in names if any(not one or name in one for one in outputs))
        self.token = token_digest(self.plan.client.auth.identity)

    def end(self, fatal: Fatal) -> None:
        """End the whole run; the first reason counts."""
        self.fatal = self.fatal or fatal
        self.stopping.set()
