"""A resource made ready for extraction: everything compiled that can be, once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import orjson

from scrapeq.expression import Expression, as_number, as_text
from scrapeq.extract.fields import Read, Scope, compile_field
from scrapeq.extract.pagination import Pagination
from scrapeq.extract.selector import Path, Records, compile_path, compile_records
from scrapeq.plan import Endpoint, Field, Incremental, Paginator, Parent, Plan, Resource
from scrapeq.resource.address import digest


@dataclass(frozen=True, slots=True)
class Edge:
    """What follows from a record: the child's kind, the edge as written, and its `each` compiled."""

    child: CompiledResource
    parent: Parent
    each: Path | None

    def elements(self, record: Any) -> list[Any]:
        """The record itself, or the elements that `each` leads to; nulls left out."""
        found = record if self.each is None else self.each(record)
        if self.each is not None and isinstance(found, list):
            return [element for element in found if element is not None]
        return [] if found is None else [found]


@dataclass(slots=True)
class CompiledResource:
    """One resource: how its page is read and what its records become."""

    resource: Resource
    endpoint: Endpoint
    records: Records
    walk: Pagination
    fields: tuple[tuple[str, Read], ...]
    required: tuple[str, ...]
    key_paths: tuple[tuple[str, Path], ...]
    included: tuple[tuple[str, Path], ...]
    reads_scope: bool  # whether a record's scope is asked for at all
    cursor: Path | None = None  # incremental: into a record
    token: Path | None = None  # incremental: into the body
    edges: list[Edge] = field(default_factory=list)
    inner: list[Edge] = field(default_factory=list)  # those of its edges that lead to records inside a record
    outer: list[Edge] = field(default_factory=list)  # and those that lead to requests
    streams: bool = False  # whether rows may be read one by one, since nothing asks for all of them
    found: bool = False  # whether there was ever a record
    keyless: bool = False  # whether there was one without any part of the primary key
    doubted: set[str] = field(default_factory=set)

    @property
    def name(self) -> str:
        """The resource's name."""
        return self.resource.name

    @property
    def address_paths(self) -> frozenset[tuple[str, ...]]:
        """What its path and url ask for, name by name."""
        asked = (self.endpoint.path, self.endpoint.url)
        return frozenset[tuple[str, ...]]().union(*(one.paths for one in asked if one is not None))

    def join(self, edge: Edge) -> None:
        """One more that follows from its records."""
        self.edges.append(edge)
        (self.inner if edge.child.resource.endpoint is None else self.outer).append(edge)

    def output(
        self, record: Any, scope: Scope, parent: Any, parent_name: str | None
    ) -> dict[str, Any] | None:
        """
        The record as it is written: `fields`, then `include_from_parent` as `_parent_field`.

        None when a required field is null.
        """
        if self.fields:
            written = {name: read(record, scope) for name, read in self.fields}
            for name in self.required:
                if written[name] is None:
                    return None
        elif isinstance(record, dict):
            written = record
        else:
            written = {"value": record}
        if self.included:
            written = dict(written)
            for name, read in self.included:
                written[f"_{parent_name}_{name}"] = read(parent)
        return written

    def above(self, record: Any, written: Mapping[str, Any] | None) -> Any:
        """
        The record as what follows from it sees it: what the server gave, and the `fields` that have other names.

        A resource that is its own parent hands down so what it has put together on the way, a path for instance.
        """
        if written is None or written is record or not isinstance(record, dict):
            return record
        return {**written, **record}

    def key(self, written: dict[str, Any], record: Any) -> str:
        """Its identity for the sink: the primary key's text, a JSON list of several, else a digest of it all."""
        parts = [written[name] if name in written else path(record) for name, path in self.key_paths]
        if len(parts) == 1 and (text := as_text(parts[0])):
            return text
        if all(part is None for part in parts):
            self.keyless = bool(parts)
            return digest(orjson.dumps(written, option=orjson.OPT_SORT_KEYS))
        if len(parts) > 1:
            return orjson.dumps(parts, option=orjson.OPT_SORT_KEYS).decode()
        return digest(orjson.dumps(written, option=orjson.OPT_SORT_KEYS))

    def config_warnings(self, what: str) -> bool:
        """Whether that is doubted for the first time."""
        new = what not in self.doubted
        self.doubted.add(what)
        return new

    def rank(self, scope: Scope) -> float | None:
        """The resource's `priority` on the record of the scope; None when there is none."""
        return None if self.resource.priority is None else as_number(self.resource.priority.evaluate(scope))


