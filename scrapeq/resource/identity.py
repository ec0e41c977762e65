"""
Whose walk it is: the same from run to run, whatever else of the records above it changes.

A walk belongs to a resource, a seed and a parent's record. The record is told by its primary key, where its resource
has one and the record has all of it: that is what tells it from others in the outputs, too. Else by what the request
says of it: where that is alike, the same is asked for. Records further above count by what the request says of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import orjson

from scrapeq.expression import as_text
from scrapeq.plan import Plan, Resource
from scrapeq.resource.address import digest
from scrapeq.resource.ancestor_fields import asked_fields, pruned

LABEL_LENGTH = 80
WALK_LENGTH = 16  # hex digits


class Above(NamedTuple):
    """
    What lies above a first page: its seed, the parent's record or an element of it, the records by resource; and the
    occurrence of a schedule that it is asked for in (0 = none).
    """

    seed: Mapping[str, Any]
    parent: Any = None
    edge: str | None = None
    ancestors: Mapping[str, Any] = {}
    occurrence: int = 0


def above_seed(resource: Resource, seed: Mapping[str, Any], occurrence: int = 0) -> Above:
    """What lies above a page that a seed begins: no parent's record, but its fields keep their names."""
    edge = resource.parents[0].resource if resource.parents else None
    return Above(seed, edge=edge, occurrence=occurrence)


def above_of(payload: Mapping[str, Any]) -> Above:
    """What lay above a page, as far as its payload carries it."""
    seed, parent = payload.get("seed") or {}, payload.get("parent")
    edge, ancestors = payload.get("parent_resource"), payload.get("parents") or {}
    return Above(seed, parent, edge, ancestors, payload.get("occurrence", 0))


class Identities:
    """The identities of a plan's walks."""

    def __init__(self, plan: Plan) -> None:
        self._asked = {resource.name: asked_fields(resource) for resource in plan.resources}
        self._keys = {resource.name: resource.primary_key for resource in plan.resources}

    def state_key(self, resource: Resource, above: Above) -> tuple[str, str]:
        """Under what its state is kept, and whose it is, for people; empty when no record's."""
        parts = self._asked_of(resource, above)
        own = self._primary_key(above)
        label = ""
        if above.edge is not None and own is not None:
            parts["resources"].pop(above.edge, None)
            if above.parent is above.ancestors.get(above.edge):
                parts["parent"] = None
            parts["key"] = own
            label = "/".join(as_text(part) or "" for part in own)
        if not label and parts["parent"] is not None:
            label = as_text(parts["parent"]) or ""
        if label:  # what tells it from one of the same name below another record
            label = "/".join([*_values_of(parts["resources"]), label])
        return f"{resource.name}:{_digest(parts)}", label[:LABEL_LENGTH]

    def walk(self, resource: Resource, above: Above) -> str:
        """What tells its walk from others: by all that its request says, but for the time and what was kept."""
        return _digest([resource.name, self._asked_of(resource, above)])[:WALK_LENGTH]

    def _asked_of(self, resource: Resource, above: Above) -> dict[str, Any]:
        asked = self._asked[resource.name]
        named = {
            name: pruned(above.ancestors[name], fields)
            for name, fields in asked.parents.items()
            if name in above.ancestors
        }
        return {
            "seed": above.seed,
            "edge": above.edge,
            "parent": None if above.parent is None else pruned(above.parent, asked.parent),
            "resources": named,
        }

    def _primary_key(self, above: Above) -> list[Any] | None:
        """The parent's, if it is all there."""
        names = self._keys.get(above.edge or "", ())
        record = above.ancestors.get(above.edge or "")
        values = [_member(record, name) for name in names]
        return None if not values or None in values else values


def _values_of(records: Mapping[str, Any]) -> list[str]:
    """The values that requests ask for of these records, as text."""
    inner = [list(one.values()) if isinstance(one, Mapping) else [one] for one in records.values()]
    return [as_text(value) or "" for values in inner for value in values]


def _member(record: Any, path: str) -> Any:
    if isinstance(record, Mapping) and path in record:
        return record[path]
    for name in path.split("."):
        if not isinstance(record, Mapping):
            return None
        record = record.get(name)
    return record


def _digest(value: Any) -> str:
    return digest(orjson.dumps(value, option=orjson.OPT_SORT_KEYS | orjson.OPT_NON_STR_KEYS, default=dict))
