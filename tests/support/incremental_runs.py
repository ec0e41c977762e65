"""Runs of a file with incremental resources in this process, and a server of records that change."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web
from worker_runs import MemorySink, nothing_left

from scrapeq import config
from scrapeq.extract import PageExtractor
from scrapeq.fetch import Egress
from scrapeq.limits.definitions import limits_of
from scrapeq.plan import Plan
from scrapeq.protocols import CursorState, Item
from scrapeq.queue import Queue
from scrapeq.queue.connect import async_client
from scrapeq.queue.defaults import LEASE_S
from scrapeq.queue.worker_queue import WorkerQueue
from scrapeq.resource import TaskBuilder, first_pages
from scrapeq.supervise.run_state import RunState
from scrapeq.supervise.schedules import start_schedules
from scrapeq.wiring import cursor_store_of, group_function
from scrapeq.worker.loop import FetchWorker

GIVE_UP_S = 20.0
Until = Callable[[Queue], Awaitable[bool]]


@dataclass
class Scrape:
    """Runs of one file against one store, each with one worker."""

    store_url: str
    text: str
    base_url: str
    sink: MemorySink = field(default_factory=MemorySink)
    lease_s: float = LEASE_S

    def plan(self) -> Plan:
        """Load the file as it is now."""
        return config.load("test.yaml", text=self.text.replace("URL", self.base_url), env={})

    async def run(self, until: Until = nothing_left) -> tuple[list[Item], FetchWorker]:
        """Run until a condition holds; return the items, and the worker. The run ends when nothing is left."""
        plan = self.plan()
        client = async_client(self.store_url)
        queue = WorkerQueue(client, plan.name, lease_s=self.lease_s)
        group = group_function(plan)
        await queue.define(limits_of(plan.rate_limits))
        state = RunState(client, queue)
        await state.start_or_resume()
        occurrence, _ = await start_schedules(plan, state, queue, client, only=(), is_new=True, keep=False)
        await state.seed(first_pages(TaskBuilder(plan, group), time.time(), None, occurrence))
        before = len(self.sink.items)
        worker = FetchWorker(
            plan=plan,
            queue=queue,
            egress=Egress(plan.client),
            extractor=PageExtractor(plan, group),
            sink=self.sink,
            group_of=group,
            cursor_store=cursor_store_of(client, queue),
            concurrency=4,
        )
        running = asyncio.create_task(worker.run(grace_s=2.0))
        try:
            async with asyncio.timeout(GIVE_UP_S):
                while not await until(queue):  # noqa: ASYNC110 - the condition is about the store
                    await asyncio.sleep(0.02)
        finally:
            worker.stop()
            await running
            await state.finish()
            await queue.close()
            await client.aclose()
        return self.sink.items[before:], worker

    async def stored_states(self) -> list[CursorState]:
        """Return the stored states, by resource, seed and parent."""
        client = async_client(self.store_url)
        async with Queue(client, self.plan().name) as queue:
            found = [state async for _, state in cursor_store_of(client, queue).all()]
        await client.aclose()
        return sorted(found, key=lambda state: (state["resource"], str(state["seed"]), state["parent"]))


@dataclass
class Changes:
    """A server of records that change, newest first, `size` per page; it remembers the requests."""

    records: list[dict[str, Any]] = field(default_factory=list)
    size: int = 3
    requested: list[dict[str, str]] = field(default_factory=list)
    broken_page: int = 0

    def change(self, *ids: int, minute: int = 0) -> None:
        """Let these records change in this minute."""
        self.records = [one for one in self.records if one["id"] not in ids]
        for number in ids:
            at = f"2024-05-01T12:{minute:02d}:{number:02d}Z"
            self.records.append({"id": number, "updated_at": at})

    async def respond(self, request: web.Request) -> web.Response:
        """Return a page of what has changed since."""
        self.requested.append(dict(request.query))
        page = int(request.query.get("page", "1"))
        if page == self.broken_page:
            return web.json_response({}, status=400)  # a 404 there would be the end of the pages
        since = request.query.get("since", "")
        found = sorted(
            (one for one in self.records if one["updated_at"] >= since),
            key=lambda one: str(one["updated_at"]),
            reverse=True,
        )
        return web.json_response(found[(page - 1) * self.size : page * self.size])


CHANGES = """
version: 1
name: changes
client: {base_url: URL}
resources:
  - name: changes
    primary_key: id
    endpoint:
      path: changes
      params: {since: "${incremental.start_value}"}
      paginator: {type: page_number, page_param: page}
      incremental: {cursor_path: updated_at, initial_value: 2024-01-01T00:00:00Z, lookback: 10s}
    priority: record.updated_at
"""

BOOKMARK = """
version: 1
name: bookmark
client: {base_url: URL}
resources:
  - name: tickets
    primary_key: id
    endpoint:
      path: tickets
      params:
        start_time: "${if(incremental.token == null, 1735689600, null)}"
        cursor: "${incremental.token}"
      data_selector: tickets
      paginator: {type: cursor, cursor_path: after_cursor, cursor_param: cursor, stop_when: body.end_of_stream}
      incremental: {token_path: after_cursor}
"""
