"""Extract items and follow-ups from pages: as the plan declares, and with its hooks."""

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
from scrapeq.worker.off_loop import OffLoopExtractor

PART_SIZE = 500
"""Results of a handler in one part, which is written before the handler continues."""

SLOW_CALL_S = 1.0
"""A plain function that blocks the event loop for longer is reported."""


def extractor_of(
    plan: Plan, group_of: GroupOf, *, clock: Clock | None = None, off_loop: bool = False
) -> Extractor:
    """
    Return the extractor of a plan.

    Args:
        plan: `client.base_url` must be the real address.
        group_of: Maps a request to its limits.
        clock: For `now` in expressions.
        off_loop: Whether pages that cost much are read in a process of their own; for fetchers only.

    Raises:
        UsageError: a path in the plan is invalid, or a hook cannot be loaded.
    """
    extractor = PageExtractor(plan, group_of, clock=clock)
    declared: Extractor = OffLoopExtractor(extractor, plan) if off_loop else extractor
    hooks = hooks_of(plan)
    if not hooks:
        return declared
    return HookedExtractor(declared, HandlerResults(plan, group_of, clock=clock), hooks)


def context_of(payload: Payload, priority: float, page: Page) -> Context:
    """Return the context that hooks receive with a page."""
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
    An `Extractor` with hooks around it.

    Args:
        declared: Extracts pages without a handler.
        handler_results: Turns the results of handlers into items and follow-ups.
        hooks: By resource, then by key.
    """

    def __init__(
        self, declared: Extractor, handler_results: HandlerResults, hooks: Mapping[str, Mapping[str, Hook]]
    ) -> None:
        self._declared = declared
        self._handler_results = handler_results
        self._hooks = hooks
        self._reported: set[str] = set()
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
                    part.items = [item async for item in self._with_on_item(part.items, context)]
                part.events += self._slow()
                yield part

    def _slow(self) -> list[str]:
        """Report the hooks that blocked all requests of this process, each once."""
        slow = [
            one for own in self._hooks.values() for one in own.values() if one.longest_call_s > SLOW_CALL_S
        ]
        new = [one for one in slow if one.name not in self._reported]
        self._reported |= {one.name for one in new}
        return [
            f"slow   {one.name} blocked all requests of its process for {one.longest_call_s:.1f} s; "
            "use asyncio.to_thread for long work"
            for one in new
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

    async def _with_on_item(self, items: list[Item], context: Context) -> AsyncIterator[Item]:
        """Yield the items as `on_item` returns them."""
        for item in items:
            hook = self._on_item.get(item.resource)
            if hook is None:
                yield item
                continue
            own = context if context.resource == item.resource else replace(context, resource=item.resource)
            # a copy: changes by the hook must not change the follow-ups of the record
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
        raise HookError(
            f"{hook.name}: returned a {type(found).__name__}; expected a Page or None ({hook.definition})"
        )
    return found
