"""What the log of a server that others wrote says of a run. Pure; times are seconds, shares per cent."""

from __future__ import annotations

import math
from typing import Any

from benchmarks.foreign_figures.cases import ITEMS, LATE, PLACES, WINDOWS, Case
from benchmarks.quota_figures import counts
from benchmarks.quota_figures.cases import Figure

BAN_STATUS = 403
ALIGNED = ("fixed-window", "fixed_window")
AGAIN = 0.9  # of a limit that was changed is used again


def share(log: counts.Log, quota: float, since_s: float, over_s: float) -> float:
    """How much of `quota` was accepted in the `over_s` seconds from `since_s` after the first request on, %."""
    return counts.used(log, over_s, quota, since_s) * 100


def refused(log: counts.Log) -> float:
    """Which share of the requests was refused, %."""
    return counts.refused(log) / len(log) * 100 if log else 0.0


def after(log: counts.Log, since_s: float) -> list[dict[str, Any]]:
    """What was decided later than so many seconds after the first request."""
    return [seen for seen in log if seen["decided_s"] >= log[0]["decided_s"] + since_s]


def windows_to(log: counts.Log, limit: int, window_s: float, changed_s: float, most: int) -> float:
    """After how many windows of the new limit 90 % of it is used again; more than `most` where it is not."""
    since_s = changed_s - log[0]["decided_s"]
    for number in range(most):
        if share(log, limit, since_s + number * window_s, window_s) >= AGAIN * 100:
            return number + 1
    return most + 1


def judge(
    case: Case, log: counts.Log, written: int, changed_s: float | None, wall_s: float = 0.0
) -> list[Figure]:
    """
    All figures of a run, in the order of the table; those that a case has not are left out.

    `changed_s`: when the limit became another one. `wall_s`: the wall clock less the log's.
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
    reported = [seen for seen in log if seen["wait_s"] > 0]
    if reported:
        closed = counts.openings(log)
        found |= {"closings": closed["closings"], "early": closed["early"], "at opening": closed["most"]}
    if case.options.get("punish") == "ban":
        found["banned"] = sum(1 for seen in log if seen["status"] == BAN_STATUS)
    found["held up s"] = max(seen["decided_s"] - seen["arrived_s"] for seen in log)
    found["lost"] = accepted - written  # items that the server gave and no file holds
    promises = dict(case.promises) | ({"banned": ("<=", 0.0)} if "banned" in found else {})
    return [
        Figure(name, value, "", *promises.get(name, ("", None)))  # type: ignore[arg-type]
        for name, value in found.items()
    ]


def _used(case: Case, log: counts.Log, wall_s: float) -> float:
    """The share of the counted windows: by time where it is spent all along, by windows where it is spent at once."""
    if case.mode != "told" or case.becomes is not None:
        return share(log, case.limit * WINDOWS + case.burst, 0, case.window_s * WINDOWS)
    if case.options.get("shape") in ALIGNED:  # whole windows of the server's clock
        since_s = case.window_s - (log[0]["decided_s"] + wall_s) % case.window_s
        return share(log, case.limit * WINDOWS, since_s, case.window_s * WINDOWS)
    kept_up = counts.kept_up(log, case.limit * WINDOWS, case.window_s * WINDOWS) * 100
    return kept_up or share(log, case.limit * case.windows, 0, case.window_s * case.windows)
