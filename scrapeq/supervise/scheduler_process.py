"""The scheduler as a process of its own: `scrapeq scheduler`, and a child of each run."""

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
from scrapeq.supervise.schedules import recurring_of, schedules_of
from scrapeq.wiring import WorkerSettings, open_queue_of, plan_of

PATIENCE_S = 5.0


class _StoreLeaderLock(LeaderLock):
    """An election that says what ails the store as the queue does: the scheduler waits for it, then."""

    async def acquire(self) -> bool:
        """As Election. Raises StoreError."""
        with named_errors():
            return await super().acquire()


def scheduler_of(
    queue: WorkerQueue,
    client: Any,
    plan: Plan | None = None,
    event: Callable[[str], None] | None = None,
    only: Collection[str] = (),
) -> Scheduler:
    """The scheduler of a queue; with a plan it keeps its schedules, too (of `only` these, if there are any)."""
    leader_lock = _StoreLeaderLock(client, key_of(queue.name)[:-1] + "scheduler")
    if plan is None or event is None or not schedules_of(plan, only):
        return Scheduler(leader_lock, queue.sweep_once)
    recurring = recurring_of(plan, queue, client, event, only)

    async def recur() -> float | None:
        with named_errors():
            return await recurring.turn()

    return Scheduler(leader_lock, queue.sweep_once, recur, event)


async def run_scheduler(
    plan: Plan, folder: Path, stop: asyncio.Event, event: Callable[[str], None] | None = None
) -> int:
    """Schedule until `stop`; the exit code. `event` is told what was pushed. Raises StoreError without a store."""
    async with open_store_queue(plan, folder) as (queue, client):
        await scheduler_of(queue, client, plan, event).run(stop)
    return 0


async def _serve(settings: dict[str, Any]) -> int:
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    store_url, only = settings.pop("store_url"), settings.pop("only", ())
    if "worker" in settings:  # a run that keeps schedules
        plan = plan_of(WorkerSettings(**settings["worker"]))
        queue, client = open_queue_of(plan, store_url, patience_s=PATIENCE_S)
        scheduler = scheduler_of(queue, client, plan, _say, only)
    else:
        client = async_client(store_url)
        queue = WorkerQueue(client, settings["name"], patience_s=PATIENCE_S)
        scheduler = scheduler_of(queue, client)
    async with queue:
        await scheduler.run(stop)
    await client.aclose()
    return 0


def _say(event: str) -> None:
    """One JSON line to the supervisor."""
    sys.stdout.write(orjson.dumps({"events": [event]}).decode() + "\n")
    sys.stdout.flush()


def main() -> int:
    """The child's main."""
    settings = enter_child()
    configure_child_log()
    try:
        return asyncio.run(_serve(settings))
    except ScrapeqError:
        return 1


if __name__ == "__main__":
    sys.exit(main())
