"""A walk that begins anew (`reset_pagination`): from its first page's request, which its pages remember. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from scrapeq.plan import Plan

RESETS_MAX = 3  # of one walk; a server that loses its cursors more often loses them always
_FIRST, _RESETS = "first", "resets"  # members of a payload


def restartable_resources(plan: Plan) -> frozenset[str]:
    """The resources whose walks may begin anew, so that their pages must remember the first one."""
    found: set[str] = set()
    for name in (resource.name for resource in plan.resources):
        actions = (*plan.resource_actions.get(name, ()), *plan.response_actions)
        if any(
            one.action == "reset_pagination" and (not one.match.resource or name in one.match.resource)
            for one in actions
        ):
            found.add(name)
    return frozenset(found)


def record_first_page(before: Mapping[str, Any], following: dict[str, Any]) -> dict[str, Any]:
    """
    A next page's payload that remembers the walk's first page.

    What is kept is what the walk has changed: members and their first values, null where the first page had none.
    """
    first = dict(before.get(_FIRST) or {})
    for name in {*before, *following} - {_FIRST, *first}:
        if before.get(name) != following.get(name):
            first[name] = before.get(name)
    return {**following, _FIRST: first}


def restart_payload(payload: Mapping[str, Any]) -> dict[str, Any] | None:
    """The payload of the walk's first page, to be asked for again; None when that was done often enough."""
    resets = payload.get(_RESETS, 0) + 1
    if resets > RESETS_MAX:
        return None
    begun = {**payload, **(payload.get(_FIRST) or {}), _RESETS: resets}
    begun.pop(_FIRST, None)
    return {name: value for name, value in begun.items() if value is not None or name in payload}


def key_after_restarts(key: str, payload: Mapping[str, Any]) -> str:
    """The identity of a page: those of a walk that began anew are no duplicates of those before."""
    resets = payload.get(_RESETS, 0)
    return f"{key} again {resets}" if resets else key


def is_restart(payload: Mapping[str, Any]) -> bool:
    """Whether it is the first page of a walk that began anew."""
    return bool(payload.get(_RESETS)) and payload.get("page", 1) == 1
