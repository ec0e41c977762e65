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
from scrapeq.resource.cursor_values import time_like, higher, value_like, moment_of, shifted

_BEGUN = "begun"  # of a state on its way: the cursor and the token that its walk began with
IncrementalProgress = dict[str, Any]
"""The member `incremental` of a payload."""


def start_progress(
    incremental: Incremental, key: str, parent: str, state: CursorState | None, scope: Mapping[str, Any]
) -> IncrementalProgress:
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
    stored = state.get("cursor") if state else None
    token = state.get("token") if state else None
    start = initial if stored is None else shifted(stored, -incremental.lookback_s)
    progress = {"key": key, "parent": parent, "start": start, "end": time_like(now_s, start), "token": token}
    if incremental.step_s is not None and start is not None:
        progress["start"] = value_like(start, initial)
        progress["until"] = float(now_s)
        progress["end"] = _window_end(progress["start"], incremental.step_s, now_s)
    return {**progress, "kept": stored, "cursor": stored, "bookmark": token, "from": [stored, token]}


def restart_without_token(incremental: Incremental, progress: IncrementalProgress, scope: Mapping[str, Any]) -> IncrementalProgress | None:
    """What a walk begins with whose token the server does not know any more; None when it began without one."""
    if progress["token"] in (None, ""):
        return None
    new = start_progress(incremental, progress["key"], progress["parent"], {"cursor": progress["kept"]}, scope)
    return {**new, "from": progress.get("from", [progress["kept"], progress["token"]])}


def incremental_scope(progress: IncrementalProgress | None) -> dict[str, Any]:
    """The name `incremental` of expressions."""
    progress = progress or {}
    return {"start_value": progress.get("start"), "end_value": progress.get("end"), "token": progress.get("token")}


def add_cursor(progress: IncrementalProgress, cursor: Any) -> IncrementalProgress:
    """The part after one more record."""
    highest = higher(progress["cursor"], cursor)
    return progress if highest is progress["cursor"] else {**progress, "cursor": highest}


def add_token(progress: IncrementalProgress, token: Any) -> IncrementalProgress:
    """The part after one more page; the last token that is not null counts."""
    return progress if token in (None, "") else {**progress, "bookmark": token}


def detached_payload(payload: Mapping[str, Any]) -> dict[str, Any]:
    """A page's payload for what is asked for beside its walk: it is no page of the chain, and its end keeps nothing."""
    other = {name: value for name, value in payload.items() if name != "chain"}
    return {**other, "incremental": {**other["incremental"], "key": ""}} if "incremental" in other else other


def next_window(incremental: Incremental, progress: IncrementalProgress) -> IncrementalProgress | None:
    """The part of the window behind this one, whose last page was read; None when it was the last."""
    end = moment_of(progress["end"])
    if progress.get("until") is None or incremental.step_s is None or end is None:
        return None
    until_s = Decimal(str(progress["until"]))
    if end.seconds + end.resolution_s > until_s:
        return None
    stored = higher(progress["kept"], progress["end"])  # all before it was read, though it may have had no record
    following = _window_end(progress["end"], incremental.step_s, until_s)
    return {**progress, "start": progress["end"], "end": following, "kept": stored}


def final_state(
    progress: IncrementalProgress, following: IncrementalProgress | None, resource: str, seed: Mapping[str, Any], now_s: float
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
    cursor = higher(progress["kept"], progress["cursor"]) if following is None else following["kept"]
    if cursor is None and progress["bookmark"] is None:
        return None
    state = {
        "resource": resource,
        "seed": dict(seed),
        "parent": progress["parent"],
        "cursor": cursor,
        "token": progress["bookmark"],
        "at": now_s,
        _BEGUN: progress.get("from", [progress["kept"], progress["token"]]),
    }
    return progress["key"], state


def merge_state(stored: CursorState | None, final: CursorState) -> CursorState | None:
    """
    What is kept after a walk; None when that stays which is kept already.

    Between its begin and its end another walk may have gone farther (this one was a dead letter for a while), or a
    person has set back what is kept, or forgotten it: then more is asked for than this walk has read.

    Args:
        kept: What is kept now.
        ended: What the walk says (`final_state`).
    """
    began, began_token = final.get(_BEGUN) or (None, None)
    cursor, there = final["cursor"], stored.get("cursor") if stored else None
    if cursor is None:
        stays = (stored.get("token") if stored else None) != began_token
    else:
        set_back = higher(there, began) != there
        stays = set_back or higher(cursor, there) != cursor
    return None if stays else {name: value for name, value in final.items() if name != _BEGUN}


def _window_end(start: Any, step_s: float, until_s: Decimal) -> Any:
    """The end of the window that begins there: `step_s` on, yet not behind `until_s`, and never at its start."""
    found = moment_of(start)
    if found is None:
        return None
    step = max(Decimal(str(step_s)), found.resolution_s)
    return found.write(min(found.seconds + step, max(until_s, found.seconds)))
