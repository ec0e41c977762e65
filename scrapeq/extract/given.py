"""What a handler gives, made into items and follow-ups as the plan says it of declared ones."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from datetime import date, datetime
from typing import Any

import orjson

from scrapeq.clock import Clock, SystemClock
from scrapeq.errors import HookError, UsageError
from scrapeq.expression import as_number, as_text, did_you_mean
from scrapeq.expression.scope import answer_scope
from scrapeq.extract.kind import Edge, Kind, compile_kinds
from scrapeq.hooks import FollowUp, NewItem, NewRequest
from scrapeq.page import Page
from scrapeq.plan import Plan
from scrapeq.protocols import Change, Extraction, Item
from scrapeq.resource import GroupOf, Payload, TaskBuilder
from scrapeq.resource.address import clean, with_params
from scrapeq.resource.next_request import JSON_TYPE, Request
from scrapeq.task import NewTask


class GivenResults:
    """
    Args:
        plan: `client.base_url` must be the real address.
        group_of: Says which limits a follow-up belongs to.
        clock: For `now` in expressions.

    Raises:
        UsageError: a path in the plan is none.
    """

    def __init__(self, plan: Plan, group_of: GroupOf, *, clock: Clock | None = None) -> None:
        self.kinds = compile_kinds(plan)
        self.builder = TaskBuilder(plan, group_of)
        self.clock = clock or SystemClock()

    def of(self, payload: Payload, priority: float, page: Page) -> GivenPage:
        """What is given of one page."""
        return GivenPage(self, payload, priority, page)

    def changed(self, item: Item, record: Any) -> Item:
        """The item with another record: its key follows, where the record has what makes it. Raises HookError."""
        plain = plain_record(record)
        if plain == item.record:
            return item
        kind = self.kinds[item.resource]
        has_key = all(name in plain for name, _ in kind.key_paths)
        return replace(item, record=plain, key=kind.key(plain, plain) if has_key else item.key)


class GivenPage:
    """The results of one page; `take` gives what came since it was called last."""

    def __init__(self, given: GivenResults, payload: Payload, priority: float, page: Page) -> None:
        self._given = given
        self._kind = given.kinds[payload["resource"]]
        self._payload = payload
        self._priority = priority
        self._page = page
        self._now_s = given.clock.now_s()
        self._parents: Mapping[str, Any] = payload.get("parents") or {}
        self._records: list[Any] = []
        self._part = Extraction()

    @property
    def size(self) -> int:
        """Items and follow-ups that wait to be taken."""
        return len(self._part.items) + len(self._part.follow_ups)

    def take(self) -> Extraction:
        """What was added since."""
        part, self._part = self._part, Extraction()
        return part

    def add(self, result: Any) -> None:
        """
        One result of a handler.

        Raises:
            HookError: it is none, or of a resource that does not fit.
        """
        if isinstance(result, FollowUp):
            self._follow(result)
        elif isinstance(result, NewRequest):
            self._request(result)
        elif isinstance(result, NewItem):
            self._item(self._resource(result.resource), result.record, result.parent)
        elif isinstance(result, Mapping):
            self._item(self._kind, result, None)
        else:
            raise HookError(
                f"a {type(result).__name__} is no result: give a map, or what context.item, follow, request or "
                "next_page returns"
            )

    def _resource(self, name: str) -> Kind:
        kind = self._given.kinds.get(name)
        if kind is None:
            near = did_you_mean(name, self._given.kinds)
            hint = f"did you mean {near}?" if near else f"there are: {', '.join(self._given.kinds)}"
            raise HookError(f"no resource is called {name!r}; {hint}")
        return kind

    def _item(self, kind: Kind, record: Any, parent: Any) -> None:
        plain = plain_record(record)
        own = kind is self._kind
        above = self._payload.get("parent") if own and parent is None else parent
        above_name = self._payload.get("parent_resource") if own else self._kind.name
        resource = kind.resource
        scope = self._scope(kind.name, plain, above)
        if resource.record_filter is not None and not resource.record_filter.evaluate(scope):
            return
        if resource.selected:
            written = kind.output(plain, scope, above, above_name)
            if written is None:
                self._part.skipped += 1  # a required field is null
                return
            seed = self._payload.get("seed") or {}
            self._part.items.append(Item(kind.name, kind.key(written, plain), written, seed))

    def _scope(self, name: str, record: Any, parent: Any) -> Mapping[str, Any]:
        payload = self._payload
        return answer_scope(
            self._page,
            records=self._records,
            record=record,
            parent=parent,
            resources={**self._parents, self._kind.name: record},
            seed=payload.get("seed") or {},
            depth=payload.get("depth", 0),
            page=payload.get("page", 1),
            resource=name,
            now=self._now_s,
        )

    def _follow(self, result: FollowUp) -> None:
        edges = [edge for edge in self._kind.edges if edge.child.name == result.resource]
        if not edges:
            self._resource(result.resource)
            raise HookError(
                f"{result.resource} is no child of {self._kind.name}: write `parent: {self._kind.name}` in it, "
                "or give context.request"
            )
        record = plain_record(result.record)
        rank = self._kind.rank(self._scope(self._kind.name, record, self._payload.get("parent")))
        inherited = self._priority if rank is None else rank
        given = number_of(result.priority)
        for edge in edges:
            for element in edge.elements(record):
                self._child(edge, record, element, inherited, given)

    def _child(self, edge: Edge, record: Any, element: Any, inherited: float, given: float | None) -> None:
        child, declared = edge.child, edge.parent
        scope = self._scope(child.name, record, element)
        if declared.when is not None and not declared.when.evaluate(scope):
            return
        if child.resource.endpoint is None:
            self._item(child, element if isinstance(element, Mapping) else {"value": element}, record)
            return
        own = None if declared.priority is None else as_number(declared.priority.evaluate(scope))
        try:
            task = self._given.builder.child(
                child.resource,
                self._kind.name,
                seed=self._payload.get("seed") or {},
                parent=element,
                ancestors={**self._parents, self._kind.name: record},
                depth=self._payload.get("depth", 0) + 1,
                priority=given if given is not None else inherited if own is None else own,
                now_s=self._now_s,
            )
        except UsageError:
            task = None  # as for a declared one: its values make no address
        self._push(task)

    def _request(self, result: NewRequest) -> None:
        given = number_of(result.priority)
        priority = self._priority if given is None else given
        payload = self._payload
        if result.is_next_page:
            try:
                self._push(self._given.builder.next_page(payload, Change(url=clean(result.url)), priority))
            except UsageError as error:
                raise HookError(str(error)) from None
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
        above = self._parents if parent is None else {**self._parents, self._kind.name: parent}
        try:
            task = self._given.builder.requested(
                kind.resource,
                Request(result.method.upper(), url, headers, body),
                priority,
                seed=payload.get("seed") or {},
                parent=parent,
                edge=None if parent is None else self._kind.name,
                ancestors=above,
                depth=payload.get("depth", 0) + 1,
            )
        except UsageError as error:
            raise HookError(str(error)) from None
        self._push(task)

    def _push(self, task: NewTask | None) -> None:
        if task is None:
            self._part.skipped += 1
        else:
            self._part.follow_ups.append(task)


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
