"""Pages to items and follow-ups, by the plan and by the functions that it names."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import aclosing
from dataclasses import replace
from typing import Any

from scrapeq.clock import Clock
from scrapeq.errors import HookError
from scrapeq.extract import PageExtractor
from scrapeq.extract.handler_results import HandlerResults
from scrapeq.hooks import Context
from scrapeq.page import Page
from scrapeq.plan import Plan
from scrapeq.protocols import Extraction, Extractor, Item
from scrapeq.resource import GroupOf, Payload, check_payload
from scrapeq.worker.hook_calls import Hook, hooks_of

PART_SIZE = 500
"""Results of a handler in one part: it is written before the handler goes on."""

HELD_MOST_S = 1.0
"""A function that is not async and takes longer at once is worth a line."""


def extractor_of(plan: Plan, group_of: GroupOf, *, clock: Clock | None = None) -> Extractor:
    """
    The extractor of a plan.

    Args:
        plan: `client.base_url` must be the real address.
        group_of: Says which limits a follow-up belongs to.
        clock: For `now` in expressions.

    Raises:
        UsageError: a path in the plan is none, or a hook cannot be loaded.
    """
    declared = PageExtractor(plan, group_of, clock=clock)
    hooks = hooks_of(plan)
    if not hooks:
        return declared
    return HookedExtractor(declared, HandlerResults(plan, group_of, clock=clock), hooks)


def context_of(payload: Payload, priority: float, page: Page) -> Context:
    """What hooks are told of a page."""
    return Context(
        resource=payload["resource"],
        seed=payload.get("seed") or {},
        parent=payload.get("parent"),
        resources=payload.get("parents") or {},
        depth=payload.get("depth", 0),
        page=payload.get("page", 1),
        url=page.url or payload["url"],
        priority=priority,
    )


class HookedExtractor:
    """
    `protocols.Extractor` with hooks around it.

    Args:
        declared: Extracts what no handler does.
        given: Makes items and follow-ups of what handlers give.
        hooks: By resource, then by key.
    """

    def __init__(
        self, declared: Extractor, given: HandlerResults, hooks: Mapping[str, Mapping[str, Hook]]
    ) -> None:
        self._declared = declared
        self._handler_results = given
        self._hooks = hooks
        self._told: set[str] = set()
        self._on_item = {name: own["on_item"] for name, own in hooks.items() if "on_item" in own}

    async def chunks(
        self, payload: Mapping[str, Any], priority: float, page: Page
    ) -> AsyncIterator[Extraction]:
        """See `protocols.Extractor`."""
        payload = check_payload(payload)
        hooks = self._hooks.get(payload["resource"], {})
        context = context_of(payload, priority, page)
        if on_page := hooks.get("on_page"):
            page = await _page_of(on_page, page, context)
        handler = hooks.get("handler")
        parts = (
            self._handled(handler, payload, priority, page, context)
            if handler
            else self._declared.chunks(payload, priority, page)
        )
        async with aclosing(parts):  # type: ignore[type-var]
            async for part in parts:
                if part.items and self._on_item:
                    part.items = [item async for item in self._seen(part.items, context)]
                part.events += self._slow()
                yield part

    def _slow(self) -> list[str]:
        """Hooks that held up all requests of this process, each told once."""
        slow = [one for own in self._hooks.values() for one in own.values() if one.held_s > HELD_MOST_S]
        reported = [one for one in slow if one.name not in self._told]
        self._told |= {one.name for one in reported}
        return [
            f"slow   {one.name} held up all requests of its process for {one.held_s:.1f} s; "
            "asyncio.to_thread does not"
            for one in reported
        ]

    async def _handled(
        self, handler: Hook, payload: Payload, priority: float, page: Page, context: Context
    ) -> AsyncIterator[Extraction]:
        collected = self._handler_results.of(payload, priority, page)
        async with aclosing(handler.results(page, context, url=context.url)) as results:  # type: ignore[type-var]
            async for result in results:
                with handler.named(url=context.url):
                    collected.add(result)
                if collected.size >= PART_SIZE:
                    yield collected.take()
        with handler.named(url=context.url):
            parts = collected.end()
        for part in parts:
            yield part

    async def _seen(self, items: list[Item], context: Context) -> AsyncIterator[Item]:
        """The items as `on_item` leaves them."""
        for item in items:
            hook = self._on_item.get(item.resource)
            if hook is None:
                yield item
                continue
            own = context if context.resource == item.resource else replace(context, resource=item.resource)
            # a copy: what the function changes in it must not change what follows from the record
            record = await hook.call(dict(item.record), own, url=context.url)
            if record is not None:
                with hook.named(url=context.url):
                    changed = self._handler_results.changed(item, record)
                yield changed


async def _page_of(hook: Hook, page: Page, context: Context) -> Page:
    found = await hook.call(page, context, url=context.url)
    if found is None:
        return page
    if not isinstance(found, Page):
        raise HookError(f"{hook.name}: gave a {type(found).__name__}, no Page and not None ({hook.begin})")
    return found
