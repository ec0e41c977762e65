"""What a handler gives, made into items and follow-ups as the plan says it of declared ones."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from datetime import date, datetime
from typing import Any

import orjson

from scrapeq.clock import Clock, SystemClock
from scrapeq.errors import ExtractError, HookError, UsageError
from scrapeq.expression import as_number, as_text, did_you_mean
from scrapeq.extract.compiled_resource import CompiledResource, compile_resources
from scrapeq.extract.decode import Body, decode
from scrapeq.extract.extractor import MAX_NESTED, Batch, PagePagination
from scrapeq.extract.pagination import Build, Onward
from scrapeq.extract.paginators import FetchedPage
from scrapeq.hooks import FollowUp, NewItem, NewRequest
from scrapeq.page import Page
from scrapeq.plan import Plan
from scrapeq.protocols import Change, CursorState, Extraction, IncrementalStart, Item
from scrapeq.resource import GroupOf, Payload, TaskBuilder
from scrapeq.resource.address import clean, with_params
from scrapeq.resource.incremental import beside
from scrapeq.resource.next_request import JSON_TYPE, Request
from scrapeq.task import NewTask


class HandlerResults:
    """
    Args:
        plan: `client.base_url` must be the real address.
        group_of: Says which limits a follow-up belongs to.
        clock: For `now` in expressions.

    Raises:
        UsageError: a path in the plan is none.
    """

    def __init__(self, plan: Plan, group_of: GroupOf, *, clock: Clock | None = None) -> None:
        self.kinds = compile_resources(plan)
        self.builder = TaskBuilder(plan, group_of)
        self.max_body_size = plan.client.max_body_size
        self.clock = clock or SystemClock()

    def of(self, payload: Payload, priority: float, page: Page) -> HandlerPage:
        """What is given of one page."""
        return HandlerPage(self, payload, priority, page)

    def changed(self, item: Item, record: Any) -> Item:
        """The item with another record: its key follows, where the record has what makes it. Raises HookError."""
        plain = plain_record(record)
        if plain == item.record:
            return item
        kind = self.kinds[item.resource]
        has_key = all(name in plain for name, _ in kind.key_paths)
        return replace(item, record=plain, key=kind.key(plain, plain) if has_key else item.key)


class HandlerPage(PagePagination):
    """The results of one page, in the order given: `add` takes them, `take` gives what came of them."""

    def __init__(self, given: HandlerResults, payload: Payload, priority: float, page: Page) -> None:
        super().__init__(given.builder, payload, priority, page, Body(), given.clock.now_s())
        self._given = given
        self._kind = given.kinds[payload["resource"]]
        self._parents: Mapping[str, Any] = payload.get("parents") or {}
        self._next: tuple[Change, float | None] | None = None
        self._records = []

    @property
    def size(self) -> int:
        """Items and follow-ups that wait to be taken."""
        return len(self._part.items) + len(self._part.follow_ups) + len(self._part.starts)

    def take(self) -> Extraction:
        """What came since it was called last."""
        return self._flushed()

    def end(self) -> Iterator[Extraction]:
        """The last parts: with the next page that was given, or the one that the declared paginator finds."""
        kind = self._kind
        if kind.walk.goes_on or kind.token is not None:
            with suppress(ExtractError):  # only the handler needs to understand it
                endpoint = kind.endpoint
                self._body = decode(self._page, endpoint.decoder, self._given.max_body_size).whole()
        return self._end(kind, self._payload.get("parent"), self._parents)

    def add(self, result: Any) -> None:
        """
        One result of a handler.

        Raises:
            HookError: it is none, or of a resource that does not fit.
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
            self._item(self._kind, result, None)
        else:
            raise HookError(
                f"a {type(result).__name__} is no result: give a map, or what context.item, follow, request or "
                "next_page returns"
            )

    def _resource(self, name: str) -> CompiledResource:
        kind = self._given.kinds.get(name)
        if kind is None:
            near = did_you_mean(name, self._given.kinds)
            hint = f"did you mean {near}?" if near else f"there are: {', '.join(self._given.kinds)}"
            raise HookError(f"no resource is called {name!r}; {hint}")
        return kind

    def _above(self, record: Any) -> Mapping[str, Any]:
        return {**self._parents, self._kind.name: record}

    def _item(self, kind: CompiledResource, record: Any, parent: Any) -> None:
        plain = plain_record(record)
        if kind is self._kind and parent is None:
            parent, parent_name = self._payload.get("parent"), self._payload.get("parent_resource")
        else:
            parent_name = self._kind.name
        if kind is self._kind:
            for own in self._own([plain], kind.cursor):
                if self._records is not None and kind.walk.goes_on:
                    self._records.append(own)
        without_children = replace(kind, edges=[])
        batch = Batch(without_children, iter(()), parent, parent_name, self._parents, self._priority)
        for _ in self._record(batch, plain, []):
            pass  # what follows from it, the handler says

    def _follow(self, result: FollowUp) -> None:
        kind = self._kind
        edges = [edge for edge in kind.edges if edge.child.name == result.resource]
        if not edges:
            self._resource(result.resource)
            raise HookError(
                f"{result.resource} is no child of {kind.name}: write `parent: {kind.name}` in it, "
                "or give context.request"
            )
        record, given = plain_record(result.record), number_of(result.priority)
        above, parent = self._above(record), self._payload.get("parent")
        ranked = kind.rank(self._scope(kind.name, record, parent, above, self._depth))
        rank = self._priority if ranked is None else ranked
        parent_name = self._payload.get("parent_resource")
        around = Batch(kind, iter(()), parent, parent_name, self._parents, rank)
        for edge in edges:
            if edge.child.resource.endpoint is None:
                self._nested_records(self._nested(around, edge, record, above, rank))
                continue
            for follow_up in self._children(kind, edge, record, above, rank):
                self._push(follow_up if given is None else _ranked(follow_up, given))

    def _nested_records(self, batch: Batch) -> None:
        """Records without a request, with all that follows from them as declared."""
        stack = [batch]
        while stack:
            record = next(stack[-1].records, None)
            if record is None:
                stack.pop()
                continue
            if len(stack) > MAX_NESTED:
                raise HookError(f"{stack[-1].kind.name} is nested in itself more than {MAX_NESTED} times")
            for follow_up in self._record(stack[-1], record, stack):
                self._push(follow_up)

    def _request(self, result: NewRequest) -> None:
        given = number_of(result.priority)
        if result.is_next_page:
            change = Change(url=clean(result.url))
            if self._next is None:
                self._next = change, given
            else:  # one walk goes on; what else is asked for like this page are requests of their own
                rank = self._priority if given is None else given
                self._push(self._builder.next_page(beside(self._payload), change, rank, base=self._page.url))
            return
        kind = self._resource(result.resource)
        parent = None if result.parent is None else plain_record(result.parent)
        headers = {name: str(value) for name, value in result.headers.items()}
        body = None
        if result.json is not None:
            body = orjson.dumps(plain_json(result.json, "json")).decode()
            if not any(name.lower() == "content-type" for name in headers):
                headers["Content-Type"] = JSON_TYPE
        url = with_params(result.url, list(_pairs(result.params)))
        task = self._builder.requested(
            kind.resource,
            Request(result.method.upper(), url, headers, body),
            self._priority if given is None else given,
            seed=self._seed,
            parent=parent,
            edge=None if parent is None else self._kind.name,
            ancestors=self._parents if parent is None else self._above(parent),
            depth=self._depth + 1,
            occurrence=self._payload.get("occurrence", 0),
        )
        self._push(task)

    def _push(self, follow_up: NewTask | IncrementalStart) -> None:
        if isinstance(follow_up, IncrementalStart):
            self._part.starts.append(follow_up)
        else:
            self._part.follow_ups.append(follow_up)

    # --- the walk

    def _goes_on(self, kind: CompiledResource) -> bool:
        return self._next is not None or super()._goes_on(kind)

    def _find(
        self, kind: CompiledResource, at: FetchedPage, scope: Mapping[str, Any], build: Build
    ) -> Onward:
        if self._next is None:
            return super()._find(kind, at, scope, build)
        change, given = self._next
        task = build(change, self._payload.get("walk") or {}, at.number + 1)
        return Onward(task if given is None else replace(task, priority=given), ended=False)


