"""The scheduler as a process: `scrapeq scheduler`, and the scheduler child of each run."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import orjson

from scrapeq.errors import ScrapeqError
from scrapeq.plan import Plan
from scrapeq.processes.child import enter_child
from scrapeq.processes.logs import configure_child_log
from scrapeq.queue.connect import async_client
from scrapeq.queue.keys import key_of
from scrapeq.queue.worker_queue import WorkerQueue
from scrapeq.schedule import LeaderLock, Scheduler
from scrapeq.store.check import named_errors
from scrapeq.store.open_queue import open_store_queue
from scrapeq.supervise.run_state import RunState, RunWatch
from scrapeq.supervise.schedules import recurring_of, schedules_of
from scrapeq.wiring import WorkerSettings, load_plan, open_queue_of

PATIENCE_S = 5.0


class _StoreLeaderLock(LeaderLock):
    """A leader lock that raises StoreError as the queue does, so that the scheduler waits for the store."""

    async def acquire(self) -> bool:
        """Acquire or renew the lock. Raises StoreError."""
        with named_errors():
            return await super().acquire()


def scheduler_of(
    queue: WorkerQueue,
    client: Any,
    plan: Plan | None = None,
    on_event: Callable[[str], None] | None = None,
    only: Collection[str] = (),
) -> Scheduler:
    """
    Return the scheduler of a queue.

    Args:
        queue: The queue.
        client: The client of its store.
        plan: The plan whose schedules it keeps; None = it only sweeps the queue.
        on_event: Takes sentences for the user; without it schedules are ignored.
        only: Keep the schedules of these resources only; empty = of all.
    """
    watch = RunWatch(RunState(client, queue), queue)

    async def sweep() -> tuple[bool, float | None]:
        with named_errors():
            await watch.check()
            return await queue.sweep_once()

    leader_lock = _StoreLeaderLock(client, key_of(queue.name)[:-1] + "scheduler")
    if plan is None or on_event is None or not schedules_of(plan, only):
        return Scheduler(leader_lock, sweep)
    recurring = recurring_of(plan, queue, client, on_event, only)

    async def push_due() -> float | None:
        with named_errors():
            return await recurring.push_due()

    return Scheduler(leader_lock, sweep, push_due, on_event)


async def run_scheduler(
    plan: Plan, folder: Path, stop: asyncio.Event, on_event: Callable[[str], None] | None = None
) -> int:
    """
    Run the scheduler of a plan until `stop` is set; return the exit code.

    Raises:
        StoreError: the store cannot be used, or loses data of the queue meanwhile.
    """
    async with open_store_queue(plan, folder) as (queue, client):
        if plan.file:
            await RunState(client, queue).check_owner(plan.file)
        await scheduler_of(queue, client, plan, on_event).run(stop)
    return 0


async def _serve(settings: dict[str, Any]) -> int:
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    store_url, only = settings.pop("store_url"), settings.pop("only", ())
    if "worker" in settings:  # the run keeps its schedules
        plan = load_plan(WorkerSettings(**settings["worker"]))
        queue, client = open_queue_of(plan, store_url, patience_s=PATIENCE_S)
        scheduler = scheduler_of(queue, client, plan, _report_event, only)
    else:
        client = async_client(store_url)
        queue = WorkerQueue(client, settings["name"], patience_s=PATIENCE_S)
        scheduler = scheduler_of(queue, client)
    async with queue:
        await scheduler.run(stop)
    await client.aclose()
    return 0


def _report_event(event: str) -> None:
    """Send an event to the supervisor, as one JSON line."""
    sys.stdout.write(orjson.dumps({"events": [event]}).decode() + "\n")
    sys.stdout.flush()


def main() -> int:
    """Run the child process; return its exit code."""
    settings = enter_child()
    configure_child_log()
    try:
        return asyncio.run(_serve(settings))
    except ScrapeqError:
        return 1


if __name__ == "__main__":
    sys.exit(main())