def compile_resources(plan: Plan) -> dict[str, CompiledResource]:
    """
    Every resource of the plan by its name, joined to its children.

    Raises:
        UsageError: a path is none.
    """
    kinds = {resource.name: _compile(resource) for resource in plan.resources}
    for resource in plan.resources:
        for parent in resource.parents:
            if parent.resource in kinds:
                each = compile_path(parent.each, "each") if parent.each else None
                kinds[parent.resource].join(Edge(kinds[resource.name], parent, each))
    for kind in kinds.values():
        kind.streams = kind.walk.streams and not {"records", "body"} & _names_on_page(kind, set())
        kind.streams = kind.streams and kind.endpoint.data_selector in ("", "@") and kind.token is None
    return kinds


def _compile(resource: Resource) -> CompiledResource:
    endpoint = resource.endpoint or Endpoint(paginator=Paginator())
    kept = endpoint.incremental or Incremental()
    paginator = endpoint.paginator
    if (
        endpoint.incremental is not None
    ):  # pages all at once have no last one, after which its state may be kept
        paginator = replace(paginator, fan_out=False)
    return CompiledResource(
        resource=resource,
        endpoint=endpoint,
        records=compile_records(endpoint.data_selector, resource.primary_key),
        walk=Pagination(resource.name, paginator, endpoint.data_selector),
        fields=tuple((name, compile_field(name, source)) for name, source in resource.fields.items()),
        required=tuple(
            name for name, source in resource.fields.items() if isinstance(source, Field) and source.required
        ),
        key_paths=tuple((name, _key_path(name)) for name in resource.primary_key),
        included=tuple((name, _key_path(name)) for name in resource.include_from_parent),
        reads_scope=bool(list(_expressions(resource))),
        cursor=compile_path(kept.cursor_path, "incremental.cursor_path") if kept.cursor_path else None,
        token=compile_path(kept.token_path, "incremental.token_path") if kept.token_path else None,
    )


def _expressions(resource: Resource) -> Iterator[Expression]:
    """Those that are evaluated for each record."""
    for one in (resource.record_filter, resource.priority):
        if one is not None:
            yield one
    for source in resource.fields.values():
        while isinstance(source, Field):
            if source.value is not None:
                yield source.value
            source = source.default
        if isinstance(source, Expression):
            yield source


def _names_on_page(kind: CompiledResource, seen: set[str]) -> set[str]:
    """The names that expressions may ask for while a page of this kind is read."""
    if kind.name in seen:
        return set()
    seen.add(kind.name)
    paginator = kind.endpoint.paginator
    found = {name for one in _expressions(kind.resource) for name in one.names}
    for one in (paginator.stop_when, paginator.priority):
        found |= set() if one is None else one.names
    for edge in kind.edges:
        for one in (edge.parent.when, edge.parent.priority):
            found |= set() if one is None else one.names
        if edge.child.resource.endpoint is None:
            found |= _names_on_page(edge.child, seen)
    return found


def _key_path(name: str) -> Path:
    # A field's name first (it may hold what a path may not: "x-id"), a path second.
    if "." in name:
        path = compile_path(name, "primary_key")
        return lambda record: record[name] if isinstance(record, dict) and name in record else path(record)
    return lambda record: record.get(name) if isinstance(record, dict) else None
