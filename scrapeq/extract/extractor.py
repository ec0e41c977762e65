"""Reads one page: its items, the tasks that follow from its records, and the next page, in chunks."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from time import perf_counter
from typing import Any

from scrapeq.errors import BrokenBody, ExtractError, UsageError
from scrapeq.expression import as_number
from scrapeq.expression.pattern import SEARCH_S, take_slow_patterns
from scrapeq.expression.scope import response_scope
from scrapeq.expression.values import http_time_s
from scrapeq.extract.body_check import check_body
from scrapeq.extract.compiled_resource import CompiledResource, Edge, as_fields
from scrapeq.extract.config_warnings import (
    missing_key_warning,
    missing_parent_field_warning,
    missing_records_warning,
)
from scrapeq.extract.decode import Body
from scrapeq.extract.pagination import BuildTask, NextPages
from scrapeq.extract.paginators import FetchedPage
from scrapeq.extract.seen_records import SeenRecords
from scrapeq.extract.selector import Path
from scrapeq.page import Page
from scrapeq.plan import Incremental
from scrapeq.protocols import Change, Extraction, IncrementalStart, Item
from scrapeq.resource import Payload, TaskBuilder
from scrapeq.resource.address import digest
from scrapeq.resource.cursor_values import is_unclear_date
from scrapeq.resource.identity import ORIGIN_LENGTH
from scrapeq.resource.incremental import (
    add_cursor,
    add_token,
    final_state,
    incomplete_reason,
    incremental_scope,
    next_window,
    without_future,
)
from scrapeq.resource.payload import IncrementalProgress, PaginationState
from scrapeq.task import NewTask

MAX_NESTED = 1000
"""The most levels of records inside records on one page; more are a loop in the plan."""

CHUNK_SIZE = 1000
"""The most items and follow-ups in a chunk."""

START_WEIGHT = 4
"""How many follow-ups a start counts for: the worker still has to build its task."""

PAUSE_S = 0.01
"""Seconds between two pauses while the records of a page are read."""


@dataclass(slots=True)  # not frozen, for speed: each record with others inside makes one
class Batch:
    """Records of one resource, with what lies above them; `inherited` is the priority of their follow-ups."""

    compiled: CompiledResource
    records: Iterator[Any]
    parent: Any
    parent_name: str | None
    ancestors: Mapping[str, Any]
    inherited: float
    origin: str = ""  # digest of the seed and of the records that led to these


class PageReader:
    """Reads one page: collects its items and follow-ups, and finds the next page."""

    def __init__(
        self, builder: TaskBuilder, payload: Payload, priority: float, page: Page, body: Body, now_s: float
    ) -> None:
        self._builder = builder
        self._payload = payload
        self._priority = priority
        self._page = page
        self._decoded_body = body
        self._body: Any = None
        self._records: list[Any] | None = None
        self._now_s = now_s
        self._seed = payload.get("seed") or {}
        self._depth = payload.get("depth", 0)
        self._chunk = Extraction()
        self._incremental: IncrementalProgress | None = payload.get("incremental")
        self._dropped_counts: dict[str, int] = {}
        self._equal_counts: dict[str, int] = {}
        self._record_count, self._last_record = 0, None
        self._is_matched = False
        self._partial = ""
        self._seen: SeenRecords | None = None

    def chunks(self, compiled: CompiledResource) -> Iterator[Extraction | None]:
        """Yield what the page gives; the last chunk has the next page. None is a pause."""
        pause_s = perf_counter() + PAUSE_S
        parents = self._payload.get("parents") or {}
        parent, parent_name = self._payload.get("parent"), self._payload.get("parent_resource")
        if compiled.pagination.is_paginated:
            state = self._payload.get("walk") or {}
            self._seen = SeenRecords(state.get("sample"), has_keys=bool(compiled.key_paths))
        stack = [
            Batch(
                compiled,
                self._count_records(self._read(compiled), compiled.cursor),
                parent,
                parent_name,
                parents,
                self._priority,
                self._origin(),
            )
        ]
        while stack:
            batch = stack[-1]
            record = next(batch.records, None)
            if record is None:
                stack.pop()
                continue
            if len(stack) > MAX_NESTED:
                raise ExtractError(f"{batch.compiled.name} is nested in itself more than {MAX_NESTED} times")
            if self._seen is not None and len(stack) == 1:
                self._seen.add(_identity(compiled, record))
            for follow_up in self._record(batch, record, stack):
                if isinstance(follow_up, IncrementalStart):
                    self._chunk.starts.append(follow_up)
                else:
                    self._chunk.follow_ups.append(follow_up)
                if len(self._chunk.follow_ups) + START_WEIGHT * len(self._chunk.starts) >= CHUNK_SIZE:
                    yield self._take_chunk()
            if len(self._chunk.items) + len(self._chunk.follow_ups) >= CHUNK_SIZE:
                yield self._take_chunk()
            if perf_counter() > pause_s:
                yield None
                pause_s = perf_counter() + PAUSE_S
        yield from self._end(compiled, parent, parents)

    def _origin(self) -> str:
        """Return a digest of what led to this page; empty without seed and parent."""
        return self._builder.origin(self._payload)

    @staticmethod
    def _origin_below(batch: Batch, key: str) -> str:
        """Return the origin of the records inside the record with this identity."""
        return digest(f"{batch.origin}\0{key}".encode("utf-8", "surrogatepass"))[:ORIGIN_LENGTH]

    def _item_key(self, batch: Batch, output: dict[str, Any], record: Any) -> str:
        key, is_content = batch.compiled.item_key(output, record, seed=self._seed, parent=batch.parent)
        return self._place(batch, key) if is_content else key

    def _place(self, batch: Batch, content: str) -> str:
        """
        Return the identity of a record without a key among those with equal content.

        It is the number among the equal ones of its page, and the number of the page. An incremental resource gets
        its records again on other pages, so there the page does not count.
        """
        name = f"{batch.compiled.name} {batch.origin} {content}"
        number = self._equal_counts[name] = self._equal_counts.get(name, 0) + 1
        page = 1 if self._incremental is not None else self._payload.get("page", 1)
        return "".join((content, f" #{number}" if number > 1 else "", f" p{page}" if page > 1 else ""))

    def _end(
        self, compiled: CompiledResource, parent: Any, parents: Mapping[str, Any]
    ) -> Iterator[Extraction]:
        """Yield what follows the page, and the last chunk."""
        yield from self._next_pages(compiled, parent, parents)
        self._warn(compiled)
        for name, count in self._dropped_counts.items():
            self._chunk.skipped += count
            noun = "record" if count == 1 else "records"
            self._chunk.events.append(f"dropped {count} {noun} of {name}: a required field is null")
        yield self._chunk

    def _warn(self, compiled: CompiledResource) -> None:
        """Warn if the body was not quite what it should be, or the selector matches nothing in the first responses."""
        for topic, sentence in self._decoded_body.repairs.items():
            if compiled.is_first_warning(f"repair {topic}"):
                self._chunk.events.append(
                    f"check  {compiled.name}: page {self._payload.get('page', 1)}: {sentence}"
                )
        for regex, count in take_slow_patterns().items():
            if compiled.is_first_warning(f"pattern {regex}"):
                self._chunk.events.append(
                    f"check  {compiled.name}: the search for {regex} takes longer than {SEARCH_S:g} s in {count} "
                    "values, which are null"
                )
        if compiled.has_records or self._record_count:
            compiled.has_records = True
        elif (
            self._records is not None
            and not self._decoded_body.is_text
            and compiled.is_first_warning("records")
        ):
            warning = missing_records_warning(compiled.endpoint.data_selector, self._body)
            if warning is not None:
                self._chunk.events.append(f"check  {compiled.name}: {warning}")

    def _take_chunk(self) -> Extraction:
        chunk, self._chunk = self._chunk, Extraction()
        return chunk

    def _read(self, compiled: CompiledResource) -> Iterable[Any]:
        """Return the page's records: rows one by one if nothing needs all of them."""
        body = self._decoded_body
        if compiled.can_stream and (body.rows is not None or body.files is not None):
            return body.records(compiled.records_in)
        if body.files is not None:
            self._records = list(body.records(compiled.records_in))
            return self._records
        self._body = body.whole()
        self._records = compiled.records_in(self._body, body)
        if not body.is_text:
            self._check_body(compiled)
        elif (self._payload.get("walk") or {}).get("matched"):
            raise BrokenBody(f"the first page has records, but page {self._payload.get('page')} is text")
        return self._records

    def _check_body(self, compiled: CompiledResource) -> None:
        """Look for an error in the place of the records. Raises BrokenBody."""
        checked = check_body(
            compiled,
            self._payload,
            self._page,
            self._body,
            self._records or [],
            is_tree=self._decoded_body.is_tree,
            states_what_follows=lambda: self._states_what_follows(compiled),
        )
        self._is_matched, self._partial = checked.has_place, checked.partial
        if checked.is_empty:
            self._records = []

    def _states_what_follows(self, compiled: CompiledResource) -> bool:
        fetched = FetchedPage(self._payload, self._page, self._body, self._records, 0)
        parents = self._payload.get("parents") or {}
        scope = self._scope(compiled.name, None, self._payload.get("parent"), parents, self._depth)
        return compiled.pagination.states_what_follows(fetched, scope)

    def _count_records(self, records: Iterable[Any], cursor: Path | None) -> Iterator[Any]:
        """Count the records, and yield those that are not null."""
        for record in records:
            self._record_count += 1
            if record is not None:
                self._last_record = record
                if cursor is not None and self._incremental is not None:  # also if a filter drops it
                    self._incremental = add_cursor(self._incremental, cursor(record))
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
            incremental=incremental_scope(self._payload.get("incremental")),
        )

    def _record(self, batch: Batch, record: Any, stack: list[Batch]) -> Iterable[NewTask | IncrementalStart]:
        """Add the record's item to the chunk and its nested records to the stack; return the requests that follow."""
        compiled = batch.compiled
        resource = compiled.resource
        ancestors = {**batch.ancestors, compiled.name: record} if compiled.edges else batch.ancestors
        scope = (
            self._scope(compiled.name, record, batch.parent, ancestors, self._depth)
            if compiled.needs_scope
            else {}
        )
        if resource.record_filter is not None and not resource.record_filter.evaluate(scope):
            return ()
        output, key = None, ""
        if resource.selected or compiled.required or (compiled.fields and compiled.edges):
            output = compiled.output_record(record, scope, batch.parent, batch.parent_name, self._seed)
            if output is None:
                self._dropped_counts[compiled.name] = self._dropped_counts.get(compiled.name, 0) + 1
                return ()
            if resource.selected:
                key = self._item_key(batch, output, record)
                if compiled.has_keyless_records and compiled.is_first_warning("key"):
                    warning = missing_key_warning(resource.primary_key, record)
                    self._chunk.events.append(f"check  {compiled.name}: {warning}")
                origin = "" if compiled.is_key_whole else batch.origin
                self._chunk.items.append(Item(compiled.name, key, output, self._seed, origin))
        if not compiled.edges:
            return ()
        above = compiled.parent_view(record, output)
        if above is not record:
            ancestors = {**ancestors, compiled.name: above}
        ranked = compiled.priority_of(scope)
        rank = batch.inherited if ranked is None else ranked
        if compiled.nested_edges:
            origin = self._origin_below(
                batch, key or self._item_key(batch, output or as_fields(record), record)
            )
            for edge in reversed(compiled.nested_edges):
                stack.append(self._nested(batch, edge, above, ancestors, rank, origin))
        if not compiled.request_edges:
            return ()
        return chain.from_iterable(
            self._children(compiled, edge, above, ancestors, rank) for edge in compiled.request_edges
        )

    def _nested(
        self, batch: Batch, edge: Edge, record: Any, ancestors: Mapping[str, Any], rank: float, origin: str
    ) -> Batch:
        """Return the records inside a record, without a request; `parent` is the record around them."""
        child = edge.child
        elements = iter(edge.elements(record))
        if edge.parent.when is not None:
            elements = self._selected_elements(edge, elements, record, ancestors)
        if edge.parent.priority is not None:
            scope = self._scope(child.name, record, record, ancestors, self._depth)
            own = as_number(edge.parent.priority.evaluate(scope))
            rank = rank if own is None else own
        return Batch(child, elements, record, batch.compiled.name, ancestors, rank, origin)

    def _selected_elements(
        self, edge: Edge, elements: Iterator[Any], record: Any, ancestors: Mapping[str, Any]
    ) -> Iterator[Any]:
        assert edge.parent.when is not None
        for element in elements:
            if edge.parent.when.evaluate(
                self._scope(edge.child.name, element, record, ancestors, self._depth)
            ):
                yield element

    def _children(
        self, compiled: CompiledResource, edge: Edge, record: Any, ancestors: Mapping[str, Any], rank: float
    ) -> Iterator[NewTask | IncrementalStart]:
        """Yield the requests that follow from a record; `parent` is the record, or the element of `each`."""
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
                    compiled.name,
                    seed=self._seed,
                    parent=element,
                    ancestors=ancestors,
                    depth=self._depth + 1,
                    priority=rank if own is None else own,
                    now_s=self._now_s,
                    occurrence=self._payload.get("occurrence", 0),
                )
            except UsageError:
                # One record with invalid values must not affect the page's other records.
                first = None
            if first is None:
                self._chunk.skipped += 1
                warning = missing_parent_field_warning(child.url_paths, element)
                if warning is not None and child.is_first_warning("address"):
                    self._chunk.events.append(f"check  {child.name}: {warning}")
            else:
                yield first

    def _next_pages(
        self, compiled: CompiledResource, parent: Any, parents: Mapping[str, Any]
    ) -> Iterator[Extraction]:
        """Put the next page into the last chunk; yield the pages of a fan-out in chunks before it."""
        if self._incremental is not None and compiled.token is not None:
            self._incremental = add_token(self._incremental, compiled.token(self._body))
        if not self._is_paginated(compiled):
            self._end_pagination(compiled)
            if self._partial:
                self._report_incomplete(compiled, self._partial)
            return
        last = self._last_record
        above = {**parents, compiled.name: last}
        scope = self._scope(compiled.name, last, parent, above, self._depth)
        inherited = None if last is None else compiled.priority_of(scope)
        own = compiled.endpoint.paginator.priority

        def build(change: Change, state: PaginationState, number: int) -> NewTask:
            if self._partial:
                state = {**state, "incomplete": True}
            rank = None
            if own is not None:
                # In a fan-out, `page` is the number of the page to request, else that of the page at hand.
                page_scope = self._scope(compiled.name, last, parent, above, self._depth, number)
                rank = as_number(own.evaluate(page_scope if "until" in state else scope))
            rank = inherited if rank is None else rank
            priority = self._priority if rank is None else rank
            if not math.isfinite(priority):
                raise ExtractError(f"the priority of the next page is {priority!r}, not a finite number")
            return self._builder.next_page(
                payload, change, priority, base=self._page.url, state=state, number=number
            )

        payload = self._payload
        if self._incremental is not None:
            payload = {**payload, "incremental": self._incremental}
        next_pages = NextPages()
        try:
            fetched = FetchedPage(
                self._payload,
                self._page,
                self._body,
                self._records,
                self._record_count,
                self._is_matched,
                self._seen,
            )
            next_pages = self._find_next(compiled, fetched, scope, build)
            for task in next_pages.remaining or ():
                self._chunk.follow_ups.append(task)
                if len(self._chunk.follow_ups) >= CHUNK_SIZE:
                    yield self._take_chunk()
            self._chunk.next_page = next_pages.next_page
            if next_pages.is_last and not next_pages.incomplete:
                self._end_pagination(compiled)
        except UsageError as error:  # the link is not an http(s) URL
            self._chunk.skipped += 1
            next_pages.incomplete = f"the next page cannot be requested: {error}"
        self._chunk.events += next_pages.events
        if next_pages.incomplete or self._partial:
            self._report_incomplete(compiled, next_pages.incomplete or self._partial)

    def _report_incomplete(self, compiled: CompiledResource, reason: str) -> None:
        """Mark the page sequence as incomplete, and report why unless an event has reported it."""
        self._chunk.incomplete = whole = incomplete_reason(reason, self._incremental)
        if whole != reason or not any(reason in event for event in self._chunk.events):
            self._chunk.events.append(f"cut    {compiled.name}: incomplete: {whole}")

    def _is_paginated(self, compiled: CompiledResource) -> bool:
        """Return whether there can be a next page at all."""
        return compiled.pagination.is_paginated

    def _find_next(
        self, compiled: CompiledResource, fetched: FetchedPage, scope: Mapping[str, Any], build: BuildTask
    ) -> NextPages:
        """Return what follows the page in the pagination."""
        return compiled.pagination.next_pages(fetched, scope, build)

    def _end_pagination(self, compiled: CompiledResource) -> None:
        """After the last page of a pagination or window, set the next window and the state to store."""
        progress, incremental = self._incremental, compiled.endpoint.incremental
        if self._partial or (self._payload.get("walk") or {}).get("incomplete"):
            return
        if progress is None or incremental is None or not progress["key"]:
            return
        self._check_cursor(compiled, incremental, progress)
        progress = self._incremental or progress
        following = next_window(incremental, progress)
        if following is not None:
            window = self._builder.next_window(self._payload, following, self._priority, self._now_s)
            self._chunk.next_page = window
        self._chunk.cursor_state = final_state(progress, following, compiled.name, self._seed, self._now_s)

    def _check_cursor(
        self, compiled: CompiledResource, incremental: Incremental, progress: IncrementalProgress
    ) -> None:
        """Do not store a cursor from the future; report it, and one that is a date in an unclear form."""
        server_s = http_time_s(self._page.header("date") or "")
        self._incremental, message = without_future(incremental, progress, self._now_s, server_s)
        if not message and is_unclear_date(progress["cursor"]) and not incremental.cursor_format:
            message = (
                f"{incremental.cursor_path} has dates such as {progress['cursor']}, which compare as text; declare "
                "their form, for example `cursor_format: '%d/%m/%Y'`"
            )
        if message:
            self._chunk.events.append(f"check  {compiled.name}: {message}")


def _identity(compiled: CompiledResource, record: Any) -> bytes:
    """Return the primary key of a record, or its content if it has none."""
    key = [path(record) for _, path in compiled.key_paths]
    return repr(record if not key or None in key else key).encode(errors="replace")
