"""
Test configurations and hooks without a network, a store or a sleep:

    from scrapeq.testing import page_of, scrape_page

    def test_posts() -> None:
        scraped = scrape_page("blog.yaml", "posts", page_of(json={"posts": [{"id": 1, "title": " a "}]}))
        assert scraped.records() == [{"id": 1, "title": "a"}]
        assert [one.url for one in scraped.follow_ups] == ["https://blog.example/posts/1/comments"]
"""

from __future__ import annotations

import asyncio
import mimetypes
import os
from collections.abc import Coroutine, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

import orjson

from scrapeq import config as configuration
from scrapeq.clock import Clock
from scrapeq.errors import UsageError
from scrapeq.inspect.preview_task import first_page
from scrapeq.limits.judge import Exchange, Judge
from scrapeq.page import Page
from scrapeq.plan import Plan
from scrapeq.protocols import CursorState, Item
from scrapeq.resource.seeds import starts_by_itself
from scrapeq.responses.outcome import Outcome, actions_for
from scrapeq.task import NewTask
from scrapeq.testing.clock import FakeClock
from scrapeq.wiring import group_function, with_base_url
from scrapeq.worker.extraction import extractor_of

T = TypeVar("T")
DEMO_URL = "http://demo.invalid"  # the address of demo:// in tests
_TYPES = {".jsonl": "application/jsonl", ".ndjson": "application/x-ndjson", ".yaml": "application/yaml"}
_PRIORITY = 0.0


@dataclass(frozen=True, slots=True)
class TaskRequest:
    """The request of a task."""

    resource: str
    url: str
    method: str
    priority: float
    headers: Mapping[str, str]
    body: str | None
    seed: Mapping[str, Any]
    parent: Any
    page: int


@dataclass(frozen=True, slots=True)
class Scraped:
    """
    What a page gives.

    Args:
        request: The request of the page.
        outcome: What the response means; only a `success` is read further.
        items: Items that would be written, in order.
        follow_ups: Requests that would be pushed, except that of the next page.
        next_page: The request of the next page.
        skipped: The number of follow-ups and records that were left out.
        cursor_state: What an incremental resource would store at this page; None while more pages follow.
        incomplete: Why the page sequence ends at this page without being complete; empty if it does not.
        events: What a run would report.
    """

    request: TaskRequest
    outcome: Outcome
    items: list[Item] = field(default_factory=list)
    follow_ups: list[TaskRequest] = field(default_factory=list)
    next_page: TaskRequest | None = None
    skipped: int = 0
    cursor_state: CursorState | None = None
    incomplete: str = ""
    events: list[str] = field(default_factory=list)

    def records(self, resource: str = "") -> list[dict[str, Any]]:
        """Return the items as they are written, of one resource or of all."""
        return [item.record for item in self.items if resource in ("", item.resource)]


def page_of(
    url: str = "",
    *,
    body: bytes | None = None,
    json: Any = None,
    text: str | None = None,
    file: str | Path | None = None,
    status: int = 200,
    headers: Mapping[str, str] | None = None,
) -> Page:
    """
    Build a page to test with.

        page_of(json={"items": []}, headers={"X-RateLimit-Remaining": "0"})

    Args:
        url: Its address; "" = that of the resource's request.
        body, json, text, file: Its body, one of them. `file` is read, and its name gives its type.
        status: HTTP status.
        headers: By name. A fitting Content-Type is added unless one is given.

    Raises:
        UsageError: more than one body is given.
    """
    bodies = [
        name
        for name, value in (("body", body), ("json", json), ("text", text), ("file", file))
        if value is not None
    ]
    if len(bodies) > 1:
        raise UsageError(f"page_of: got {' and '.join(bodies)}; give one of them")
    content_type = ""
    if file is not None:
        path = Path(file)
        body, content_type = (
            path.read_bytes(),
            _TYPES.get(path.suffix) or mimetypes.guess_type(path.name)[0] or "",
        )
    elif text is not None:
        body = text.encode()
        content_type = ("text/html" if text.lstrip().startswith("<") else "text/plain") + "; charset=utf-8"
    elif body is None:
        body, content_type = orjson.dumps(json), "application/json"
    fields = dict(headers or {})
    if content_type and not any(name.lower() == "content-type" for name in fields):
        fields["Content-Type"] = content_type
    return Page(url, status, tuple(fields.items()), body)


