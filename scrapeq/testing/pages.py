"""
Tests of configurations and hooks, without a network, a store or a sleep:

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
from scrapeq.limits.attribution import rules_of
from scrapeq.page import Page
from scrapeq.plan import Plan
from scrapeq.protocols import CursorState, Item
from scrapeq.resource.seeds import starts_by_itself
from scrapeq.responses.outcome import Outcome, actions_for, decide
from scrapeq.responses.rule_observations import observe_for_rules
from scrapeq.task import NewTask
from scrapeq.testing.clock import FakeClock
from scrapeq.wiring import group_function, with_base_url
from scrapeq.worker.extraction import extractor_of

T = TypeVar("T")
DEMO_URL = "http://demo.invalid"  # what demo:// stands for here
_TYPES = {".jsonl": "application/jsonl", ".ndjson": "application/x-ndjson", ".yaml": "application/yaml"}
_PRIORITY = 0.0


@dataclass(frozen=True, slots=True)
class TaskRequest:
    """A request as its task has it."""

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
    What came of a page.

    Args:
        request: What the page was asked for with.
        outcome: What the answer means; only a `success` is read further.
        items: What would be written, in order.
        follow_ups: What would be asked for, the next page not among it.
        next_page: The next page of the walk.
        skipped: Follow-ups and records that were left out.
        keep: What an incremental walk would keep; None while it goes on.
        events: What a run would say of it.
    """

    request: TaskRequest
    outcome: Outcome
    items: list[Item] = field(default_factory=list)
    follow_ups: list[TaskRequest] = field(default_factory=list)
    next_page: TaskRequest | None = None
    skipped: int = 0
    keep: CursorState | None = None
    events: list[str] = field(default_factory=list)

    def records(self, resource: str = "") -> list[dict[str, Any]]:
        """The items as they are written; of one resource, or of all."""
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
    A page to test with.

    Args:
        url: Where it came from; empty = what the resource asks for.
        body, json, text, file: Its body, one of them; `file` is read, and its name says its type.
        status: HTTP status.
        headers: By name. A Content-Type that fits is there unless it is given.

    Raises:
        UsageError: there is more than one body.
    """
    given = [
        name
        for name, value in (("body", body), ("json", json), ("text", text), ("file", file))
        if value is not None
    ]
    if len(given) > 1:
        raise UsageError(f"page_of: {' and '.join(given)}: give one of them")
    kind = ""
    if file is not None:
        path = Path(file)
        body, kind = path.read_bytes(), _TYPES.get(path.suffix) or mimetypes.guess_type(path.name)[0] or ""
    elif text is not None:
        body = text.encode()
        kind = ("text/html" if text.lstrip().startswith("<") else "text/plain") + "; charset=utf-8"
    elif body is None:
        body, kind = orjson.dumps(json), "application/json"
    fields = dict(headers or {})
    if kind and not any(name.lower() == "content-type" for name in fields):
        fields["Content-Type"] = kind
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
    kept: CursorState | None = None,
    env: Mapping[str, str] | None = None,
    clock: Clock | None = None,
) -> Scraped:
    """
    What a run would make of a page: response actions, hooks, extraction, paginator.

    Args:
        config: The YAML file (hooks are sought beside it and in this folder), or a plan.
        resource: Whose page it is.
        page: The answer; see `page_of`.
        seed: The seed's values; None = the first of the file.
        parent: The parent's record, for a resource that has one.
        priority: The task's.
        number: Which page of its walk it is.
        kept: What an incremental walk has kept before.
        env: Variables for `${env:…}`, beside those of this process.
        clock: For `now`; None = one that stands still.

    Raises:
        ConfigError: the file has mistakes.
        ExtractError: the page would be a dead letter; of a hook it is a HookError, which says file and line.
        UsageError: there is no such resource, or it cannot be asked for.
    """
    if isinstance(config, Plan):
        plan = config
    else:
        plan = configuration.load(config, env={**os.environ, **(env or {})})
    if plan.client.base_url.startswith("demo:"):
        plan = with_base_url(plan, DEMO_URL)
    scraping = _scrape(plan, resource, page, seed, parent, priority, number, kept, clock or FakeClock())
    return _run(scraping)


async def _scrape(
    plan: Plan,
    resource: str,
    page: Page,
    seed: Mapping[str, Any] | None,
    parent: Mapping[str, Any] | None,
    priority: float,
    number: int,
    kept: CursorState | None,
    clock: Clock,
) -> Scraped:
    starts = any(one.name == resource and starts_by_itself(one) for one in plan.resources)
    alone = bool(page.url) and seed is None and parent is None and not starts
    task = await first_page(plan, resource, page.url if alone else "", seed, parent, _Kept(kept))
    payload = {**task.payload, "page": number}
    page = replace(
        page, url=page.url or payload["url"], requested_url=payload["url"], method=payload["method"]
    )
    outcome = _outcome(plan, payload, page, clock)
    scraped = Scraped(_asked(task), outcome)
    if outcome.action != "success":
        return scraped
    skipped, keep, following = 0, None, None
    async for part in extractor_of(plan, group_function(plan), clock=clock).chunks(payload, priority, page):
        scraped.items.extend(part.items)
        scraped.follow_ups.extend(_asked(one) for one in part.follow_ups)
        for start in part.starts:
            started = start.build(None)
            skipped += started is None
            scraped.follow_ups.extend([] if started is None else [_asked(started)])
        scraped.events.extend(part.events)
        skipped += part.skipped
        keep, following = part.cursor_state or keep, part.next_page or following
    return replace(
        scraped,
        skipped=skipped,
        keep=None if keep is None else keep[1],
        next_page=None if following is None else _asked(following),
    )


def _outcome(plan: Plan, payload: Mapping[str, Any], page: Page, clock: Clock) -> Outcome:
    now_s = clock.now_s()
    names = {"seed": payload.get("seed"), "parent": payload.get("parent"), "now": now_s}
    resource, method, url = payload["resource"], payload["method"], payload["url"]
    group = group_function(plan)(resource, method, url, payload.get("seed") or {}, payload.get("parent"))
    observed, rule_observations = observe_for_rules(page, now_s, rules_of(group, plan.rate_limits), names)
    return decide(
        actions_for(plan, resource),
        resource=resource,
        method=method,
        url=url,
        page=page,
        error=None,
        observation=observed,
        refusals_in_a_row=1,
        names=names,
        rule_observations=rule_observations,
    )


def _asked(task: NewTask) -> TaskRequest:
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
class _Kept:
    """`protocols.CursorStore` with one state for all walks."""

    state: CursorState | None

    async def get_many(self, keys: Any) -> list[CursorState | None]:
        return [self.state] * len(keys)

    async def save(self, key: str, state: CursorState) -> None:
        raise AssertionError("a test keeps nothing")


def _run(scraping: Coroutine[Any, Any, T]) -> T:
    """To its end, in an async test too: there in a thread, with a loop of its own."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(scraping)
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(asyncio.run, scraping).result()
