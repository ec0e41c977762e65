"""A page in, items and follow-ups out."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from scrapeq.clock import Clock, SystemClock
from scrapeq.errors import ExtractError, UsageError
from scrapeq.expression import as_number
from scrapeq.expression.scope import answer_scope
from scrapeq.extract.decode import decode
from scrapeq.extract.kind import Edge, Kind, compile_kinds
from scrapeq.page import Page
from scrapeq.plan import Plan
from scrapeq.protocols import Extraction, Item
from scrapeq.resource import GroupOf, Payload, TaskBuilder, check_payload
from scrapeq.task import NewTask

MAX_NESTED = 1000
"""Resources without an endpoint inside one another, on one page; more is a circle in the plan."""


@dataclass(frozen=True, slots=True)
class _Batch:
    """Records of one kind, with what lies above them."""

    kind: Kind
    records: list[Any]
    parent: Any
    parent_name: str | None
    ancestors: Mapping[str, Any]
    inherited: float
    level: int


class PageExtractor:
    """
    Turns pages into items and follow-ups, by the plan.

    Args:
        plan: `client.base_url` must be the real address.
        group_of: Says which limits a follow-up belongs to.
        clock: For `now` in expressions.

    Raises:
        UsageError: a path in the plan is none.
    """

    def __init__(self, plan: Plan, group_of: GroupOf, *, clock: Clock | None = None) -> None:
        self._kinds = compile_kinds(plan)
        self._builder = TaskBuilder(plan, group_of)
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
        body, is_text = decode(page, kind.endpoint.decoder.type)
        records = [{"text": body}] if is_text else kind.records(body)
        yield _PageWalk(self._builder, payload, priority, page, body, self._clock.now_s()).run(kind, records)

    def _kind(self, payload: Payload) -> Kind:
        kind = self._kinds.get(payload["resource"])
        if kind is None or kind.resource.endpoint is None:
            raise UsageError(
                f"the task is for {payload['resource']!r}, and no resource with an endpoint has that name; "
                "if it was renamed, finish or purge the old tasks first"
            )
        return kind


class _PageWalk:
    """One page on its way through the plan."""

    def __init__(
        self, builder: TaskBuilder, payload: Payload, priority: float, page: Page, body: Any, now_s: float
    ) -> None:
        self._builder = builder
        self._payload = payload
        self._priority = priority
        self._page = page
        self._body = body
        self._now_s = now_s
        self._seed = payload.get("seed") or {}
        self._depth = payload.get("depth", 0)
        self._records: list[Any] = []
        self._items: list[Item] = []
        self._follow_ups: list[NewTask] = []
        self._skipped = 0
        self._next: NewTask | None = None

    def run(self, kind: Kind, records: list[Any]) -> Extraction:
        self._records = records
        parents = self._payload.get("parents") or {}
        parent, parent_name = self._payload.get("parent"), self._payload.get("parent_resource")
        batches = deque([_Batch(kind, records, parent, parent_name, parents, self._priority, 0)])
        while batches:
            batch = batches.popleft()
            if batch.level > MAX_NESTED:
                raise ExtractError(f"{batch.kind.name} is nested in itself more than {MAX_NESTED} times")
            for record in batch.records:
                if record is not None:
                    self._record(batch, record, batches)
        self._next_page(kind, parent, parents)
        return Extraction(self._items, self._follow_ups, self._skipped, next_page=self._next)

    def _scope(self, name: str, record: Any, parent: Any, ancestors: Mapping[str, Any], depth: int) -> Any:
        return answer_scope(
            self._page,
            body=self._body,
            records=self._records,
            record=record,
            parent=parent,
            resources=ancestors,
            seed=self._seed,
            depth=depth,
            page=self._payload.get("page", 1),
            resource=name,
            now=self._now_s,
        )

    def _record(self, batch: _Batch, record: Any, batches: deque[_Batch]) -> None:
        kind = batch.kind
        resource = kind.resource
        ancestors = {**batch.ancestors, kind.name: record} if kind.edges else batch.ancestors
        scope = self._scope(kind.name, record, batch.parent, ancestors, self._depth)
        if resource.record_filter is not None and not resource.record_filter.evaluate(scope):
            return
        if resource.selected:
            written = kind.output(record, scope, batch.parent, batch.parent_name)
            self._items.append(Item(kind.name, kind.key(written, record), written))
        if not kind.edges:
            return
        ranked = kind.rank(scope)
        rank = batch.inherited if ranked is None else ranked
        for edge in kind.edges:
            if edge.child.resource.endpoint is None:
                self._nested(batch, edge, record, ancestors, rank, batches)
            else:
                self._children(kind, edge, record, ancestors, rank)

    def _nested(
        self,
        batch: _Batch,
        edge: Edge,
        record: Any,
        ancestors: Mapping[str, Any],
        rank: float,
        batches: deque[_Batch],
    ) -> None:
        """Records inside a record: no request; `parent` is the record around them."""
        child = edge.child
        kept: list[Any] = []
        for element in edge.elements(record):
            if edge.parent.when is not None:
                scope = self._scope(child.name, element, record, ancestors, self._depth)
                if not edge.parent.when.evaluate(scope):
                    continue
            kept.append(element)
        if not kept:
            return
        if edge.parent.priority is not None:
            scope = self._scope(child.name, record, record, ancestors, self._depth)
            own = as_number(edge.parent.priority.evaluate(scope))
            rank = rank if own is None else own
        batches.append(_Batch(child, kept, record, batch.kind.name, ancestors, rank, batch.level + 1))

    def _children(
        self, kind: Kind, edge: Edge, record: Any, ancestors: Mapping[str, Any], rank: float
    ) -> None:
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
                task = self._builder.child(
                    child.resource,
                    kind.name,
                    seed=self._seed,
                    parent=element,
                    ancestors=ancestors,
                    depth=self._depth + 1,
                    priority=rank if own is None else own,
                    now_s=self._now_s,
                )
            except UsageError:
                # One record whose values make no address must not cost the page its other records.
                task = None
            if task is None:
                self._skipped += 1
            else:
                self._follow_ups.append(task)

    def _next_page(self, kind: Kind, parent: Any, parents: Mapping[str, Any]) -> None:
        last = next((record for record in reversed(self._records) if record is not None), None)
        scope = self._scope(kind.name, last, parent, {**parents, kind.name: last}, self._depth)
        try:
            found = kind.walk.next_page(self._payload, self._page, self._body, self._records, scope)
            if found is None:
                return
            own = kind.endpoint.paginator.priority
            rank = None if own is None else as_number(own.evaluate(scope))
            if rank is None and last is not None:
                rank = kind.rank(scope)
            priority = self._priority if rank is None else rank
            if not math.isfinite(priority):
                raise ExtractError(f"the task's priority is {priority!r}, no finite number")
            self._next = self._builder.next_page(self._payload, found.url, priority, found.state)
        except UsageError:
            self._skipped += 1  # a link to no http(s) address