def scrape_page(
    config: str | Path | Plan,
    resource: str,
    page: Page,
    *,
    seed: Mapping[str, Any] | None = None,
    parent: Mapping[str, Any] | None = None,
    priority: float = _PRIORITY,
    number: int = 1,
    cursor_state: CursorState | None = None,
    env: Mapping[str, str] | None = None,
    clock: Clock | None = None,
) -> Scraped:
    """
    Return what a run would make of a page: response actions, hooks, extraction and paginator.

    Args:
        config: The YAML file (hooks are searched beside it and in the current folder), or a plan.
        resource: The resource of the page.
        page: The response; see `page_of`.
        seed: The seed's values; None = the first seed of the file.
        parent: The parent's record, for a resource that has a parent.
        priority: The priority of the task.
        number: The number of the page in its sequence, from 1.
        cursor_state: What an incremental resource stored before.
        env: Variables for `${env:…}`, added to those of this process.
        clock: For `now`; None = a clock that stands still.

    Raises:
        ConfigError: the file has mistakes.
        ExtractError: the page would become a dead letter; for a hook it is a HookError with file and line.
        UsageError: the resource does not exist, or cannot be requested this way.
    """
    if isinstance(config, Plan):
        plan = config
    else:
        plan = configuration.load(config, env={**os.environ, **(env or {})})
    if plan.client.base_url.startswith("demo:"):
        plan = with_base_url(plan, DEMO_URL)
    scraping = _scrape(
        plan, resource, page, seed, parent, priority, number, cursor_state, clock or FakeClock()
    )
    return _run(scraping)


async def _scrape(
    plan: Plan,
    resource: str,
    page: Page,
    seed: Mapping[str, Any] | None,
    parent: Mapping[str, Any] | None,
    priority: float,
    number: int,
    cursor_state: CursorState | None,
    clock: Clock,
) -> Scraped:
    starts_alone = any(one.name == resource and starts_by_itself(one) for one in plan.resources)
    by_url = bool(page.url) and seed is None and parent is None and not starts_alone
    task = await first_page(plan, resource, page.url if by_url else "", seed, parent, _OneState(cursor_state))
    payload = {**task.payload, "page": number}
    page = replace(
        page, url=page.url or payload["url"], requested_url=payload["url"], method=payload["method"]
    )
    outcome = _outcome(plan, payload, page, clock)
    page = replace(page, is_accepted=outcome.is_declared)
    scraped = Scraped(_request_of(task), outcome)
    if outcome.action != "success":
        return scraped
    skipped, stored, following, incomplete = 0, None, None, ""
    async for part in extractor_of(plan, group_function(plan), clock=clock).chunks(payload, priority, page):
        scraped.items.extend(part.items)
        scraped.follow_ups.extend(_request_of(one) for one in part.follow_ups)
        for start in part.starts:
            started = start.build(None)
            skipped += started is None
            scraped.follow_ups.extend([] if started is None else [_request_of(started)])
        scraped.events.extend(part.events)
        skipped += part.skipped
        stored, following = part.cursor_state or stored, part.next_page or following
        incomplete = part.incomplete or incomplete
    return replace(
        scraped,
        skipped=skipped,
        cursor_state=None if stored is None else stored[1],
        next_page=None if following is None else _request_of(following),
        incomplete=incomplete,
    )


def _outcome(plan: Plan, payload: Mapping[str, Any], page: Page, clock: Clock) -> Outcome:
    now_s = clock.now_s()
    resource, method, url = payload["resource"], payload["method"], payload["url"]
    group = group_function(plan)(resource, method, url, payload.get("seed") or {}, payload.get("parent"))
    exchange = Exchange(
        group,
        clock.monotonic_s(),
        clock.monotonic_s(),
        now_s,
        resource=resource,
        method=method,
        url=url,
        page=page,
        names={"seed": payload.get("seed"), "parent": payload.get("parent"), "now": now_s},
        actions=actions_for(plan, resource),
    )
    return Judge(plan.rate_limits).judge(exchange).outcome


def _request_of(task: NewTask) -> TaskRequest:
    payload = task.payload
    return TaskRequest(
        resource=payload["resource"],
        url=payload["url"],
        method=payload.get("method", "GET"),
        priority=task.priority,
        headers=payload.get("headers") or {},
        body=payload.get("body"),
        seed=payload.get("seed") or {},
        parent=payload.get("parent"),
        page=payload.get("page", 1),
    )


@dataclass(frozen=True, slots=True)
class _OneState:
    """A `CursorStore` with the same state for every key."""

    state: CursorState | None

    async def get_many(self, keys: Any) -> list[CursorState | None]:
        return [self.state] * len(keys)

    async def save(self, key: str, state: CursorState) -> None:
        raise AssertionError("a test stores nothing")

    async def add_incomplete(
        self, sequence: str, resource: str, reason: str, *, is_dead: bool = False
    ) -> None:
        raise AssertionError("a test stores nothing")

    async def remove_incomplete(self, sequence: str) -> None:
        raise AssertionError("a test stores nothing")


def _run(scraping: Coroutine[Any, Any, T]) -> T:
    """Run to the end; inside a running event loop in a thread with its own loop."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(scraping)
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(asyncio.run, scraping).result()
