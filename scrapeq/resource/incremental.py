"""
Incremental pagination: where it starts, what its pages carry, and which state is stored when it ends.

The payload of each page has a member `incremental` (`scrapeq.resource.payload.IncrementalProgress`). With `step` the
pages come in windows, one after the other; `until` is when the last one ends. `kept` moves from window to window,
`from` does not.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from scrapeq.expression import Expression, Template
from scrapeq.plan import Incremental
from scrapeq.protocols import CursorState
from scrapeq.resource.cursor_values import (
    higher,
    implied_form,
    is_time,
    moment_of,
    not_after,
    shifted,
    time_like,
    value_like,
)
from scrapeq.resource.payload import IncrementalProgress, Payload

_STARTED_FROM = "begun"  # key of a final state on its way to the store: cursor and token of the start
_FORM = "form"  # and the form of its times
_ON_THE_WAY = frozenset({_STARTED_FROM, _FORM})

ZONES_S = 14 * 3600.0
"""The farthest that a time without a zone is ahead of UTC, if it is the local time somewhere."""

_ID_NAME = re.compile(
    r"(?:^|_)(?:id|number|no|seq|sequence|version|revision|offset|position)$|(?<=[a-z])(?:Id|ID)$"
)
_TIME_NAME = re.compile(
    r"time|date|stamp|creat|modif|chang|publish|edited|since|(?:^|_)(?:ts|at|on)$|[a-z](?:At|On|Ts)$",
    re.IGNORECASE,
)


def start_progress(
    incremental: Incremental, key: str, parent: str, state: CursorState | None, scope: Mapping[str, Any]
) -> IncrementalProgress:
    """
    Return the progress of an incremental pagination at its start.

    Args:
        incremental: The resource's configuration.
        key: The key of its state.
        parent: The label of its parent record, for the user; empty = none.
        state: The stored state; None = none.
        scope: `seed`, `parent` and `now`, for an initial value with placeholders.
    """
    now_s = Decimal(str(scope["now"]))
    initial = incremental.initial_value
    if isinstance(initial, Expression):
        initial = initial.evaluate(scope)
    elif isinstance(initial, Template):
        initial = initial.render(scope)
    form = incremental.cursor_format or implied_form(initial)
    found = state.get("cursor") if state else None
    token = state.get("token") if state else None
    stored = found
    if state and holds_times(incremental, initial):  # an older version stored a time in the future as it was
        stored = not_after(found, min(now_s, Decimal(str(state.get("at", now_s)))), initial, form)
    start = initial if stored is None else shifted(stored, -incremental.lookback_s, form)
    if stored is not None and initial is not None:
        start = value_like(start, initial, form)
    progress: IncrementalProgress = {
        "key": key,
        "parent": parent,
        "start": start,
        "end": time_like(now_s, start, form),
        "token": token,
        "kept": stored,
        "cursor": stored,
        "bookmark": token,
        "from": [found, token],
        "began": float(now_s),
    }
    if form:
        progress["form"] = form
    if incremental.step_s is not None and start is not None:
        progress["until"] = float(now_s)
        progress["end"] = _window_end(progress["start"], incremental.step_s, now_s, form)
    return progress


def holds_times(incremental: Incremental, start: Any) -> bool:
    """
    Return whether numbers at `cursor_path` are times, and not IDs.

    Durations apply to times only; a start value may be one; else the field's name decides.

    Args:
        incremental: The resource's configuration.
        start: The start value of the pagination, or the initial one.
    """
    name = re.split(r"[^A-Za-z0-9_]", incremental.cursor_path.rstrip("\"'])"))[-1]
    if _ID_NAME.search(name):
        return False
    if incremental.lookback_s or incremental.step_s or incremental.cursor_format:
        return True
    return is_time(start) or _TIME_NAME.search(name) is not None


def restart_without_token(
    incremental: Incremental, progress: IncrementalProgress, scope: Mapping[str, Any]
) -> IncrementalProgress | None:
    """Return the progress of a start without the token, which the server no longer knows; None if there was none."""
    if progress["token"] in (None, ""):
        return None
    new = start_progress(
        incremental, progress["key"], progress["parent"], {"cursor": progress["kept"]}, scope
    )
    return {**new, "from": progress.get("from", [progress["kept"], progress["token"]])}


def incremental_scope(progress: IncrementalProgress | None) -> dict[str, Any]:
    """Return the value of the name `incremental` in expressions."""
    if progress is None:
        return {"start_value": None, "end_value": None, "token": None}
    return {
        "start_value": progress.get("start"),
        "end_value": progress.get("end"),
        "token": progress.get("token"),
    }


def add_cursor(progress: IncrementalProgress, cursor: Any) -> IncrementalProgress:
    """Return the progress after one more record."""
    highest = higher(progress["cursor"], cursor, progress.get("form", ""))
    return progress if highest is progress["cursor"] else {**progress, "cursor": highest}


def add_token(progress: IncrementalProgress, token: Any) -> IncrementalProgress:
    """Return the progress after one more page; the last token that is not null or empty counts."""
    return progress if token in (None, "") else {**progress, "bookmark": token}


def detached_payload(payload: Payload) -> Payload:
    """Return the payload for a request beside the pagination: outside the chain, and without a state to store."""
    detached = payload.copy()
    detached.pop("chain", None)
    if "incremental" in detached:
        detached["incremental"] = {**detached["incremental"], "key": ""}
    return detached


def next_window(incremental: Incremental, progress: IncrementalProgress) -> IncrementalProgress | None:
    """Return the progress of the next window once the last page of this one was read; None if this was the last."""
    form = progress.get("form", "")
    end = moment_of(progress["end"], form)
    if progress.get("until") is None or incremental.step_s is None or end is None:
        return None
    until_s = Decimal(str(progress["until"]))
    if end.seconds + end.resolution_s > until_s:
        return None
    # The window was read to its end, even if it had no records.
    stored = higher(progress["kept"], progress["end"], form)
    following = _window_end(progress["end"], incremental.step_s, until_s, form)
    return {**progress, "start": progress["end"], "end": following, "kept": stored}


def without_future(
    incremental: Incremental, progress: IncrementalProgress, now_s: float, server_s: float | None
) -> tuple[IncrementalProgress, str]:
    """
    Return the progress with no cursor beyond now, and a message for the user if there was one.

    The records from the future were read; but the next run has to start at the time when this pagination started, or
    it would miss everything until then. If our clock is ahead of the server's, it starts that much earlier.

    Args:
        incremental: The resource's configuration.
        progress: That of the last page.
        now_s: Unix seconds.
        server_s: What the server's clock showed at that time, if it said so.
    """
    cursor, form = progress["cursor"], progress.get("form", "")
    match = moment_of(cursor, form)
    if match is None or not (match.kind == "text" or holds_times(incremental, progress["start"])):
        return progress, ""
    if not_after(cursor, Decimal(str(now_s)), progress["start"], form) == cursor:
        return progress, ""
    ahead_s = 0.0 if server_s is None else max(0.0, now_s - server_s)
    limit_s = Decimal(str(progress.get("began", now_s) - ahead_s))
    limited = not_after(cursor, limit_s, progress["start"], form)
    whole: IncrementalProgress = {**progress, "cursor": higher(progress["kept"], limited, form)}
    if not match.has_zone and match.seconds <= Decimal(str(now_s + ZONES_S)):
        return whole, ""  # probably a local time
    return whole, (
        f"{incremental.cursor_path} has a time in the future ({cursor}); stored is {limited}, when these pages began, "
        "so that the next run misses nothing"
    )


def final_state(
    progress: IncrementalProgress,
    following: IncrementalProgress | None,
    resource: str,
    seed: Mapping[str, Any],
    now_s: float,
) -> tuple[str, CursorState] | None:
    """
    Return the key and the state to store once the last page of a pagination, or of a window, is acked.

    None if there is nothing to store.

    Args:
        progress: That of the last page.
        following: That of the next window, if there is one.
        resource: The resource's name.
        seed: The seed.
        now_s: Unix seconds.
    """
    # Between windows, the start of the next one: a record may lie ahead of its window.
    form = progress.get("form", "")
    cursor = higher(progress["kept"], progress["cursor"], form) if following is None else following["kept"]
    if cursor is None and progress["bookmark"] is None:
        return None
    state = {
        "resource": resource,
        "seed": dict(seed),
        "parent": progress["parent"],
        "cursor": cursor,
        "token": progress["bookmark"],
        "at": now_s,
        _STARTED_FROM: progress.get("from", [progress["kept"], progress["token"]]),
    }
    if form:
        state[_FORM] = form
    return progress["key"], state


def incomplete_reason(reason: str, progress: IncrementalProgress | None) -> str:
    """Return why a page sequence is incomplete, and that no state is stored for it if it is incremental."""
    if progress is None or not progress["key"]:
        return reason
    return f"{reason}; its state is not stored, so the next run requests its pages again"


def merge_state(stored: CursorState | None, final: CursorState) -> CursorState | None:
    """
    Return the state to store after a pagination; None if the stored one stays.

    Between its start and its end, another pagination may have come further (this one was a dead letter for a while), or
    the user may have reset or deleted the stored state. Either way the next run must request more than this pagination
    has read.

    Args:
        stored: The state stored now.
        final: The state at the end of the pagination (`final_state`).
    """
    start_cursor, start_token = final.get(_STARTED_FROM) or (None, None)
    cursor, stored_cursor = final["cursor"], stored.get("cursor") if stored else None
    form = final.get(_FORM, "")
    if cursor is None:
        stays = (stored.get("token") if stored else None) != start_token
    elif stored_cursor is not None and stored_cursor == start_cursor:
        stays = False  # this pagination continued from it, and knows better if it was in the future
    else:
        was_reset = higher(stored_cursor, start_cursor, form) != stored_cursor
        stays = was_reset or higher(cursor, stored_cursor, form) != cursor
    return None if stays else {name: value for name, value in final.items() if name not in _ON_THE_WAY}


def _window_end(start: Any, step_s: float, until_s: Decimal, form: str) -> Any:
    """Return the end of the window that starts there: `step_s` later, at most `until_s`, and never before its start."""
    found = moment_of(start, form)
    if found is None:
        return None
    step = max(Decimal(str(step_s)), found.resolution_s)
    return found.write(min(found.seconds + step, max(until_s, found.seconds)))
