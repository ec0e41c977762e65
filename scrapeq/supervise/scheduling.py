"""The scheduler as a process of its own: `scrapeq scheduler`, and a child of each run."""

from __future__ import annotations

import asyncio
import signal
import sys
from pathlib import Path
from typing import Any

from scrapeq.errors import ScrapeqError
from scrapeq.plan import Plan
from scrapeq.queue import Queue
from scrapeq.queue.async_queue import key_of
from scrapeq.queue.connect import async_client
from scrapeq.schedule import Election, Scheduler
from scrapeq.supervise.children import enter_child
from scrapeq.supervise.logs import configure_child_log
from scrapeq.supervise.session import open_store_queue
from scrapeq.supervise.store_check import named_errors

PATIENCE_S = 5.0


class _Office(Election):
    """An election that says what ails the store as the queue does: the scheduler waits for it, then."""

    async def stand(self) -> bool:
        """As Election. Raises StoreError."""
        with named_errors():
            return await super().stand()


def scheduler_of(queue: Queue, client: Any) -> Scheduler:
    """The scheduler of a queue."""
    return Scheduler(_Office(client, key_of(queue.name)[:-1] + "scheduler"), queue.sweep)


async def run_scheduler(plan: Plan, folder: Path, stop: asyncio.Event) -> int:
    """Schedule until `stop`; the exit code. Raises StoreError when there is no store."""
    async with open_store_queue(plan, folder) as (queue, client):
        await scheduler_of(queue, client).run(stop)
    return 0


async def _serve(name: str, store_url: str) -> int:
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    client = async_client(store_url)
    async with Queue(client, name, patience_s=PATIENCE_S) as queue:
        await scheduler_of(queue, client).run(stop)
    await client.aclose()
    return 0


def main() -> int:
    """The child's main."""
    settings = enter_child()
    configure_child_log()
    try:
        return asyncio.run(_serve(settings["name"], settings["store_url"]))
    except ScrapeqError:
        return 1


if __name__ == "__main__":
    sys.exit(main())
