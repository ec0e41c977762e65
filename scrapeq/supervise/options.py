"""What the command line adds to a plan for one run."""

from __future__ import annotations

from dataclasses import dataclass

from scrapeq.queue.defaults import LEASE_S


@dataclass(frozen=True, slots=True)
class RunOptions:
    """
    What the command line adds to the plan.

    Args:
        role: all, fetcher (no scheduler, no seeds) or scheduler.
        keep_running: Go on when nothing is left.
        for_s, max_requests, max_items: Bounds; the run stops with code 5 when work is left.
        max_wait_s: Give up (code 4) when nothing can be sent for longer than this.
        only: Seed these resources only.
        full_refresh: Ask for everything again: what walks keep is forgotten, and an unfinished run with its tasks.
        lease_s: Seconds after which the tasks of a fetcher that died come back.
    """

    role: str = "all"
    keep_running: bool = False
    for_s: float | None = None
    max_requests: int | None = None
    max_items: int | None = None
    max_wait_s: float | None = None
    only: tuple[str, ...] = ()
    full_refresh: bool = False
    lease_s: float = LEASE_S
