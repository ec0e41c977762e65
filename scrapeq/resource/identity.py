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
from scrapeq.resource.ancestor_fields import request_fields, select_fields

LABEL_LENGTH = 80
CHAIN_ID_LENGTH = 16  # hex digits


class Ancestry(NamedTuple):
    """
    What lies above a first page: its seed, the parent's record or an element of it, the records by resource; and the
    occurrence of a schedule that it is asked for in (0 = none).
    """

    seed: Mapping[str, Any]
    parent: Any = None
    edge: str | None = None
    ancestors: Mapping[str, Any] = {}
    occurrence: int = 0


def ancestry_of_seed(resource: Resource, seed: Mapping[str, Any], occurrence: int = 0) -> Ancestry:
    """What lies above a page that a seed begins: no parent's record, but its fields keep their names."""
    edge = resource.parents[0].resource if resource.parents else None
    return Ancestry(seed, edge=edge, occurrence=occurrence)


def ancestry_of(payload: Mapping[str, Any]) -> Ancestry:
    """What lay above a page, as far as its payload carries it."""
    seed, parent = payload.get("seed") or {}, payload.get("parent")
    edge, ancestors = payload.get("parent_resource"), payload.get("parents") or {}
    return Ancestry(seed, parent, edge, ancestors, payload.get("occurrence", 0))


class Identities:
    """The identities of a plan's walks."""

    def __init__(self, plan: Plan) -> None:
        self._request_fields = {resource.name: request_fields(resource) for resource in plan.resources}
        self._keys = {resource.name: resource.primary_key for resource in plan.resources}

    def state_key(self, resource: Resource, ancestry: Ancestry) -> tuple[str, str]:
        """Under what its state is kept, and whose it is, for people; empty when no record's."""
        parts = self._identity_parts(resource, ancestry)
        own = self._parent_key(ancestry)
        label = ""
        if ancestry.edge is not None and own is not None:
            parts["resources"].pop(ancestry.edge, None)
            if ancestry.parent is ancestry.ancestors.get(ancestry.edge):
                parts["parent"] = None
            parts["key"] = own
            label = "/".join(as_text(part) or "" for part in own)
        if not label and parts["parent"] is not None:
            label = as_text(parts["parent"]) or ""
        if label:  # what tells it from one of the same name below another record
            label = "/".join([*_values_as_text(parts["resources"]), label])
        return f"{resource.name}:{_digest(parts)}", label[:LABEL_LENGTH]

    def chain_id(self, resource: Resource, ancestry: Ancestry) -> str:
        """What tells its walk from others: by all that its request says, but for the time and what was kept."""
        return _digest([resource.name, self._identity_parts(resource, ancestry)])[:CHAIN_ID_LENGTH]

    def _identity_parts(self, resource: Resource, ancestry: Ancestry) -> dict[str, Any]:
        requested = self._request_fields[resource.name]
        named = {
            name: select_fields(ancestry.ancestors[name], fields)
            for name, fields in requested.parents.items()
            if name in ancestry.ancestors
        }
        return {
            "seed": ancestry.seed,
            "edge": ancestry.edge,
            "parent": None if ancestry.parent is None else select_fields(ancestry.parent, requested.parent),
            "resources": named,
        }

    def _parent_key(self, ancestry: Ancestry) -> list[Any] | None:
        """The parent's, if it is all there."""
        names = self._keys.get(ancestry.edge or "", ())
        record = ancestry.ancestors.get(ancestry.edge or "")
        values = [_field_at(record, name) for name in names]
        return None if not values or None in values else values


def _values_as_text(records: Mapping[str, Any]) -> list[str]:
    """The values that requests ask for of these records, as text."""
    inner = [list(one.values()) if isinstance(one, Mapping) else [one] for one in records.values()]
    return [as_text(value) or "" for values in inner for value in values]


def _field_at(record: Any, path: str) -> Any:
    if isinstance(record, Mapping) and path in record:
        return record[path]
    for name in path.split("."):
        if not isinstance(record, Mapping):
            return None
        record = record.get(name)
    return record


def _digest(value: Any) -> str:
    return digest(orjson.dumps(value, option=orjson.OPT_SORT_KEYS | orjson.OPT_NON_STR_KEYS, default=dict))
