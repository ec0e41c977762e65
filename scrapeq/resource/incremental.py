"""
Incremental walks: where one begins, what its pages carry, what is kept when it ends.

Each page's payload has a member `incremental`, of constant size:

    {"key", "parent", "start", "end", "token", "until",   what the walk, or this window of it, was begun with
     "kept": cursor, "cursor": the highest seen, "bookmark": the last token seen, "from": what was kept}

`until` is there when it is asked for in windows: the last one ends then. `kept` moves from one to the next, `from` not.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from scrapeq.expression import Expression, Template
from scrapeq.plan import Incremental
from scrapeq.protocols import CursorState
from scrapeq.resource.cursor_values import at_time, higher, in_form, moment_of, shifted

_BEGUN = "begun"  # of a state on its way: the cursor and the token that its walk began with
Part = dict[str, Any]
"""The member `incremental` of a payload."""


def begun(
    incremental: Incremental, key: str, parent: str, state: CursorState | None, scope: Mapping[str, Any]
) -> Part:
    """
    What a walk begins with.

    Args:
        incremental: What the resource says.
        key: Of what is kept.
        parent: Whose walk it is, for people; empty = no record's.
        state: What was kept; None = nothing.
        scope: `seed`, `parent` and `now`, for an initial value that is written with placeholders.
    """
    now_s = Decimal(str(scope["now"]))
    initial = incremental.initial_value
    if isinstance(initial, Expression):
        initial = initial.evaluate(scope)
    elif isinstance(initial, Template):
        initial = initial.render(scope)
    kept = state.get("cursor") if state else None
    token = state.get("token") if state else None
    start = initial if kept is None else shifted(kept, -incremental.lookback_s)
    part = {"key": key, "parent": parent, "start": start, "end": at_time(now_s, start), "token": token}
    if incremental.step_s is not None and start is not None:
        part["start"] = in_form(start, initial)
        part["until"] = float(now_s)
        part["end"] = _window_end(part["start"], incremental.step_s, now_s)
    return {**part, "kept": kept, "cursor": kept, "bookmark": token, "from": [kept, token]}


def restarted_bookmark(incremental: Incremental, part: Part, scope: Mapping[str, Any]) -> Part | None:
    """What a walk begins with whose token the server does not know any more; None when it began without one."""
    if part["token"] in (None, ""):
        return None
    new = begun(incremental, part["key"], part["parent"], {"cursor": part["kept"]}, scope)
    return {**new, "from": part.get("from", [part["kept"], part["token"]])}


def scope_of(part: Part | None) -> dict[str, Any]:
    """The name `incremental` of expressions."""
    part = part or {}
    return {"start_value": part.get("start"), "end_value": part.get("end"), "token": part.get("token")}


def with_cursor(part: Part, cursor: Any) -> Part:
    """The part after one more record."""
    highest = higher(part["cursor"], cursor)
    return part if highest is part["cursor"] else {**part, "cursor": highest}


def with_token(part: Part, token: Any) -> Part:
    """The part after one more page; the last token that is not null counts."""
    return part if token in (None, "") else {**part, "bookmark": token}


def beside(payload: Mapping[str, Any]) -> dict[str, Any]:
    """A page's payload for what is asked for beside its walk: it is no page of the chain, and its end keeps nothing."""
    other = {name: value for name, value in payload.items() if name != "chain"}
    return {**other, "incremental": {**other["incremental"], "key": ""}} if "incremental" in other else other


def next_window(incremental: Incremental, part: Part) -> Part | None:
    """The part of the window behind this one, whose last page was read; None when it was the last."""
    end = moment_of(part["end"])
    if part.get("until") is None or incremental.step_s is None or end is None:
        return None
    until_s = Decimal(str(part["until"]))
    if end.seconds + end.resolution_s > until_s:
        return None
    kept = higher(part["kept"], part["end"])  # all before it was read, though it may have had no record
    following = _window_end(part["end"], incremental.step_s, until_s)
    return {**part, "start": part["end"], "end": following, "kept": kept}


def kept_state(
    part: Part, following: Part | None, resource: str, seed: Mapping[str, Any], now_s: float
) -> tuple[str, CursorState] | None:
    """
    What is kept once the last page of a walk, or of a window of it, is acked; None when there is nothing to keep.

    Args:
        part: The last page's.
        following: The next window's, if there is one.
        resource: Whose walk it is.
        seed: The seed that it began with.
        now_s: Unix seconds.
    """
    # between windows: where the next one begins, for a record may be ahead of its window
    cursor = higher(part["kept"], part["cursor"]) if following is None else following["kept"]
    if cursor is None and part["bookmark"] is None:
        return None
    state = {
        "resource": resource,
        "seed": dict(seed),
        "parent": part["parent"],
        "cursor": cursor,
        "token": part["bookmark"],
        "at": now_s,
        _BEGUN: part.get("from", [part["kept"], part["token"]]),
    }
    return part["key"], state


def after_pagination(kept: CursorState | None, ended: CursorState) -> CursorState | None:
    """
    What is kept after a walk; None when that stays which is kept already.

    Between its begin and its end another walk may have gone farther (this one was a dead letter for a while), or a
    person has set back what is kept, or forgotten it: then more is asked for than this walk has read.

    Args:
        kept: What is kept now.
        ended: What the walk says (`kept_state`).
    """
    began, began_token = ended.get(_BEGUN) or (None, None)
    cursor, there = ended["cursor"], kept.get("cursor") if kept else None
    if cursor is None:
        stays = (kept.get("token") if kept else None) != began_token
    else:
        set_back = higher(there, began) != there
        stays = set_back or higher(cursor, there) != cursor
    return None if stays else {name: value for name, value in ended.items() if name != _BEGUN}


def _window_end(start: Any, step_s: float, until_s: Decimal) -> Any:
    """The end of the window that begins there: `step_s` on, yet not behind `until_s`, and never at its start."""
    found = moment_of(start)
    if found is None:
        return None
    step = max(Decimal(str(step_s)), found.resolution_s)
    return found.write(min(found.seconds + step, max(until_s, found.seconds)))
