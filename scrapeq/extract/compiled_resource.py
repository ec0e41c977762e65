"""Resources compiled for extraction: paths, fields and paginators are prepared once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import orjson

from scrapeq.expression import Expression, as_number, as_text
from scrapeq.extract.decode import Body
from scrapeq.extract.fields import Read, Scope, compile_field
from scrapeq.extract.pagination import Pagination
from scrapeq.extract.record_shapes import compile_endpoint_records
from scrapeq.extract.selector import Path, Records, compile_path, compile_presence, unwrapped
from scrapeq.plan import Endpoint, Field, Incremental, Paginator, Parent, Plan, Resource
from scrapeq.resource.address import digest

_SCOPES = ("seed.", "parent.")


@dataclass(frozen=True, slots=True)
class Edge:
    """What follows from a record: the child's compiled resource, the edge as configured, and its `each` compiled."""

    child: CompiledResource
    parent: Parent
    each: Path | None

    def elements(self, record: Any) -> list[Any]:
        """Return the record itself, or the elements that `each` selects; nulls are left out."""
        found = record if self.each is None else self.each(record)
        if self.each is not None and isinstance(found, list):
            return [element for element in found if element is not None]
        return [] if found is None else [found]


class WarningsGiven(NamedTuple):
    """What is known of a resource's pages, so that a warning is given once."""

    has_records: bool
    has_keyless_records: bool
    topics: frozenset[str]


@dataclass(slots=True)
class CompiledResource:
    """One resource: how its pages are read and what its records become."""

    resource: Resource
    endpoint: Endpoint
    records: Records
    pagination: Pagination
    fields: tuple[tuple[str, Read], ...]
    required: tuple[str, ...]
    key_paths: tuple[tuple[str, Path], ...]
    included: tuple[tuple[str, Path], ...]
    included_from_seed: tuple[tuple[str, Path], ...]
    needs_scope: bool  # whether any expression is evaluated for each record
    presence: Path | None = None  # the data_selector, if it tells an empty list from a missing one
    cursor: Path | None = None  # `incremental.cursor_path`, into a record
    scoped_keys: frozenset[str] = frozenset()  # the parts of the primary key that seed and parent hold
    is_key_whole: bool = field(init=False)  # see `names_origin`
    token: Path | None = None  # `incremental.token_path`, into the body
    edges: list[Edge] = field(default_factory=list)
    nested_edges: list[Edge] = field(default_factory=list)  # the edges to records inside a record
    request_edges: list[Edge] = field(default_factory=list)  # the edges to requests
    can_stream: bool = False  # whether rows may be read one by one: nothing needs all of them at once
    has_records: bool = False  # whether any page had a record
    has_keyless_records: bool = False  # whether any record lacked every part of the primary key
    warned: set[str] = field(default_factory=set)  # the topics of warnings already given

    def __post_init__(self) -> None:
        self.is_key_whole = self.names_origin()

    @property
    def name(self) -> str:
        """The resource's name."""
        return self.resource.name

    @property
    def url_paths(self) -> frozenset[tuple[str, ...]]:
        """The attribute paths that the URL reads, each as a tuple of names."""
        templates = (self.endpoint.path, self.endpoint.url)
        return frozenset[tuple[str, ...]]().union(*(one.paths for one in templates if one is not None))

    def add_edge(self, edge: Edge) -> None:
        """Add a child that follows from its records."""
        self.edges.append(edge)
        (self.nested_edges if edge.child.resource.endpoint is None else self.request_edges).append(edge)

    def records_in(self, value: Any, body: Body) -> list[Any]:
        """Return the records of a decoded body; `value` is its whole value."""
        if body.is_text:
            return [{"text": value}] if value else []
        return self.records(unwrapped(value) if body.is_tree and not self.endpoint.data_selector else value)

    def output_record(
        self, record: Any, scope: Scope, parent: Any, parent_name: str | None, seed: Mapping[str, Any]
    ) -> dict[str, Any] | None:
        """
        Return the record as written: `fields`, then `include_from_parent` as `_parent_field`, and of the seed.

        None if a required field is null.
        """
        if self.fields:
            output = {name: read(record, scope) for name, read in self.fields}
            for name in self.required:
                if output[name] is None:
                    return None
        else:
            output = as_fields(record)
        if self.included:
            output = dict(output)
            for name, read in self.included:
                output[f"_{parent_name}_{name}"] = read(parent)
        if self.included_from_seed:
            output = {**output, **{f"_seed_{name}": read(seed) for name, read in self.included_from_seed}}
        return output

    def parent_view(self, record: Any, output: Mapping[str, Any] | None) -> Any:
        """
        Return the record as its children see it: the server's fields, and the configured `fields` with other names.

        A resource that is its own parent can thus pass on what it has assembled on the way, such as a path.
        """
        if output is None or output is record or not isinstance(record, dict):
            return record
        return {**output, **record}

    def item_key(
        self,
        output: dict[str, Any],
        record: Any,
        *,
        seed: Mapping[str, Any],
        parent: Any,
    ) -> tuple[str, bool]:
        """
        Return the item's key: the primary key as text, several keys as a JSON list, or a digest of the content.

        Args:
            output, record: The record as written, and as the server sent it.
            seed, parent: What led to it.

        Returns:
            The key, and whether it is that of the content, so that equal records have equal keys.
        """
        if len(self.key_paths) == 1 and not self.scoped_keys:
            (name, read) = self.key_paths[0]
            part = output[name] if name in output else read(record)
            if type(part) is int or (type(part) is str and part):  # nearly all records
                return str(part), False
        around = {"seed": seed, "parent": parent}
        parts = [
            read(around) if name in self.scoped_keys else output[name] if name in output else read(record)
            for name, read in self.key_paths
        ]
        own = [
            part
            for (name, _), part in zip(self.key_paths, parts, strict=True)
            if name not in self.scoped_keys
        ]
        if all(part is None for part in own) or (len(parts) == 1 and not as_text(parts[0])):
            self.has_keyless_records = bool(own) and all(part is None for part in own)
            return digest(orjson.dumps(output, option=orjson.OPT_SORT_KEYS)), True
        text = as_text(parts[0]) if len(parts) == 1 else None
        return text or orjson.dumps(parts, option=orjson.OPT_SORT_KEYS).decode(), False

    def names_origin(self) -> bool:
        """Return whether the key alone is the identity of a record, without the seed and the parent that led to it."""
        resource = self.resource
        included = {f"_seed_{name}" for name in resource.include_from_seed}
        included |= {
            f"_{one.resource}_{name}" for one in resource.parents for name in resource.include_from_parent
        }
        names_it = bool(self.scoped_keys) or not included.isdisjoint(resource.primary_key)
        return names_it or resource.key_scope == "global"

    def is_first_warning(self, topic: str) -> bool:
        """Return whether this is the first warning on a topic, and remember it."""
        new = topic not in self.warned
        self.warned.add(topic)
        return new

    def warnings_given(self) -> WarningsGiven:
        """Return what the warnings given so far were about."""
        return WarningsGiven(self.has_records, self.has_keyless_records, frozenset(self.warned))

    def add_warnings(self, given: WarningsGiven) -> None:
        """Remember warnings that another process gave."""
        self.has_records = self.has_records or given.has_records
        self.has_keyless_records = self.has_keyless_records or given.has_keyless_records
        self.warned |= given.topics

    def priority_of(self, scope: Scope) -> float | None:
        """Evaluate the resource's `priority` on the record of the scope; None if it gives no number."""
        return None if self.resource.priority is None else as_number(self.resource.priority.evaluate(scope))


