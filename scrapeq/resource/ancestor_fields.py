"""
What a task must carry of the records above it: only the fields that an expression will ask for.

A queue of a million tasks is a million payloads; a parent's whole record in each would be most of the memory.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from scrapeq.expression import Expression, Template
from scrapeq.plan import Field, Match, Plan, Resource, ResponseAction

Fields = frozenset[str] | None
"""Top-level fields of a record; None = all of it."""


@dataclass(frozen=True, slots=True)
class InheritedFields:
    """What a resource's tasks carry: fields of the parent, and of further records above by their resource."""

    parent: Fields = frozenset()
    parents: Mapping[str, Fields] = field(default_factory=dict)


def select_fields(record: Any, fields: Fields) -> Any:
    """The record with these fields alone; what is no map stays whole."""
    if fields is None or not isinstance(record, Mapping):
        return record
    return {name: record[name] for name in sorted(fields) if name in record}


def inherited_fields(plan: Plan) -> dict[str, InheritedFields]:
    """What each resource's tasks carry, by the resource's name."""
    parents: dict[str, dict[str, Fields]] = {}
    for resource in plan.resources:
        found: dict[str, Fields] = {}
        for path in _paths(plan, resource):
            _add_path(found, path)
        for parent in resource.parents:
            # An edge is judged on the parent's page, so the parent's task must have what it asks for.
            for path in _paths_in((parent.when, parent.priority)):
                _add_path(found, path)
        parents[resource.name] = found
    changed = True
    while changed:  # what a child needs, its parent must hand on; trees of resources may have cycles
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
    """What the request of a resource says of the records above it: two of which this is alike are asked for alike."""
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
        return None  # nobody knows what a function reads
    names = {part for name in resource.include_from_parent for part in (name, name.partition(".")[0])}
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
    """Every attribute path that is read while a task of this resource is built, answered or extracted."""
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
