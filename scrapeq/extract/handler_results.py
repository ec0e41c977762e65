"""Turns the results of a handler into items and follow-ups, as the plan does for declared ones."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from datetime import date, datetime
from typing import Any

import orjson

from scrapeq.charsets import encodable
from scrapeq.clock import Clock, SystemClock
from scrapeq.errors import ExtractError, HookError, UsageError
from scrapeq.expression import as_number, as_text, did_you_mean
from scrapeq.extract.compiled_resource import CompiledResource, as_fields, compile_resources
from scrapeq.extract.decode import Body, decode
from scrapeq.extract.extractor import MAX_NESTED, Batch, PageReader
from scrapeq.extract.pagination import BuildTask, NextPages
from scrapeq.extract.paginators import FetchedPage
from scrapeq.hooks import FollowUp, NewItem, NewRequest
from scrapeq.json_values import LARGEST_WHOLE, SMALLEST_WHOLE
from scrapeq.page import Page
from scrapeq.plan import Plan
from scrapeq.protocols import Change, CursorState, Extraction, IncrementalStart, Item
from scrapeq.resource import GroupOf, Payload, TaskBuilder
from scrapeq.resource.address import clean, with_params
from scrapeq.resource.incremental import detached_payload
from scrapeq.resource.next_request import JSON_TYPE, Request
from scrapeq.task import NewTask


class HandlerResults:
    """
    Reads the results of the handlers of a plan.

    Args:
        plan: `client.base_url` must be a real URL.
        group_of: Returns the group of limits of a request.
        clock: For `now` in expressions.

    Raises:
        UsageError: a path in the plan is invalid.
    """

    def __init__(self, plan: Plan, group_of: GroupOf, *, clock: Clock | None = None) -> None:
        self.compiled_resources = compile_resources(plan)
        self.builder = TaskBuilder(plan, group_of)
        self.max_body_size = plan.client.max_body_size
        self.clock = clock or SystemClock()

    def of(self, payload: Payload, priority: float, page: Page) -> HandlerPage:
        """Return a collector for the results of one page."""
        return HandlerPage(self, payload, priority, page)

    def changed(self, item: Item, record: Any) -> Item:
        """Return the item with another record, and with a new key if the record has all its parts. Raises HookError."""
        plain = plain_record(record)
        if plain == item.record:
            return item
        compiled = self.compiled_resources[item.resource]
        if not all(name in plain for name, _ in compiled.key_paths if name not in compiled.scoped_keys):
            return replace(item, record=plain)
        if compiled.scoped_keys:
            return replace(item, record=plain)  # the parent is not at hand
        key, _ = compiled.item_key(plain, plain, seed=item.seed, parent=None)
        if not compiled.key_paths:  # only the content has changed, not its place
            key += item.key[len(key) :]
        return replace(item, record=plain, key=key)


class HandlerPage(PageReader):
    """Collects the results of one page in their order: `add` takes them, `take` returns items and follow-ups."""

    def __init__(self, results: HandlerResults, payload: Payload, priority: float, page: Page) -> None:
        super().__init__(results.builder, payload, priority, page, Body(), results.clock.now_s())
        self._results = results
        self._compiled = results.compiled_resources[payload["resource"]]
        self._parents: Mapping[str, Any] = payload.get("parents") or {}
        self._next: tuple[Change, float | None] | None = None
        self._records = []

    @property
    def size(self) -> int:
        """The number of items and follow-ups that are ready to be taken."""
        return len(self._chunk.items) + len(self._chunk.follow_ups) + len(self._chunk.starts)

    def take(self) -> Extraction:
        """Return the items and follow-ups since the last call."""
        return self._take_chunk()

    def end(self) -> Iterator[Extraction]:
        """Return the last chunks, with the next page from the handler, or else from the declared paginator."""
        compiled = self._compiled
        if compiled.pagination.is_paginated or compiled.token is not None:
            with suppress(ExtractError):  # only the handler must be able to read the body
                endpoint = compiled.endpoint
                self._body = decode(self._page, endpoint.decoder, self._results.max_body_size).whole()
        return self._end(compiled, self._payload.get("parent"), self._parents)

    def add(self, result: Any) -> None:
        """
        Add one result of a handler.

        Raises:
            HookError: it is not a result, or its resource does not fit.
        """
        if isinstance(result, FollowUp):
            self._follow(result)
        elif isinstance(result, NewRequest):
            try:
                self._request(result)
            except UsageError as error:
                raise HookError(str(error)) from None
        elif isinstance(result, NewItem):
            self._item(self._resource(result.resource), result.record, result.parent)
        elif isinstance(result, Mapping):
            self._item(self._compiled, result, None)
        else:
            raise HookError(
                f"a handler cannot yield a {type(result).__name__}: yield a map, or what context.item, follow, "
                "request or next_page returns"
            )

    def _resource(self, name: str) -> CompiledResource:
        compiled = self._results.compiled_resources.get(name)
        if compiled is None:
            near = did_you_mean(name, self._results.compiled_resources)
            hint = (
                f"did you mean {near}?"
                if near
                else f"known resources: {', '.join(self._results.compiled_resources)}"
            )
            raise HookError(f"no resource is called {name!r}; {hint}")
        return compiled

    def _above(self, record: Any) -> Mapping[str, Any]:
        return {**self._parents, self._compiled.name: record}

    def _item(self, compiled: CompiledResource, record: Any, parent: Any) -> None:
        plain = plain_record(record)
        if compiled is self._compiled and parent is None:
            parent, parent_name = self._payload.get("parent"), self._payload.get("parent_resource")
        else:
            parent_name = self._compiled.name
        if compiled is self._compiled:
            for own in self._count_records([plain], compiled.cursor):
                if self._records is not None and compiled.pagination.is_paginated:
                    self._records.append(own)
        without_children = replace(compiled, edges=[])
        origin = self._origin()
        batch = Batch(without_children, iter(()), parent, parent_name, self._parents, self._priority, origin)
        if compiled is not self._compiled and parent is not None:
            around = replace(batch, compiled=self._compiled)
            batch = replace(batch, origin=self._origin_below(around, self._record_key(around, parent)))
        for _ in self._record(batch, plain, []):
            pass  # the handler itself yields what follows from the record

    def _follow(self, result: FollowUp) -> None:
        compiled = self._compiled
        edges = [edge for edge in compiled.edges if edge.child.name == result.resource]
        if not edges:
            self._resource(result.resource)
            raise HookError(
                f"{result.resource} is not a child of {compiled.name}: add `parent: {compiled.name}` to it, "
                "or yield context.request"
            )
        record, priority = plain_record(result.record), priority_of(result.priority)
        above, parent = self._above(record), self._payload.get("parent")
        ranked = compiled.priority_of(self._scope(compiled.name, record, parent, above, self._depth))
        rank = self._priority if ranked is None else ranked
        parent_name = self._payload.get("parent_resource")
        around = Batch(compiled, iter(()), parent, parent_name, self._parents, rank, self._origin())
        for edge in edges:
            if edge.child.resource.endpoint is None:
                origin = self._origin_below(around, self._record_key(around, record))
                self._nested_records(self._nested(around, edge, record, above, rank, origin))
                continue
            for follow_up in self._children(compiled, edge, record, above, rank):
                self._push(follow_up if priority is None else _with_priority(follow_up, priority))

    def _record_key(self, batch: Batch, record: Any) -> str:
        return self._item_key(batch, as_fields(record), record)

    def _nested_records(self, batch: Batch) -> None:
        """Add records that need no request, with all that follows from them as declared."""
        stack = [batch]
        while stack:
            record = next(stack[-1].records, None)
            if record is None:
                stack.pop()
                continue
            if len(stack) > MAX_NESTED:
                raise HookError(f"{stack[-1].compiled.name} is nested in itself more than {MAX_NESTED} times")
            for follow_up in self._record(stack[-1], record, stack):
                self._push(follow_up)

    def _request(self, result: NewRequest) -> None:
        priority = priority_of(result.priority)
        if result.is_next_page:
            change = Change(url=clean(result.url))
            if self._next is None:
                self._next = change, priority
            else:  # only one next page continues the pagination; the others are separate requests
                rank = self._priority if priority is None else priority
                self._push(
                    self._builder.next_page(
                        detached_payload(self._payload), change, rank, base=self._page.url
                    )
                )
            return
        compiled = self._resource(result.resource)
        parent = None if result.parent is None else plain_record(result.parent)
        headers = {name: str(value) for name, value in result.headers.items()}
        body = None
        if result.json is not None:
            body = orjson.dumps(plain_json(result.json, "json")).decode()
            if not any(name.lower() == "content-type" for name in headers):
                headers["Content-Type"] = JSON_TYPE
        url = with_params(result.url, list(_pairs(result.params)))
        task = self._builder.from_request(
            compiled.resource,
            Request(result.method.upper(), url, headers, body),
            self._priority if priority is None else priority,
            seed=self._seed,
            parent=parent,
            edge=None if parent is None else self._compiled.name,
            ancestors=self._parents if parent is None else self._above(parent),
            depth=self._depth + 1,
            occurrence=self._payload.get("occurrence", 0),
        )
        self._push(task)

    def _push(self, follow_up: NewTask | IncrementalStart) -> None:
        if isinstance(follow_up, IncrementalStart):
            self._chunk.starts.append(follow_up)
        else:
            self._chunk.follow_ups.append(follow_up)

    def _is_paginated(self, compiled: CompiledResource) -> bool:
        return self._next is not None or super()._is_paginated(compiled)

    def _find_next(
        self, compiled: CompiledResource, fetched: FetchedPage, scope: Mapping[str, Any], build: BuildTask
    ) -> NextPages:
        if self._next is None:
            return super()._find_next(compiled, fetched, scope, build)
        change, priority = self._next
        task = build(change, self._payload.get("walk") or {}, fetched.number + 1)
        return NextPages(task if priority is None else replace(task, priority=priority), is_last=False)


def _with_priority(follow_up: NewTask | IncrementalStart, priority: float) -> NewTask | IncrementalStart:
    """Return the follow-up with another priority."""
    if isinstance(follow_up, NewTask):
        return replace(follow_up, priority=priority)

    def build(state: CursorState | None) -> NewTask | None:
        task = follow_up.build(state)
        return None if task is None else replace(task, priority=priority)

    return IncrementalStart(follow_up.state_key, build)


def plain_record(record: Any) -> dict[str, Any]:
    """Return a record as JSON holds it. Raises HookError that names the field that JSON cannot hold."""
    if not isinstance(record, Mapping):
        raise HookError(f"a record must be a map of fields, not a {type(record).__name__}")
    plain: dict[str, Any] = plain_json(record, "")
    return plain


def plain_json(value: Any, where: str) -> Any:
    """Return a value as JSON holds it. Raises HookError that names the part that JSON cannot hold."""
    try:
        return orjson.loads(orjson.dumps(value, default=_as_map))
    except (TypeError, ValueError):
        pass
    try:
        return orjson.loads(orjson.dumps(_exact(value), default=_as_map))
    except (TypeError, ValueError, RecursionError) as error:
        raise HookError(
            _unserializable_part(value, where) or f"the record cannot be written as JSON: {error}"
        ) from None


def _exact(value: Any) -> Any:
    """Return a value with integers beyond 64 bits as text, and with U+FFFD for lone surrogates."""
    if isinstance(value, str):
        return encodable(value)
    if isinstance(value, int):
        return value if SMALLEST_WHOLE <= value <= LARGEST_WHOLE else str(value)
    if isinstance(value, Mapping):
        return {
            encodable(name) if isinstance(name, str) else name: _exact(member)
            for name, member in value.items()
        }
    return [_exact(member) for member in value] if isinstance(value, list | tuple) else value


def _as_map(value: Any) -> Any:
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError


def _unserializable_part(value: Any, where: str) -> str:
    """Describe the part of a value that JSON cannot hold; empty if only the whole cannot be written."""
    if isinstance(value, Mapping):
        for name, member in value.items():
            if not isinstance(name, str):
                return f"{where or 'the record'}: the name {name!r} is a {type(name).__name__}, not a string"
            if found := _unserializable_part(member, f"{where}.{name}" if where else name):
                return found
        return ""
    if isinstance(value, list | tuple):
        for index, member in enumerate(value):
            if found := _unserializable_part(member, f"{where}[{index}]"):
                return found
        return ""
    try:
        orjson.dumps(value)
    except (TypeError, ValueError) as error:
        known = isinstance(value, str | int)
        return f"{where}: {error}" if known else f"{where}: JSON cannot hold a {type(value).__name__}"
    return ""


def priority_of(priority: Any) -> float | None:
    """Return a priority as a number; None if there is none. Raises HookError."""
    if priority is None:
        return None
    value = priority.isoformat() if isinstance(priority, datetime | date) else priority
    number = None if isinstance(value, bool) else as_number(value)
    if number is None or not math.isfinite(number):
        raise HookError(f"priority: {priority!r} is neither a finite number nor a time")
    return float(number)


def _pairs(params: Mapping[str, Any]) -> Any:
    for name, value in params.items():
        for one in value if isinstance(value, list | tuple) else (value,):
            if one is not None:
                yield name, as_text(one) or ""
