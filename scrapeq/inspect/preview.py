"""
One page as the engine sees it: the visit of a task that is in no queue.

The request is a real one, and counts against the limits of the store, if there is one; what the answer says of them is
told there, as always. Items are not written, follow-ups not pushed, states not kept.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

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
from scrapeq.worker.context import WorkerContext
from scrapeq.worker.extraction import extractor_of
from scrapeq.worker.slots import LeasedTask
from scrapeq.worker.task_run import TaskRun

MASK = "***"
SETS_COOKIES = frozenset({"set-cookie", "set-cookie2"})
FEW = 5  # items and follow-ups that are kept to be shown; of the others only how many
LEASE_S = 60.0
NO_LEASE = Lease("0", "0", 0)
LOOK_S = 0.5  # between looks at a limit that an event opens


@dataclass(frozen=True, slots=True)
class Sent:
    """A request as it left, its credentials masked; `size`: bytes of its body."""

    method: str
    url: str
    headers: tuple[tuple[str, str], ...]
    size: int


@dataclass
class Preview:
    """
    What came of one page.

    Args:
        task: What was asked for.
        counted: Whether a store counted the request.
        sent: The requests: redirects and logins, too.
        page: The answer; None if none came.
        url, headers: Its address and fields as a person may see them: cookies and echoed credentials are masked.
        outcome: What it means; None if it was never judged.
        said: What it told, closed and cost which limits.
        items: How many of each resource; `first_items` the first of them.
        follow_ups: How many tasks of each resource, the next page not among them; `first_follow_ups` the first.
        next_page: The next page's task.
        skipped: Follow-ups or records that were left out.
        events: What a run would say of it.
        error: Why the task would fail, or wait; empty for a success.
    """

    task: NewTask
    counted: bool = False
    sent: list[Sent] = field(default_factory=list)
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
    Ask for one page and say what came of it.

    Args:
        plan: `client.base_url` must be the real address.
        task: What to ask for.
        queue: Whose limits count it; None = nobody counts it.
        states: What incremental walks keep; read only.
        max_wait_s: How long to wait for a closed limit.
        tokens: Where logins are kept; None = in memory.

    Raises:
        RateLimited: a limit is closed for longer.
        UsageError: a hook cannot be loaded.
        StoreError: the store went away.
    """
    group = group_function(plan)
    preview = Preview(task, queue is not None)
    extractor = extractor_of(plan, group)
    lease = NO_LEASE if queue is None else await _granted(queue, plan, task.group, max_wait_s)
    leased = LeasedTask(Task("0", task.payload, task.priority, task.group.name, lease=lease), lease)
    permit = _Permit(queue, preview)
    watch = _Watch(plan, preview)
    egress = Egress(
        plan.client,
        connections=1,
        credentials=pool_credentials(plan),
        tokens=tokens,
        on_send=watch.before_sending,
    )
    watch.hidden = egress.hidden
    context = WorkerContext(
        plan,
        cast(WorkerQueue, permit),
        cast(Egress, _Heard(egress, preview)),
        _Seeing(extractor, preview),
        _NoSink(),
        _ReadOnly(cursor_store),
        group,
        SystemClock(),
    )
    async with egress:
        await _SeenVisit(context, leased, preview).run()
    await permit.settled()
    if preview.page is not None:
        preview.url = egress.hidden(preview.page.url)
        preview.headers = tuple(
            (name, MASK if name.lower() in SETS_COOKIES else egress.hidden(value))
            for name, value in preview.page.headers
        )
    preview.skipped = context.tally.skipped
    said_already = ("dead ", "parked ")
    preview.events += [event for event in context.events if not event.startswith(said_already)]
    if context.fatal is not None:
        preview.error = context.fatal.message
    return preview


async def _granted(queue: WorkerQueue, plan: Plan, group: Group, max_wait_s: float) -> Lease:
    if pools := pools_of(plan):
        await queue.define_pools(pools)
    clock = SystemClock()
    until_s = clock.monotonic_s() + max_wait_s
    while True:
        got = await queue.try_acquire(group)
        if isinstance(got, Lease):
            return got
        left_s = until_s - clock.monotonic_s()
        if left_s <= 0 or (got is not None and got > left_s):
            when = "until an answer opens it" if got is None else f"for another {got:.1f} s"
            what = await _closed(queue, group)
            raise RateLimited(f"{what} is closed {when}; --max-wait waits for it", got or 0.0)
        await asyncio.sleep(min(left_s, LOOK_S if got is None else got))


async def _closed(queue: WorkerQueue, group: Group) -> str:
    """The limits of a group that are closed now, for a person; those of a pool are its members'."""
    names = [name for name in (*group.limits, group.private) if name]
    if any(ANY_TOKEN in name for name in names):
        return "every token's limit"
    closed = [state.name for state in await queue.limit_states(names) if state.opens_s != 0]
    return " and ".join(title_of(name) for name in closed) or "its limit"


