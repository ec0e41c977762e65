"""Runs of one worker in this process against a real store and a small server, with a sink in memory."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from aiohttp import web

from scrapeq import config
from scrapeq.extract import PageExtractor
from scrapeq.fetch import Egress
from scrapeq.fetch.response_cache import ResponseCache
from scrapeq.limits.definitions import limits_of
from scrapeq.page import Page
from scrapeq.protocols import Item
from scrapeq.queue import Queue
from scrapeq.queue.connect import async_client
from scrapeq.queue.worker_queue import WorkerQueue
from scrapeq.resource import TaskBuilder, first_pages
from scrapeq.task import NewTask
from scrapeq.wiring import cursor_store_of, group_function, pool_credentials
from scrapeq.worker.loop import FetchWorker

Handler = Callable[[web.Request], Any]
GIVE_UP_S = 20.0


@dataclass
class MemorySink:
    """An in-memory sink."""

    items: list[Item] = field(default_factory=list)
    pages: list[tuple[Page, int]] = field(default_factory=list)

    async def commit(
        self,
        task_id: str,
        lease_token: str,
        items: Sequence[Item],
        page: Page | None = None,
        *,
        resource: str = "",
        seed: Mapping[str, Any] | None = None,
    ) -> int:
        """Store the items, and the page with its number of items."""
        if page is not None:
            self.pages.append((page, len(items)))
        self.items += items
        return len(items)


@asynccontextmanager
async def serving(handler: Handler) -> AsyncIterator[str]:
    """Run a server on a free port of 127.0.0.1 and yield its URL."""
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", handler)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    await runner.cleanup()


async def work(
    url: str,
    store_url: str,
    text: str,
    until: Callable[[Queue], Any],
    env: dict[str, str] | None = None,
    cache: ResponseCache | None = None,
    concurrency: int = 8,
    first: str = "",
) -> tuple[FetchWorker, MemorySink, Queue]:
    """Run one worker on a plan until a condition holds; the task with the URL `first` is fetched first."""
    plan = config.load("test.yaml", text=text.replace("URL", url), env=env or {})
    client = async_client(store_url)
    queue = WorkerQueue(client, plan.name)
    group = group_function(plan)
    await queue.define(limits_of(plan.rate_limits))
    firsts = first_pages(TaskBuilder(plan, group), time.time(), occurrence=1)
    tasks = [task for task in firsts if isinstance(task, NewTask)]
    await queue.push_many(
        replace(task, priority=task.priority + 1) if task.payload["url"] == first else task for task in tasks
    )
    sink = MemorySink()
    worker = FetchWorker(
        plan=plan,
        queue=queue,
        egress=Egress(plan.client, credentials=pool_credentials(plan)),
        extractor=PageExtractor(plan, group),
        sink=sink,
        group_of=group,
        cursor_store=cursor_store_of(client, queue),
        concurrency=concurrency,
        cache=cache,
    )
    running = asyncio.create_task(worker.run(grace_s=2.0))
    try:
        async with asyncio.timeout(GIVE_UP_S):
            while not await until(queue):  # noqa: ASYNC110 - the awaited state is in another process
                await asyncio.sleep(0.02)
    finally:
        worker.stop()
        await running
    return worker, sink, queue


async def nothing_left(queue: Queue) -> bool:
    """Return whether all tasks are done or dead letters."""
    return (await queue.counts()).live == 0
