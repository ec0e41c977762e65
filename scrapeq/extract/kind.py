"""A resource made ready for extraction: everything compiled that can be, once."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson

from scrapeq.expression import Expression, as_number, as_text
from scrapeq.extract.decode import writable
from scrapeq.extract.paginator import Walk
from scrapeq.extract.selector import Path, Records, compile_path, compile_records
from scrapeq.plan import Endpoint, Field, Paginator, Parent, Plan, Resource
from scrapeq.resource.address import digest

Scope = Mapping[str, Any]
LARGEST_WHOLE = 2**64 - 1
SMALLEST_WHOLE = -(2**63)


@dataclass(frozen=True, slots=True)
class Edge:
    """What follows from a record: the child's kind, the edge as written, and its `each` compiled."""

    child: Kind
    parent: Parent
    each: Path | None

    def elements(self, record: Any) -> list[Any]:
        """The record itself, or the elements that `each` leads to; nulls left out."""
        found = record if self.each is None else self.each(record)
        if self.each is not None and isinstance(found, list):
            return [element for element in found if element is not None]
        return [] if found is None else [found]


@dataclass(slots=True)
class Kind:
    """One resource: how its page is read and what its records become."""

    resource: Resource
    endpoint: Endpoint
    records: Records
    walk: Walk
    fields: tuple[tuple[str, Callable[[Any, Scope], Any]], ...]
    key_paths: tuple[tuple[str, Path], ...]
    edges: list[Edge] = field(default_factory=list)

    @property
    def name(self) -> str:
        """The resource's name."""
        return self.resource.name

    def output(self, record: Any, scope: Scope, parent: Any, parent_name: str | None) -> dict[str, Any]:
        """The record as it is written: `fields`, then `include_from_parent` as `_parent_field`."""
        if self.fields:
            written = {name: read(record, scope) for name, read in self.fields}
        elif isinstance(record, dict):
            written = record
        else:
            written = {"value": record}
        if self.resource.include_from_parent:
            above = parent if isinstance(parent, Mapping) else {}
            included = {
                f"_{parent_name}_{name}": above.get(name) for name in self.resource.include_from_parent
            }
            written = {**written, **included}
        return written

    def key(self, written: dict[str, Any], record: Any) -> str:
        """Its identity for the sink: the primary key's text, a JSON list of several, else a digest of it all."""
        parts = [written[name] if name in written else path(record) for name, path in self.key_paths]
        if all(part is None for part in parts):
            return digest(orjson.dumps(written, option=orjson.OPT_SORT_KEYS))
        if len(parts) > 1:
            return orjson.dumps(parts, option=orjson.OPT_SORT_KEYS).decode()
        return as_text(parts[0]) or digest(orjson.dumps(written, option=orjson.OPT_SORT_KEYS))

    def rank(self, scope: Scope) -> float | None:
        """The resource's `priority` on the record of the scope; None when there is none."""
        return None if self.resource.priority is None else as_number(self.resource.priority.evaluate(scope))


def compile_kinds(plan: Plan) -> dict[str, Kind]:
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
                kinds[parent.resource].edges.append(Edge(kinds[resource.name], parent, each))
    return kinds


def _compile(resource: Resource) -> Kind:
    endpoint = resource.endpoint or Endpoint(paginator=Paginator())
    return Kind(
        resource=resource,
        endpoint=endpoint,
        records=compile_records(endpoint.data_selector, resource.primary_key),
        walk=Walk(endpoint.paginator),
        fields=tuple((name, _compile_field(name, source)) for name, source in resource.fields.items()),
        key_paths=tuple((name, _key_path(name)) for name in resource.primary_key),
    )


def _compile_field(name: str, source: str | Expression | Field) -> Callable[[Any, Scope], Any]:
    if isinstance(source, Expression):
        return lambda record, scope: _plain(source.evaluate(scope))
    path = compile_path(source.path if isinstance(source, Field) else source, f"fields.{name}")
    return lambda record, scope: path(record)


def _key_path(name: str) -> Path:
    # A field's name first (it may hold what a path may not: "x-id"), a path second.
    if "." in name:
        path = compile_path(name, "primary_key")
        return lambda record: record[name] if isinstance(record, Mapping) and name in record else path(record)
    return lambda record: record.get(name) if isinstance(record, Mapping) else None


def _plain(value: Any) -> Any:
    """What an expression gave, as JSON can hold it."""
    if isinstance(value, str):
        return writable(value)
    if value is None or isinstance(value, bool | float):
        return value
    if isinstance(value, int):
        return value if SMALLEST_WHOLE <= value <= LARGEST_WHOLE else as_text(value)
    try:
        return orjson.loads(orjson.dumps(value, default=dict))
    except (TypeError, ValueError, RecursionError):
        return as_text(value)
