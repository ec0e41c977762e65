"""Figures from the log of a third-party server. Pure; times are seconds, shares are percent."""

from __future__ import annotations

import math
from typing import Any

from benchmarks.foreign_figures.cases import ITEMS, LATE, PLACES, WINDOWS, Case
from benchmarks.quota_figures import counts
from benchmarks.quota_figures.cases import Figure

BAN_STATUS = 403
ALIGNED = ("fixed-window", "fixed_window")
USED_AGAIN = 0.9  # share of a changed limit that counts as used again


def share(log: counts.Log, quota: float, since_s: float, over_s: float) -> float:
    """Return the share of `quota` accepted in the `over_s` seconds from `since_s` after the first request on, in %."""
    return counts.used(log, over_s, quota, since_s) * 100


def refused(log: counts.Log) -> float:
    """Return the share of refused requests, in %."""
    return counts.refused(log) / len(log) * 100 if log else 0.0


def after(log: counts.Log, since_s: float) -> list[dict[str, Any]]:
    """Return the requests decided later than this many seconds after the first one."""
    return [record for record in log if record["decided_s"] >= log[0]["decided_s"] + since_s]


def windows_to(log: counts.Log, limit: int, window_s: float, changed_s: float, most: int) -> float:
    """Return after how many windows of the new limit 90 % of it is used; more than `most` if it never is."""
    since_s = changed_s - log[0]["decided_s"]
    for number in range(most):
        if share(log, limit, since_s + number * window_s, window_s) >= USED_AGAIN * 100:
            return number + 1
    return most + 1


def judge(
    case: Case, log: counts.Log, written: int, changed_s: float | None, wall_s: float = 0.0
) -> list[Figure]:
    """
    Return all figures of a run in the order of the table, without those that do not apply to the case.

    `changed_s`: when the limit changed. `wall_s`: the wall clock minus the log's clock.
    """
    found: dict[str, float] = {}
    window_s, limit = case.window_s, case.limit
    accepted = len(log) - counts.refused(log)
    if case.mode == "items":
        ideal_s = (math.ceil(ITEMS / limit) - 1) * window_s
        found |= {
            "items": written,
            "refusals": counts.refused(log),
            "time / ideal": counts.span_s(log) / ideal_s,
        }
    elif case.mode.startswith("places"):
        found["used %"] = counts.busy(log, PLACES) * 100
    else:
        found["used %"] = _used(case, log, wall_s)
        found["1st window %"] = share(log, limit + case.burst, 0, window_s)
        found["5th window %"] = share(log, limit * 2, 4 * window_s, 2 * window_s)
    found["refused %"] = refused(log)
    if case.windows >= WINDOWS + LATE and changed_s is None and case.mode != "items":
        late = after(log, WINDOWS * window_s)
        found["late used %"] = share(log, limit * LATE, WINDOWS * window_s, LATE * window_s)
        found["late refused %"] = refused(late)
    if changed_s is not None and case.becomes is not None:
        most = round(case.windows) - WINDOWS
        found["windows to 90 %"] = windows_to(log, case.becomes, window_s, changed_s, most)
    reported = [record for record in log if record["wait_s"] > 0]
    if reported:
        closed = counts.openings(log)
        found |= {"closings": closed["closings"], "early": closed["early"], "at opening": closed["most"]}
    if case.options.get("punish") == "ban":
        found["banned"] = sum(1 for record in log if record["status"] == BAN_STATUS)
    found["held up s"] = max(record["decided_s"] - record["arrived_s"] for record in log)
    found["lost"] = accepted - written  # items that the server sent but no file contains
    promises = dict(case.promises) | ({"banned": ("<=", 0.0)} if "banned" in found else {})
    return [
        Figure(name, value, "", *promises.get(name, ("", None)))  # type: ignore[arg-type]
        for name, value in found.items()
    ]


def _used(case: Case, log: counts.Log, wall_s: float) -> float:
    """Return the used share of the counted windows: by time for paced requests, by windows for bursts."""
    if case.mode != "told" or case.becomes is not None:
        return share(log, case.limit * WINDOWS + case.burst, 0, case.window_s * WINDOWS)
    if case.options.get("shape") in ALIGNED:  # whole windows of the server's clock
        since_s = case.window_s - (log[0]["decided_s"] + wall_s) % case.window_s
        return share(log, case.limit * WINDOWS, since_s, case.window_s * WINDOWS)
    kept_up = counts.kept_up(log, case.limit * WINDOWS, case.window_s * WINDOWS) * 100
    return kept_up or share(log, case.limit * case.windows, 0, case.window_s * case.windows)
