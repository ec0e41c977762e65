"""Open a plan's queue for commands other than `run`."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from scrapeq.limits.definitions import limits_of
from scrapeq.plan import Plan
from scrapeq.queue.worker_queue import WorkerQueue
from scrapeq.store.check import check_server
from scrapeq.store.embedded import open_store
from scrapeq.wiring import open_queue_of


@asynccontextmanager
async def open_store_queue(
    plan: Plan, folder: Path, *, define: bool = True
) -> AsyncIterator[tuple[WorkerQueue, Any]]:
    """
    Open the plan's queue, in the store that the plan names or in the store of the current run.

    Args:
        plan: The plan.
        folder: The data folder.
        define: Whether to write the plan's limits to the queue.

    Yields:
        The queue and its Redis client.

    Raises:
        StoreError: the store cannot be used; the message names the remedy.
    """
    async with open_store(plan.redis, folder) as url:
        queue, client = open_queue_of(plan, url)
        try:
            await check_server(client, url)
            await queue.check_types()
            if define:
                await queue.define(limits_of(plan.rate_limits))
            yield queue, client
        finally:
            await queue.close()
            await client.aclose()
