"""A page in, items and follow-ups out, in parts."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from typing import Any

from scrapeq.clock import Clock, SystemClock
from scrapeq.errors import ExtractError, UsageError
from scrapeq.expression import as_number
from scrapeq.expression.scope import response_scope
from scrapeq.extract.compiled_resource import CompiledResource, Edge, compile_resources
from scrapeq.extract.config_warnings import lost_address, lost_key, lost_records
from scrapeq.extract.decode import Body, decode
from scrapeq.extract.pagination import Build, Onward
from scrapeq.extract.paginators import FetchedPage
from scrapeq.extract.selector import Path, unwrapped
from scrapeq.page import Page
from scrapeq.plan import Plan
from scrapeq.protocols import Change, Extraction, IncrementalStart, Item
from scrapeq.resource import GroupOf, Payload, TaskBuilder, check_payload
from scrapeq.resource.incremental import Part, kept_state, next_window, scope_of, with_cursor, with_token
from scrapeq.task import NewTask

MAX_NESTED = 1000
"""Resources without an endpoint inside one another, on one page; more is a circle in the plan."""

PART_SIZE = 1000
"""Items and follow-ups that a part holds at most."""


@dataclass(slots=True)  # not frozen: one is made for each record that has others inside
class Batch:
    """Records of one kind, with what lies above them."""

    kind: CompiledResource
    records: Iterator[Any]
    parent: Any
    parent_name: str | None
    ancestors: Mapping[str, Any]
    inherited: float


class PageExtractor:
    """
    Turns pages into items and follow-ups, by the plan.

    Args:
        plan: `client.base_url` must be the real address.
        group_of: Says which limits a follow-up belongs to.
        clock: For `now` in expressions.

    Raises:
        UsageError: a path in the plan is none, or there is no such paginator.
    """

    def __init__(self, plan: Plan, group_of: GroupOf, *, clock: Clock | None = None) -> None:
        self._kinds = compile_resources(plan)
        self._builder = TaskBuilder(plan, group_of)
        self._max_body_size = plan.client.max_body_size
        self._clock = clock or SystemClock()

    def extract(self, payload: dict[str, Any], priority: float, page: Page) -> Extraction:
        """
        Everything of a page: items in its order, follow-ups in the order of their records, the next page last.

        Args:
            payload: The task's.
            priority: The task's, which follow-ups without a priority of their own inherit.
            page: Its answer.

        Raises:
            ExtractError: the answer is not what the resource says.
            UsageError: the payload is of another version, or of a resource that the plan lacks.
        """
        whole = Extraction()
        for part in self._parts(payload, priority, page):
            whole.items += part.items
            whole.follow_ups += [*part.follow_ups, *([part.next_page] if part.next_page else [])]
            whole.skipped += part.skipped
            whole.starts += part.starts
            whole.keep = part.keep
            whole.events += part.events
        return whole

    async def chunks(self, payload: dict[str, Any], priority: float, page: Page) -> AsyncIterator[Extraction]:
        """The same in parts; see `protocols.Extractor`."""
        for part in self._parts(payload, priority, page):
            yield part

    def _parts(self, payload: dict[str, Any], priority: float, page: Page) -> Iterator[Extraction]:
        kind = self._kind(check_payload(payload))
        body = decode(page, kind.endpoint.decoder, self._max_body_size)
        yield from PagePagination(self._builder, payload, priority, page, body, self._clock.now_s()).parts(
            kind
        )

    def _kind(self, payload: Payload) -> CompiledResource:
        kind = self._kinds.get(payload["resource"])
        if kind is None or kind.resource.endpoint is None:
            raise UsageError(
                f"the task is for {payload['resource']!r}, and no resource with an endpoint has that name; "
                "if it was renamed, finish or purge the old tasks first"
            )
        return kind


class PagePagination:
    """One page on its way through the plan."""

    def __init__(
        self, builder: TaskBuilder, payload: Payload, priority: float, page: Page, body: Body, now_s: float
    ) -> None:
        self._builder = builder
        self._payload = payload
        self._priority = priority
        self._page = page
        self._decoded = body
        self._body: Any = None
        self._records: list[Any] | None = None
        self._now_s = now_s
        self._seed = payload.get("seed") or {}
        self._depth = payload.get("depth", 0)
        self._part = Extraction()
        self._incremental: Part | None = payload.get("incremental")
        self._dropped: dict[str, int] = {}
        self._count, self._last = 0, None

    def parts(self, kind: CompiledResource) -> Iterator[Extraction]:
        """All of it; the next page stands in the last part."""
        parents = self._payload.get("parents") or {}
        parent, parent_name = self._payload.get("parent"), self._payload.get("parent_resource")
        stack = [
            Batch(
                kind, self._own(self._read(kind), kind.cursor), parent, parent_name, parents, self._priority
            )
        ]
        while stack:
            batch = stack[-1]
            record = next(batch.records, None)
            if record is None:
                stack.pop()
                continue
            if len(stack) > MAX_NESTED:
                raise ExtractError(f"{batch.kind.name} is nested in itself more than {MAX_NESTED} times")
            for follow_up in self._record(batch, record, stack):
                if isinstance(follow_up, IncrementalStart):
                    self._part.starts.append(follow_up)
                else:
                    self._part.follow_ups.append(follow_up)
                if len(self._part.follow_ups) + len(self._part.starts) >= PART_SIZE:
                    yield self._flushed()
            if len(self._part.items) + len(self._part.follow_ups) >= PART_SIZE:
                yield self._flushed()
        yield from self._end(kind, parent, parents)

    def _end(self, kind: CompiledResource, parent: Any, parents: Mapping[str, Any]) -> Iterator[Extraction]:
        """What follows the page, and the last part."""
        yield from self._onward(kind, parent, parents)
        self._doubt(kind)
        for name, count in self._dropped.items():
            self._part.skipped += count
            self._part.events.append(f"dropped {count} of {name}: a required field is null")
        yield self._part

    def _doubt(self, kind: CompiledResource) -> None:
        """What the file says that does not hold of the first answers."""
        if kind.found or self._count:
            kind.found = True
        elif self._records is not None and not self._decoded.is_text and kind.config_warnings("records"):
            told = lost_records(kind.endpoint.data_selector, self._body)
            if told is not None:
                self._part.events.append(f"check  {kind.name}: {told}")

    def _flushed(self) -> Extraction:
        part, self._part = self._part, Extraction()
        return part

    def _read(self, kind: CompiledResource) -> Iterable[Any]:
        """The page's records: rows one by one where nothing asks for all of them."""
        body = self._decoded
        if body.rows is not None and kind.streams:
            return body.rows()
        self._body = body.whole()
        if body.is_text:
            self._records = [{"text": self._body}] if self._body else []
        else:
            self._records = kind.records(unwrapped(self._body) if self._is_plain_tree(kind) else self._body)
        return self._records

    def _is_plain_tree(self, kind: CompiledResource) -> bool:
        return self._decoded.is_tree and not kind.endpoint.data_selector

    def _own(self, records: Iterable[Any], cursor: Path | None) -> Iterator[Any]:
        """The records that are some, counted."""
        for record in records:
            self._count += 1
            if record is not None:
                self._last = record
                if cursor is not None and self._incremental is not None:  # seen, whatever a filter says
                    self._incremental = with_cursor(self._incremental, cursor(record))
                yield record

    def _scope(
        self, name: str, record: Any, parent: Any, ancestors: Mapping[str, Any], depth: int, page: int = 0
    ) -> Any:
        return response_scope(
            self._page,
            body=self._body,
            records=self._records,
            record=record,
            parent=parent,
            resources=ancestors,
            seed=self._seed,
            depth=depth,
            page=page or self._payload.get("page", 1),
            resource=name,
            now=self._now_s,
            incremental=scope_of(self._payload.get("incremental")),
        )

    def _record(self, batch: Batch, record: Any, stack: list[Batch]) -> Iterable[NewTask | IncrementalStart]:
        """Its item into the part, what lies inside it onto the stack; gives the requests that follow from it."""
        kind = batch.kind
        resource = kind.resource
        ancestors = {**batch.ancestors, kind.name: record} if kind.edges else batch.ancestors
        scope = (
            self._scope(kind.name, record, batch.parent, ancestors, self._depth) if kind.reads_scope else {}
        )
        if resource.record_filter is not None and not resource.record_filter.evaluate(scope):
            return ()
        written = None
        if resource.selected or kind.required or (kind.fields and kind.edges):
            written = kind.output(record, scope, batch.parent, batch.parent_name)
            if written is None:
                self._dropped[kind.name] = self._dropped.get(kind.name, 0) + 1
                return ()
            if resource.selected:
                key = kind.key(written, record)
                if kind.keyless and kind.config_warnings("key"):
                    told = lost_key(resource.primary_key, record)
                    self._part.events.append(f"check  {kind.name}: {told}")
                self._part.items.append(Item(kind.name, key, written, self._seed))
        if not kind.edges:
            return ()
        above = kind.above(record, written)
        if above is not record:
            ancestors = {**ancestors, kind.name: above}
        ranked = kind.rank(scope)
        rank = batch.inherited if ranked is None else ranked
        for edge in reversed(kind.inner):
            stack.append(self._nested(batch, edge, above, ancestors, rank))
        if not kind.outer:
            return ()
        return chain.from_iterable(self._children(kind, edge, above, ancestors, rank) for edge in kind.outer)

    def _nested(
        self, batch: Batch, edge: Edge, record: Any, ancestors: Mapping[str, Any], rank: float
    ) -> Batch:
        """Records inside a record: no request; `parent` is the record around them."""
        child = edge.child
        elements = iter(edge.elements(record))
        if edge.parent.when is not None:
            elements = self._wanted(edge, elements, record, ancestors)
        if edge.parent.priority is not None:
            scope = self._scope(child.name, record, record, ancestors, self._depth)
            own = as_number(edge.parent.priority.evaluate(scope))
            rank = rank if own is None else own
        return Batch(child, elements, record, batch.kind.name, ancestors, rank)

    def _wanted(
        self, edge: Edge, elements: Iterator[Any], record: Any, ancestors: Mapping[str, Any]
    ) -> Iterator[Any]:
        assert edge.parent.when is not None
        for element in elements:
            if edge.parent.when.evaluate(
                self._scope(edge.child.name, element, record, ancestors, self._depth)
            ):
                yield element

    def _children(
        self, kind: CompiledResource, edge: Edge, record: Any, ancestors: Mapping[str, Any], rank: float
    ) -> Iterator[NewTask | IncrementalStart]:
        """Requests that follow from a record; `parent` is the record, or the element of `each`."""
        child, parent = edge.child, edge.parent
        for element in edge.elements(record):
            own = None
            if parent.when is not None or parent.priority is not None:
                scope = self._scope(child.name, record, element, ancestors, self._depth + 1)
                if parent.when is not None and not parent.when.evaluate(scope):
                    continue
                own = None if parent.priority is None else as_number(parent.priority.evaluate(scope))
            try:
                first = self._builder.child_start(
                    child.resource,
                    kind.name,
                    seed=self._seed,
                    parent=element,
                    ancestors=ancestors,
                    depth=self._depth + 1,
                    priority=rank if own is None else own,
                    now_s=self._now_s,
                    occurrence=self._payload.get("occurrence", 0),
                )
            except UsageError:
                # One record whose values make no address must not cost the page its other records.
                first = None
            if first is None:
                self._part.skipped += 1
                told = lost_address(child.address_paths, element)
                if told is not None and child.config_warnings("address"):
                    self._part.events.append(f"check  {child.name}: {told}")
            else:
                yield first

    def _onward(
        self, kind: CompiledResource, parent: Any, parents: Mapping[str, Any]
    ) -> Iterator[Extraction]:
        """The next page into the last part; the pages of a fan-out in parts of their own."""
        if self._incremental is not None and kind.token is not None:
            self._incremental = with_token(self._incremental, kind.token(self._body))
        if not self._goes_on(kind):
            self._walked(kind)
            return
        last = self._last
        above = {**parents, kind.name: last}
        scope = self._scope(kind.name, last, parent, above, self._depth)
        inherited = None if last is None else kind.rank(scope)
        own = kind.endpoint.paginator.priority

        def build(change: Change, walk: Mapping[str, Any], number: int) -> NewTask:
            rank = None
            if own is not None:
                # Of the pages of a fan-out each has its own number there; else it is that of the page at hand.
                there = self._scope(kind.name, last, parent, above, self._depth, number)
                rank = as_number(own.evaluate(there if "until" in walk else scope))
            rank = inherited if rank is None else rank
            priority = self._priority if rank is None else rank
            if not math.isfinite(priority):
                raise ExtractError(f"the task's priority is {priority!r}, no finite number")
            return self._builder.next_page(
                payload, change, priority, base=self._page.url, walk=walk, number=number
            )

        payload = self._payload
        if self._incremental is not None:
            payload = {**payload, "incremental": self._incremental}
        onward = Onward()
        try:
            at = FetchedPage(self._payload, self._page, self._body, self._records, self._count)
            onward = self._find(kind, at, scope, build)
            for task in onward.ahead or ():
                self._part.follow_ups.append(task)
                if len(self._part.follow_ups) >= PART_SIZE:
                    yield self._flushed()
            self._part.next_page = onward.next_page
            if onward.ended:
                self._walked(kind)
        except UsageError:
            self._part.skipped += 1  # a link to no http(s) address
        self._part.events += onward.events

    def _goes_on(self, kind: CompiledResource) -> bool:
        """Whether there can be a next page at all."""
        return kind.walk.goes_on

    def _find(
        self, kind: CompiledResource, at: FetchedPage, scope: Mapping[str, Any], build: Build
    ) -> Onward:
        """What follows in the walk."""
        return kind.walk.onward(at, scope, build)

    def _walked(self, kind: CompiledResource) -> None:
        """The walk's last page, or that of a window: what it keeps once this page is acked, and the next window."""
        part, incremental = self._incremental, kind.endpoint.incremental
        if part is None or incremental is None or not part["key"]:
            return
        following = next_window(incremental, part)
        if following is not None:
            window = self._builder.next_window(self._payload, following, self._priority, self._now_s)
            self._part.next_page = window
        self._part.keep = kept_state(part, following, kind.name, self._seed, self._now_s)
