"""
Which fields of the records above it a task must carry: only those that some expression reads.

A queue of a million tasks holds a million payloads. Whole parent records would take most of the memory.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from scrapeq.expression import Expression, Template
from scrapeq.plan import Field, Match, Plan, Resource, ResponseAction

Fields = frozenset[str] | None
"""Top-level fields of a record; None = the whole record."""


@dataclass(frozen=True, slots=True)
class InheritedFields:
    """What the tasks of a resource carry: fields of the parent, and of records further above by resource."""

    parent: Fields = frozenset()
    parents: Mapping[str, Fields] = field(default_factory=dict)


def select_fields(record: Any, fields: Fields) -> Any:
    """Return the record with only these fields; a value that is not a map stays whole."""
    if fields is None or not isinstance(record, Mapping):
        return record
    return {name: record[name] for name in sorted(fields) if name in record}


def inherited_fields(plan: Plan) -> dict[str, InheritedFields]:
    """Return what the tasks of each resource carry, by the resource's name."""
    parents: dict[str, dict[str, Fields]] = {}
    for resource in plan.resources:
        found: dict[str, Fields] = {}
        for path in _paths(plan, resource):
            _add_path(found, path)
        for parent in resource.parents:
            # `when` and `priority` are evaluated on the parent's page, so the parent's task must carry their fields.
            for path in _paths_in((parent.when, parent.priority)):
                _add_path(found, path)
        parents[resource.name] = found
    changed = True
    while changed:  # a parent must carry what its children need; resources may form cycles
        changed = False
        for resource in plan.resources:
            for edge in resource.parents:
                above = parents.get(edge.resource)
                if above is None:
                    continue
                for name, fields in parents[resource.name].items():
                    both = _union(above[name], fields) if name in above else fields
                    if name not in above or both != above[name]:
                        above[name] = both
                        changed = True
    return {
        resource.name: InheritedFields(_parent_fields(plan, resource), parents[resource.name])
        for resource in plan.resources
    }


def request_fields(resource: Resource) -> InheritedFields:
    """Return which fields of the records above the request depends on: equal fields make equal requests."""
    names: set[str] = set()
    found: dict[str, Fields] = {}
    whole = False
    for path in _paths_in(_request_parts(resource)):
        _add_path(found, path)
        if path[0] == "parent":
            whole = whole or len(path) == 1
            names.update(path[1:2])
    return InheritedFields(None if whole else frozenset(names), found)


def _parent_fields(plan: Plan, resource: Resource) -> Fields:
    if _has_hooks(resource):
        return None  # a hook may read any field
    names = {part for name in resource.include_from_parent for part in (name, name.partition(".")[0])}
    names |= {name.split(".")[1] for name in resource.primary_key if name.startswith("parent.")}
    for path in _paths(plan, resource):
        if path[0] == "parent":
            if len(path) == 1:
                return None
            names.add(path[1])
    for rule in plan.rate_limits:
        if _applies_to(rule.match, resource):
            names |= {part.split(".")[1] for part in rule.partition_by if part.startswith("parent.")}
    return frozenset(names)


def _add_path(found: dict[str, Fields], path: tuple[str, ...]) -> None:
    if path[0] == "resources" and len(path) > 1:
        fields = frozenset({path[2]}) if len(path) > 2 else None
        found[path[1]] = _union(found[path[1]], fields) if path[1] in found else fields


def _union(first: Fields, second: Fields) -> Fields:
    return None if first is None or second is None else first | second


def _has_hooks(resource: Resource) -> bool:
    return bool(resource.handler or resource.on_page or resource.on_item)


def _applies_to(match: Match, resource: Resource) -> bool:
    return not match.resource or resource.name in match.resource


def _paths(plan: Plan, resource: Resource) -> Iterator[tuple[str, ...]]:
    """Yield every attribute path that is read while a task of this resource is built, sent or extracted."""
    yield from _paths_in((resource.record_filter, resource.priority, resource.fields))
    endpoint = resource.endpoint
    if endpoint is not None:
        paginator = endpoint.paginator
        yield from _paths_in((_request_parts(resource), paginator.stop_when, paginator.priority))
    actions = (*plan.resource_actions.get(resource.name, ()), *plan.response_actions)
    for action in actions:
        if _applies_to(action.match, resource):
            yield from _paths_in_action(action)
    for rule in plan.rate_limits:
        yield from _paths_in(rule.match.when)


def _request_parts(resource: Resource) -> Any:
    endpoint = resource.endpoint
    if endpoint is None:
        return ()
    initial = endpoint.incremental.initial_value if endpoint.incremental else None
    address = (endpoint.path, endpoint.url, endpoint.params)
    return (*address, endpoint.headers, endpoint.json, endpoint.data, initial)


def _paths_in_action(action: ResponseAction) -> Iterator[tuple[str, ...]]:
    yield from _paths_in((action.match.when, action.wait, action.message))


def _paths_in(value: Any) -> Iterator[tuple[str, ...]]:
    if isinstance(value, Expression | Template):
        yield from value.paths
    elif isinstance(value, Field):
        yield from _paths_in((value.value, value.default))
    elif isinstance(value, Mapping):
        for one in value.values():
            yield from _paths_in(one)
    elif isinstance(value, list | tuple):
        for one in value:
            yield from _paths_in(one)