def compile_resources(plan: Plan) -> dict[str, CompiledResource]:
    """
    Compile every resource of the plan and connect it to its children.

    Raises:
        UsageError: a path is invalid.
    """
    compiled_resources = {resource.name: _compile(resource) for resource in plan.resources}
    for resource in plan.resources:
        for parent in resource.parents:
            if parent.resource in compiled_resources:
                each = compile_path(parent.each, "each") if parent.each else None
                compiled_resources[parent.resource].add_edge(
                    Edge(compiled_resources[resource.name], parent, each)
                )
    for compiled in compiled_resources.values():
        compiled.can_stream = compiled.pagination.can_stream and not {"records", "body"} & _names_on_page(
            compiled, set()
        )
        compiled.can_stream = (
            compiled.can_stream
            and compiled.endpoint.data_selector in ("", "@")
            and not compiled.endpoint.key_as
            and not compiled.endpoint.columns
            and compiled.token is None
        )
    return compiled_resources


def _compile(resource: Resource) -> CompiledResource:
    endpoint = resource.endpoint or Endpoint(paginator=Paginator())
    incremental = endpoint.incremental or Incremental()
    paginator = endpoint.paginator
    if endpoint.incremental is not None:
        # The state is stored after the last page, and pages that are requested at once end in any order.
        paginator = replace(paginator, fan_out=False)
    return CompiledResource(
        resource=resource,
        endpoint=endpoint,
        records=compile_endpoint_records(endpoint, resource.primary_key),
        pagination=Pagination(resource.name, paginator, endpoint.data_selector),
        fields=tuple((name, compile_field(name, source)) for name, source in resource.fields.items()),
        required=tuple(
            name for name, source in resource.fields.items() if isinstance(source, Field) and source.required
        ),
        key_paths=tuple((name, _key_path(name)) for name in resource.primary_key),
        included=tuple((name, _key_path(name)) for name in resource.include_from_parent),
        included_from_seed=tuple((name, _key_path(name)) for name in resource.include_from_seed),
        scoped_keys=frozenset(name for name in resource.primary_key if name.startswith(_SCOPES)),
        needs_scope=bool(list(_expressions(resource))),
        presence=compile_presence(endpoint.data_selector),
        cursor=compile_path(incremental.cursor_path, "incremental.cursor_path")
        if incremental.cursor_path
        else None,
        token=compile_path(incremental.token_path, "incremental.token_path")
        if incremental.token_path
        else None,
    )


def _expressions(resource: Resource) -> Iterator[Expression]:
    """Yield the expressions that are evaluated for each record."""
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


def _names_on_page(compiled: CompiledResource, seen: set[str]) -> set[str]:
    """Return the names that expressions may read while a page of this resource is extracted."""
    if compiled.name in seen:
        return set()
    seen.add(compiled.name)
    paginator = compiled.endpoint.paginator
    found = {name for one in _expressions(compiled.resource) for name in one.names}
    for one in (paginator.stop_when, paginator.priority):
        found |= set() if one is None else one.names
    for edge in compiled.edges:
        for one in (edge.parent.when, edge.parent.priority):
            found |= set() if one is None else one.names
        if edge.child.resource.endpoint is None:
            found |= _names_on_page(edge.child, seen)
    return found


def as_fields(record: Any) -> dict[str, Any]:
    """Return a record as a map; another value becomes its field `value`."""
    return record if isinstance(record, dict) else {"value": record}


def _key_path(name: str) -> Path:
    # The name of a field goes first, since it may be no valid path ("x-id").
    if "." in name:
        path = compile_path(name, "primary_key")
        return lambda record: record[name] if isinstance(record, dict) and name in record else path(record)
    return lambda record: record.get(name) if isinstance(record, dict) else None
