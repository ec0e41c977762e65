"""Extracts items and follow-up tasks from the pages of a plan, in chunks or in short steps."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping
from typing import Any

from scrapeq.clock import Clock, SystemClock
from scrapeq.errors import BrokenBody, ExtractError, UsageError
from scrapeq.extract.compiled_resource import CompiledResource, WarningsGiven, compile_resources
from scrapeq.extract.decode import decode
from scrapeq.extract.extractor import PageReader
from scrapeq.page import Page
from scrapeq.plan import Plan
from scrapeq.protocols import Extraction
from scrapeq.resource import GroupOf, Payload, TaskBuilder, check_payload

Warned = Mapping[str, WarningsGiven]
"""By resource, the warnings that were given."""


class PageExtractor:
    """
    Extracts items and follow-up tasks from pages, as the plan describes (`protocols.Extractor`).

    Args:
        plan: `client.base_url` must be a real URL.
        group_of: Returns the group of limits of a request.
        clock: For `now` in expressions.

    Raises:
        UsageError: a path in the plan is invalid, or there is no such paginator.
    """

    def __init__(self, plan: Plan, group_of: GroupOf, *, clock: Clock | None = None) -> None:
        self._resources = compile_resources(plan)
        self.builder = TaskBuilder(plan, group_of)
        self._max_body_size = plan.client.max_body_size
        self._clock = clock or SystemClock()

    async def chunks(
        self, payload: Mapping[str, Any], priority: float, page: Page
    ) -> AsyncIterator[Extraction]:
        """
        Yield what a page gives: items in its order, follow-ups in the order of their records, the next page last.

        Args:
            payload: The task's payload.
            priority: The task's priority, which follow-ups inherit.
            page: The response.

        Raises:
            BrokenBody: the response is cut off, or an error in place of what the resource describes.
            ExtractError: the response is not what the resource describes.
            UsageError: the payload has another version, or the plan lacks its resource.
        """
        for chunk in self.steps(check_payload(payload), priority, page, self.now_s()):
            if chunk is not None:
                yield chunk

    def steps(
        self, payload: Payload, priority: float, page: Page, now_s: float
    ) -> Iterator[Extraction | None]:
        """Yield the same in steps: None is a pause, PAUSE_S after the last one. The arguments decide the result."""
        compiled = self._compiled(payload)
        try:
            body = decode(page, compiled.endpoint.decoder, self._max_body_size)
        except ExtractError as error:
            if payload.get("page", 1) == 1 or isinstance(error, BrokenBody):
                raise
            raise BrokenBody(str(error)) from None  # the first page could be decoded
        yield None
        yield from PageReader(self.builder, payload, priority, page, body, now_s).chunks(compiled)

    def now_s(self) -> float:
        """Return the time in expressions, Unix seconds."""
        return self._clock.now_s()

    def warned(self) -> Warned:
        """Return what the warnings given so far were about."""
        return {name: one.warnings_given() for name, one in self._resources.items()}

    def restore_warned(self, warned: Warned) -> None:
        """Forget the warnings since `warned` was called: they were not shown."""
        for name, given in warned.items():
            self._resources[name].warned = set(given.topics)

    def add_warned(self, warned: Warned) -> None:
        """Remember warnings that another process gave."""
        for name, given in warned.items():
            self._resources[name].add_warnings(given)

    def _compiled(self, payload: Payload) -> CompiledResource:
        compiled = self._resources.get(payload["resource"])
        if compiled is None or compiled.resource.endpoint is None:
            raise UsageError(
                f"the task is for the resource {payload['resource']!r}, but the plan defines no endpoint for it; "
                "if you renamed it, finish or purge its tasks first"
            )
        return compiled
