"""
Identities of incremental states and page sequences, equal from run to run whatever else changes in the parent records.

They belong to a resource, a seed and a parent record. The parent record counts by its primary key, if its resource has
one and the record has all of it, as in the outputs. Otherwise it counts by the fields that the request depends on, as
do the records further above.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import orjson

from scrapeq.expression import as_text
from scrapeq.plan import Plan, Resource
from scrapeq.resource.address import digest
from scrapeq.resource.ancestor_fields import request_fields, select_fields
from scrapeq.resource.payload import Payload

LABEL_LENGTH = 80
CHAIN_ID_LENGTH = 16  # hex digits
ORIGIN_LENGTH = 12  # hex digits


class Ancestry(NamedTuple):
    """
    What lies above a first page.

    Args:
        seed: The seed.
        parent: The parent's record, or the element of it.
        edge: The name of the parent's resource.
        ancestors: The records above, the parent's own among them, by resource.
        occurrence: The number of the scheduled run; 0 = none.
    """

    seed: Mapping[str, Any]
    parent: Any = None
    edge: str | None = None
    ancestors: Mapping[str, Any] = {}
    occurrence: int = 0


def ancestry_of_seed(resource: Resource, seed: Mapping[str, Any], occurrence: int = 0) -> Ancestry:
    """Return what lies above the first page of a seed: no record, but the name of the parent's resource."""
    edge = resource.parents[0].resource if resource.parents else None
    return Ancestry(seed, edge=edge, occurrence=occurrence)


def ancestry_of(payload: Payload) -> Ancestry:
    """Return what lies above a page, as far as its payload carries it."""
    seed, parent = payload.get("seed") or {}, payload.get("parent")
    edge, ancestors = payload.get("parent_resource"), payload.get("parents") or {}
    return Ancestry(seed, parent, edge, ancestors, payload.get("occurrence", 0))


class Identities:
    """The identities of a plan's incremental states and page sequences."""

    def __init__(self, plan: Plan) -> None:
        self._request_fields = {resource.name: request_fields(resource) for resource in plan.resources}
        self._keys = {resource.name: resource.primary_key for resource in plan.resources}

    def state_key(self, resource: Resource, ancestry: Ancestry) -> tuple[str, str]:
        """
        Return the key of an incremental state in the cursor store, and its label for the user.

        The label is empty for a state without a parent.
        """
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
        if (
            label
        ):  # the records further above distinguish it from one with the same label below another record
            label = "/".join([*_values_as_text(parts["resources"]), label])
        return f"{resource.name}:{_digest(parts)}", label[:LABEL_LENGTH]

    def origin(self, resource: Resource, ancestry: Ancestry) -> str:
        """
        Return a digest of the seed and the records that led to a page; empty if there are none.

        The URL of a seed does not count: it says where a record is, not what it belongs to.
        """
        parts = self._identity_parts(resource, ancestry)
        parts["seed"] = {name: value for name, value in ancestry.seed.items() if name != "url"}
        if not parts["seed"] and parts["parent"] is None:
            return ""
        return _digest(parts)[:ORIGIN_LENGTH]

    def chain_id(self, resource: Resource, ancestry: Ancestry) -> str:
        """Return the identity of a page sequence: what its request depends on, except the time and the cursor state."""
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
        """Return the parent's primary key, if the record has all of it."""
        names = self._keys.get(ancestry.edge or "", ())
        record = ancestry.ancestors.get(ancestry.edge or "")
        values = [_field_at(record, name) for name in names]
        return None if not values or None in values else values


def _values_as_text(records: Mapping[str, Any]) -> list[str]:
    """Return the values of these records as text."""
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
