"""
One page as the engine sees it: the run of a task that is not in the queue.

The request is real. It counts against the limits of the store, if there is one, and its response is reported to them.
Items are not written, follow-ups not pushed, cursors not stored.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from scrapeq.clock import SystemClock
from scrapeq.config.secret_terms import SECRET_NAME
from scrapeq.errors import RateLimited
from scrapeq.fetch import Egress
from scrapeq.fetch.redirects import SAFE_FIELDS
from scrapeq.inspect.limit_views import title_of
from scrapeq.limits.attribution import NO_ATTRIBUTION, Attribution
from scrapeq.limits.partition import ANY_TOKEN
from scrapeq.page import Page
from scrapeq.plan import Plan
from scrapeq.protocols import CursorState, CursorStore, Extraction, Extractor, Item
from scrapeq.queue import Entry, Settled
from scrapeq.queue.commands import ACK, OBSERVE, RELEASE, RESPONDED
from scrapeq.queue.replies import Pushed
from scrapeq.queue.worker_queue import WorkerQueue
from scrapeq.resource.address import get_param, set_params
from scrapeq.responses.outcome import Outcome
from scrapeq.task import Group, Lease, NewTask, Task
from scrapeq.wiring import group_function, pool_credentials, pools_of
from scrapeq.worker.context import LeasedTask, WorkerContext
from scrapeq.worker.extraction import extractor_of
from scrapeq.worker.task_run import TaskRun

MASK = "***"
COOKIE_HEADERS = frozenset({"set-cookie", "set-cookie2"})
SAMPLE_SIZE = 5  # items and follow-ups that are listed; the others are only counted
LEASE_S = 60.0
NO_LEASE = Lease("0", "0", 0)
RETRY_S = 0.5  # between attempts at a limit that only a response to another request can open
REPORTED_ELSEWHERE = ("dead ", "parked ")  # events that repeat `Preview.error`


@dataclass(frozen=True, slots=True)
class SentRequest:
    """A request as it left, its credentials masked; `size`: bytes of its body."""

    method: str
    url: str
    headers: tuple[tuple[str, str], ...]
    size: int


@dataclass
class Preview:
    """
    What one page gives.

    Args:
        task: The task that was run.
        counted: Whether a store counted the request.
        sent: The requests, including redirects and logins.
        page: The response; None if there was none.
        url, headers: Its address and headers as a user may see them: cookies and echoed credentials are masked.
        outcome: What it means; None if it was not judged.
        attribution: What it did to which limits.
        items: The number of items of each resource; `first_items` are the first of them.
        follow_ups: The number of follow-ups of each resource without the next page; `first_follow_ups` the first.
        next_page: The task of the next page.
        skipped: Follow-ups or records that were left out.
        events: What a run would report.
        error: Why the task would fail or wait; "" for a success.
    """

    task: NewTask
    counted: bool = False
    sent: list[SentRequest] = field(default_factory=list)
    page: Page | None = None
    url: str = ""
    headers: tuple[tuple[str, str], ...] = ()
    outcome: Outcome | None = None
    attribution: Attribution = NO_ATTRIBUTION
    items: Counter[str] = field(default_factory=Counter)
    first_items: list[Item] = field(default_factory=list)
    follow_ups: Counter[str] = field(default_factory=Counter)
    first_follow_ups: list[NewTask] = field(default_factory=list)
    next_page: NewTask | None = None
    skipped: int = 0
    events: list[str] = field(default_factory=list)
    error: str = ""


async def preview_page(
    plan: Plan,
    task: NewTask,
    *,
    queue: WorkerQueue | None = None,
    cursor_store: CursorStore | None = None,
    max_wait_s: float = 0.0,
    tokens: Path | None = None,
) -> Preview:
    """
    Request one page, and return what it gives.

    Args:
        plan: `client.base_url` must be the real address.
        task: The task to run.
        queue: The queue whose limits count the request; None = it is not counted.
        cursor_store: Cursors of incremental resources; read only.
        max_wait_s: How long to wait for a closed limit.
        tokens: The file with the tokens of logins; None = in memory.

    Raises:
        RateLimited: a limit stays closed for longer.
        UsageError: a hook cannot be loaded.
        StoreError: the store cannot be reached.
    """
    group_of = group_function(plan)
    preview = Preview(task, queue is not None)
    extractor = extractor_of(plan, group_of)
    lease = NO_LEASE if queue is None else await _acquire(queue, plan, task.group, max_wait_s)
    leased = LeasedTask(Task("0", task.payload, task.priority, task.group.name, lease=lease), lease)
    preview_queue = _PreviewQueue(queue, preview)
    recorder = _RequestRecorder(plan, preview)
    egress = Egress(
        plan.client,
        connections=1,
        credentials=pool_credentials(plan),
        tokens=tokens,
        on_send=recorder.before_sending,
    )
    recorder.redact = egress.redact
    context = WorkerContext(
        plan,
        preview_queue,
        egress,
        _PreviewExtractor(extractor, preview),
        _NoSink(),
        _ReadOnlyCursors(cursor_store),
        group_of,
        SystemClock(),
    )
    run = TaskRun(context, leased)
    async with egress:
        await run.run()
    await preview_queue.flush()
    if run.judgement is not None:
        preview.outcome, preview.attribution = run.judgement
    if run.page is not None:
        preview.page, preview.url = run.page, egress.redact(run.page.url)
        preview.headers = tuple(
            (name, MASK if name.lower() in COOKIE_HEADERS else egress.redact(value))
            for name, value in run.page.headers
        )
    preview.skipped = context.tally.skipped
    preview.events += [event for event in context.events if not event.startswith(REPORTED_ELSEWHERE)]
    if context.fatal is not None:
        preview.error = context.fatal.message
    return preview


async def _acquire(queue: WorkerQueue, plan: Plan, group: Group, max_wait_s: float) -> Lease:
    if pools := pools_of(plan):
        await queue.define_pools(pools)
    clock = SystemClock()
    deadline_s = clock.monotonic_s() + max_wait_s
    while True:
        granted = await queue.try_acquire(group)
        if isinstance(granted, Lease):
            return granted
        left_s = deadline_s - clock.monotonic_s()
        if left_s <= 0 or (granted is not None and granted > left_s):
            when = "until a response opens it" if granted is None else f"for another {granted:.1f} s"
            name = await _closed_limit(queue, group)
            raise RateLimited(f"{name} is closed {when}; --max-wait waits for it", granted or 0.0)
        await asyncio.sleep(min(left_s, RETRY_S if granted is None else granted))


async def _closed_limit(queue: WorkerQueue, group: Group) -> str:
    """Name the closed limits of a group, for a message."""
    names = [name for name in (*group.limits, group.private) if name]
    if any(ANY_TOKEN in name for name in names):
        return "the limit of every token"
    closed = [state.name for state in await queue.limit_states(names) if state.opens_s != 0]
    return " and ".join(title_of(name) for name in closed) or "its limit"


class _PreviewQueue:
    """A `TaskQueue` that settles grants and records what a run would push."""

    def __init__(self, queue: WorkerQueue | None, preview: Preview) -> None:
        self._queue = queue
        self._preview = preview
        self._pending: list[asyncio.Future[Settled]] = []
        self.max_attempts = queue.max_attempts if queue is not None else 1
        self.lease_s = queue.lease_s if queue is not None else LEASE_S

    async def acquire(self, group: Group, *, credential: str = "") -> Lease | None:
        return NO_LEASE if self._queue is None else await self._queue.acquire(group, credential=credential)

    async def try_acquire(self, group: Group, *, credential: str = "") -> Lease | float | None:
        if self._queue is None:
            return NO_LEASE
        return await self._queue.try_acquire(group, credential=credential)

    def settle_soon(self, entry: Entry) -> asyncio.Future[Settled]:
        future = asyncio.ensure_future(self.settle(entry))
        self._pending.append(future)
        return future

    async def settle(self, entry: Entry) -> Settled:
        for task in entry.push:
            self._record(task)
        if self._queue is not None:
            # the limits observe the response; the task itself exists in no queue
            end = ACK if entry.sent == RESPONDED else RELEASE
            verb = OBSERVE if entry.verb == OBSERVE else end
            await self._queue.settle(entry._replace(verb=verb, delay_s=0.0, error="", push=()))
        if entry.error:
            self._preview.error = entry.error
        return Settled("done", [Pushed("pushed")] * len(entry.push))

    def _record(self, task: NewTask) -> None:
        preview = self._preview
        if task is preview.next_page:
            return
        preview.follow_ups[task.payload["resource"]] += 1
        if len(preview.first_follow_ups) < SAMPLE_SIZE:
            preview.first_follow_ups.append(task)

    async def flush(self) -> None:
        """Wait until every grant is settled."""
        await asyncio.gather(*self._pending)


class _PreviewExtractor:
    """An `Extractor` that records what it extracts."""

    def __init__(self, extractor: Extractor, preview: Preview) -> None:
        self._extractor = extractor
        self._preview = preview

    async def chunks(
        self, payload: Mapping[str, Any], priority: float, page: Page
    ) -> AsyncIterator[Extraction]:
        preview = self._preview
        async for part in self._extractor.chunks(payload, priority, page):
            preview.items.update(item.resource for item in part.items)
            preview.first_items += part.items[: SAMPLE_SIZE - len(preview.first_items)]
            preview.next_page = part.next_page or preview.next_page
            yield replace(part, cursor_state=None)


class _NoSink:
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
        return len(items)


class _ReadOnlyCursors:
    def __init__(self, cursor_store: CursorStore | None) -> None:
        self._cursor_store = cursor_store

    async def get_many(self, keys: Sequence[str]) -> list[CursorState | None]:
        return [None] * len(keys) if self._cursor_store is None else await self._cursor_store.get_many(keys)

    async def save(self, key: str, state: CursorState) -> None:
        pass

    async def add_incomplete(
        self, sequence: str, resource: str, reason: str, *, is_dead: bool = False
    ) -> None:
        pass

    async def remove_incomplete(self, sequence: str) -> None:
        pass


class _RequestRecorder:
    """Records each request as it leaves, masked."""

    def __init__(self, plan: Plan, preview: Preview) -> None:
        self._plan = plan
        self._preview = preview
        own = [*(preview.task.payload.get("headers") or {}), *plan.client.headers]
        self.redact: Callable[[str], str] = str
        self._open = SAFE_FIELDS | {name.lower() for name in own if not SECRET_NAME.search(name)}

    def before_sending(
        self, method: str, url: str, fields: Sequence[tuple[str, str]], body: bytes | None
    ) -> None:
        auth = self._plan.client.auth
        requested = self._preview.task.payload["url"]
        is_first = not self._preview.sent
        for piece in url.partition("?")[2].partition("#")[0].split("&"):
            name = piece.partition("=")[0]
            was_added = (
                is_first
                and url.partition("?")[0] == requested.partition("?")[0]
                and get_param(requested, name) is None
            )
            if name and (was_added or name == auth.name):
                url = set_params(url, {name: MASK})
        headers = tuple((name, self.redact(self._header(name, value))) for name, value in fields)
        self._preview.sent.append(
            SentRequest(method, self.redact(url).replace("%2A%2A%2A", MASK), headers, len(body or b""))
        )

    def _header(self, name: str, value: str) -> str:
        if name.lower() in self._open:
            return value
        scheme, space, _ = value.partition(" ")
        return f"{scheme} {MASK}" if name.lower() == "authorization" and space else MASK