def _ranked(follow_up: NewTask | IncrementalStart, priority: float) -> NewTask | IncrementalStart:
    """The same with another priority."""
    if isinstance(follow_up, NewTask):
        return replace(follow_up, priority=priority)

    def build(state: CursorState | None) -> NewTask | None:
        task = follow_up.build(state)
        return None if task is None else replace(task, priority=priority)

    return IncrementalStart(follow_up.state_key, build)


def plain_record(record: Any) -> dict[str, Any]:
    """A record as JSON holds it. Raises HookError that names the field that is none."""
    if not isinstance(record, Mapping):
        raise HookError(f"a record is a map of fields, no {type(record).__name__}")
    plain: dict[str, Any] = plain_json(record, "")
    return plain


def plain_json(value: Any, where: str) -> Any:
    """A value as JSON holds it. Raises HookError that names the part that is none."""
    try:
        return orjson.loads(orjson.dumps(value, default=_as_map))
    except (TypeError, ValueError) as error:
        raise HookError(_what_is_no_json(value, where) or f"the record is no JSON: {error}") from None


def _as_map(value: Any) -> Any:
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError


def _what_is_no_json(value: Any, where: str) -> str:
    """Which part of a value is no JSON; empty when each is, and only the whole is not."""
    if isinstance(value, Mapping):
        for name, member in value.items():
            if not isinstance(name, str):
                return f"{where or 'the record'}: the name {name!r} is a {type(name).__name__}, no text"
            if found := _what_is_no_json(member, f"{where}.{name}" if where else name):
                return found
        return ""
    if isinstance(value, list | tuple):
        for at, member in enumerate(value):
            if found := _what_is_no_json(member, f"{where}[{at}]"):
                return found
        return ""
    try:
        orjson.dumps(value)
    except (TypeError, ValueError) as error:
        known = isinstance(value, str | int)
        return f"{where}: {error}" if known else f"{where}: a {type(value).__name__} is no JSON value"
    return ""


def number_of(priority: Any) -> float | None:
    """A priority as a number; None where none is given. Raises HookError."""
    if priority is None:
        return None
    value = priority.isoformat() if isinstance(priority, datetime | date) else priority
    number = None if isinstance(value, bool) else as_number(value)
    if number is None or not math.isfinite(number):
        raise HookError(f"priority: {priority!r} is no finite number and no time")
    return float(number)


def _pairs(params: Mapping[str, Any]) -> Any:
    for name, value in params.items():
        for one in value if isinstance(value, list | tuple) else (value,):
            if one is not None:
                yield name, as_text(one) or ""
