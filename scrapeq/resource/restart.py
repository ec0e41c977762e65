"""Restarts of a pagination (`reset_pagination`) from the first page's request, which its pages remember. Pure."""

from __future__ import annotations

from typing import Any, cast

from scrapeq.plan import Plan
from scrapeq.resource.payload import Payload

RESETS_MAX = 3  # restarts of a pagination; a server that loses its cursors more often loses them every time


def restartable_resources(plan: Plan) -> frozenset[str]:
    """Return the resources with a `reset_pagination` action: their pages must remember the first one."""
    found: set[str] = set()
    for name in (resource.name for resource in plan.resources):
        actions = (*plan.resource_actions.get(name, ()), *plan.response_actions)
        if any(
            one.action == "reset_pagination" and (not one.match.resource or name in one.match.resource)
            for one in actions
        ):
            found.add(name)
    return frozenset(found)


def record_first_page(before: Payload, following: Payload) -> Payload:
    """
    Return the next page's payload with `first`, which restores the first page.

    It holds only the keys that have changed since, with their first values, null where the first page had none.
    """
    first = dict(before.get("first") or {})
    for name in {*before, *following} - {"first", *first}:
        if before.get(name) != following.get(name):
            first[name] = before.get(name)
    return {**following, "first": first}


def restart_payload(payload: Payload) -> Payload | None:
    """Return the payload of the first page, to request it again; None after RESETS_MAX restarts."""
    resets = payload.get("resets", 0) + 1
    if resets > RESETS_MAX:
        return None
    restarted: dict[str, Any] = {**payload, **(payload.get("first") or {}), "resets": resets}
    restarted.pop("first", None)
    values = {name: value for name, value in restarted.items() if value is not None or name in payload}
    return cast(Payload, values)


def key_after_restarts(key: str, payload: Payload) -> str:
    """Return the identity of a page; after a restart it differs, so that the pages are not duplicates."""
    resets = payload.get("resets", 0)
    return f"{key} again {resets}" if resets else key


def is_restart(payload: Payload) -> bool:
    """Return whether this is the first page of a restarted pagination."""
    return bool(payload.get("resets")) and payload.get("page", 1) == 1
