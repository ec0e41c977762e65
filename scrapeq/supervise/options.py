"""The options that the command line adds to a plan for one run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from scrapeq.errors import UsageError
from scrapeq.plan import Plan
from scrapeq.queue.defaults import LEASE_S
from scrapeq.resource.seeds import starts_by_itself


@dataclass(frozen=True, slots=True)
class RunOptions:
    """
    The options of one `scrapeq run`.

    Args:
        role: "all", "fetcher" (no scheduler, no seeds) or "scheduler" (no fetchers, no writer).
        keep_running: Keep running when no task is left.
        for_s, max_requests, max_items: Bounds. At a bound the run stops, with code 5 if work is left.
        max_wait_s: Give up (code 4) when nothing can be sent for longer than this many seconds.
        only: Seed only these resources; empty = all.
        full_refresh: Fetch everything again: forget stored cursors, and an unfinished run with its tasks.
        take_over: Use a queue that belongs to a file of another name.
        lease_s: Seconds after which the tasks of a dead fetcher return to the queue.
    """

    role: str = "all"
    keep_running: bool = False
    for_s: float | None = None
    max_requests: int | None = None
    max_items: int | None = None
    max_wait_s: float | None = None
    only: tuple[str, ...] = ()
    full_refresh: bool = False
    take_over: bool = False
    lease_s: float = LEASE_S

    @property
    def fetches(self) -> bool:
        """Whether this run starts fetchers and a writer."""
        return self.role != "scheduler"

    @property
    def coordinates(self) -> bool:
        """Whether this run pushes the seeds and starts a scheduler."""
        return self.role != "fetcher"

    @property
    def keeps_schedules(self) -> bool:
        """Whether this run fetches scheduled resources again when they are due."""
        return self.keep_running and self.coordinates


def check_only(plan: Plan, only: Sequence[str], on_event: Callable[[str], None]) -> None:
    """
    Warn when none of the resources named in --only starts by itself.

    Raises:
        UsageError: the plan does not have a resource of one of the names.
    """
    known = [resource.name for resource in plan.resources]
    unknown = sorted(set(only) - set(known))
    if unknown:
        raise UsageError(
            f"--only: unknown resource {unknown[0]!r}. The resources of {plan.file} are: {', '.join(known)}"
        )
    if only and not any(map(starts_by_itself, map(plan.resource, only))):
        on_event(f"check  --only: {', '.join(only)} cannot start without a parent; name its parent, too")