class _SeenVisit(TaskRun):
    """A visit that tells what the answer meant."""

    def __init__(self, context: WorkerContext, leased: LeasedTask, preview: Preview) -> None:
        super().__init__(context, leased)
        self._seen = preview

    async def _conclude(
        self,
        group: Group,
        page: Page | None,
        revived: Page | None,
        outcome: Outcome,
        consecutive_refusals: int,
    ) -> None:
        self._seen.outcome = outcome
        self._seen.attribution = self._settlement.attribution
        await super()._conclude(group, page, revived, outcome, consecutive_refusals)


class _Permit:
    """Stands for the queue: a grant that is no task is settled, whatever becomes of the task."""

    def __init__(self, queue: WorkerQueue | None, preview: Preview) -> None:
        self._queue = queue
        self._seen = preview
        self._soon: list[asyncio.Future[Settled]] = []
        self.max_attempts = queue.max_attempts if queue is not None else 1
        self.lease_s = queue.lease_s if queue is not None else LEASE_S

    async def acquire(self, group: Group, *, credential: str = "") -> Lease | None:
        return NO_LEASE if self._queue is None else await self._queue.acquire(group, credential=credential)

    async def try_acquire(self, group: Group, *, credential: str = "") -> Lease | float | None:
        return (
            NO_LEASE if self._queue is None else await self._queue.try_acquire(group, credential=credential)
        )

    def settle_soon(self, entry: Entry) -> asyncio.Future[Settled]:
        future = asyncio.ensure_future(self.settle(entry))
        self._soon.append(future)
        return future

    async def settle(self, entry: Entry) -> Settled:
        for task in entry.push:
            self._push(task)
        if self._queue is not None:
            # what the answer said is told; what becomes of the task is nobody's
            end = ACK if entry.sent == RESPONDED else RELEASE
            verb = OBSERVE if entry.verb == OBSERVE else end
            await self._queue.settle(entry._replace(verb=verb, delay_s=0.0, error="", push=()))
        if entry.error:
            self._seen.error = entry.error
        return Settled("done", [Pushed("pushed")] * len(entry.push))

    def _push(self, task: NewTask) -> None:
        preview = self._seen
        if task is preview.next_page:
            return
        preview.follow_ups[task.payload["resource"]] += 1
        if len(preview.first_follow_ups) < FEW:
            preview.first_follow_ups.append(task)

    async def settled(self) -> None:
        """Until all is told."""
        await asyncio.gather(*self._soon)


class _Heard:
    """The egress, and the answer that it gave last."""

    def __init__(self, egress: Egress, preview: Preview) -> None:
        self._egress = egress
        self._seen = preview

    def __getattr__(self, name: str) -> Any:
        return getattr(self._egress, name)

    async def send(self, *args: Any, **more: Any) -> Page:
        page = await self._egress.send(*args, **more)
        self._seen.page = page
        return page


class _Seeing:
    """`protocols.Extractor` that notes what goes through it."""

    def __init__(self, extractor: Extractor, preview: Preview) -> None:
        self._extractor = extractor
        self._seen = preview

    async def chunks(self, payload: dict[str, Any], priority: float, page: Page) -> AsyncIterator[Extraction]:
        preview = self._seen
        async for part in self._extractor.chunks(payload, priority, page):
            preview.items.update(item.resource for item in part.items)
            preview.first_items += part.items[: FEW - len(preview.first_items)]
            preview.next_page = part.next_page or preview.next_page
            yield replace(part, keep=None)


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


class _ReadOnly:
    def __init__(self, cursor_store: CursorStore | None) -> None:
        self._cursor_store = cursor_store

    async def get_many(self, keys: Sequence[str]) -> list[CursorState | None]:
        return [None] * len(keys) if self._cursor_store is None else await self._cursor_store.get_many(keys)

    async def keep(self, key: str, state: CursorState) -> None:
        pass


class _Watch:
    """Notes each request as it leaves, masked."""

    def __init__(self, plan: Plan, preview: Preview) -> None:
        self._plan = plan
        self._seen = preview
        own = [*(preview.task.payload.get("headers") or {}), *plan.client.headers]
        self.hidden: Callable[[str], str] = str
        self._open = SAFE_FIELDS | {name.lower() for name in own if not SECRET_NAME.search(name)}

    def before_sending(
        self, method: str, url: str, fields: Sequence[tuple[str, str]], body: bytes | None
    ) -> None:
        auth = self._plan.client.auth
        asked = self._seen.task.payload["url"]
        is_first = not self._seen.sent
        for piece in url.partition("?")[2].partition("#")[0].split("&"):
            name = piece.partition("=")[0]
            added = (
                is_first
                and url.partition("?")[0] == asked.partition("?")[0]
                and get_param(asked, name) is None
            )
            if name and (added or name == auth.name):
                url = set_params(url, {name: MASK})
        shown = tuple((name, self.hidden(self._header(name, value))) for name, value in fields)
        self._seen.sent.append(
            Sent(method, self.hidden(url).replace("%2A%2A%2A", MASK), shown, len(body or b""))
        )

    def _header(self, name: str, value: str) -> str:
        if name.lower() in self._open:
            return value
        scheme, space, _ = value.partition(" ")
        return f"{scheme} {MASK}" if name.lower() == "authorization" and space else MASK
