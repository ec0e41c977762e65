"""Measures from a server's log. Pure. A request is a dict as `benchmarks.servers` logs it; times are seconds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

Log = Sequence[dict[str, Any]]

SETTLING_S = 0.05  # the client may take this long to observe a response after it was sent


def span_s(log: Log) -> float:
    """Return the time from the first request to the last accepted one."""
    accepted = [record["decided_s"] for record in log if record["accepted"]]
    return accepted[-1] - log[0]["decided_s"] if accepted else 0.0


def used(log: Log, over_s: float, quota: float, since_s: float = 0.0) -> float:
    """Return the share of `quota` accepted in the `over_s` seconds from `since_s` after the first request on."""
    first = log[0]["decided_s"] + since_s
    return (
        sum(1 for record in log if record["accepted"] and first <= record["decided_s"] < first + over_s)
        / quota
    )


def kept_up(log: Log, quota: int, ideal_s: float) -> float:
    """
    Return the ideal time divided by the time until `quota` was spent and one more request was accepted.

    This is for clients that spend each window at once: they lose time between windows, which a count over a fixed time
    does not show.
    """
    accepted = [record["decided_s"] for record in log if record["accepted"]]
    return ideal_s / (accepted[quota] - accepted[0]) if len(accepted) > quota else 0.0


def refused(log: Log) -> int:
    """Return the number of refused requests."""
    return sum(1 for record in log if not record["accepted"])


def busy(log: Log, limit: int) -> float:
    """Return the used share of `limit` concurrent requests from the first response on; before it, one is sent alone."""
    first, last = log[0]["left_s"], max(record["decided_s"] for record in log)
    inside = sum(
        min(record["left_s"], last) - max(record["decided_s"], first)
        for record in log
        if record["accepted"] and record["left_s"] > first
    )
    return float(inside / (limit * (last - first)))


def openings(log: Log, least_wait_s: float | None = None) -> dict[str, int]:
    """
    Return what arrived while the limit was closed.

    `closings`: how often it closed. `early`: requests after a refusal was observed and before the stated opening
    (`least_wait_s` after the refusal if no wait was stated). `most`: the most requests at one opening before the
    response to the first of them was observed.
    """
    found = {"closings": 0, "early": 0, "most": 0}
    opens: float | None = None  # closed until then
    known = 0.0  # when the client had observed the refusal
    probe: dict[str, Any] | None = None
    together = 0
    for record in sorted(log, key=lambda one: one["arrived_s"]):
        arrived = record["arrived_s"]
        if probe is not None and arrived >= probe["responded_s"]:
            if probe["accepted"]:
                opens = None
            probe = None
        if opens is not None and arrived > known:
            if arrived < opens:
                found["early"] += 1
            elif probe is None:
                probe, together = record, 1
            else:
                together += 1
            found["most"] = max(found["most"], together)
        if not record["accepted"]:
            wait_s = record["wait_s"] if least_wait_s is None else least_wait_s
            found["closings"] += opens is None
            opens = max(opens or 0.0, record["decided_s"] + wait_s)
            known = max(known, record["responded_s"] + SETTLING_S)
    return found


def lateness_s(log: Log) -> list[float]:
    """Return how long after each stated opening the next request came."""
    late = []
    arrivals = sorted(record["arrived_s"] for record in log)
    for record in log:
        if not record["accepted"]:
            opens = record["decided_s"] + record["wait_s"]
            after = next((arrived for arrived in arrivals if arrived >= opens), None)
            if after is not None:
                late.append(after - opens)
    return late


def inversions(order: Sequence[float]) -> int:
    """Return how often a later item ranked higher than an earlier one."""
    best_after = float("-inf")
    count = 0
    for rank in reversed(order):
        count += rank < best_after
        best_after = max(best_after, rank)
    return count


def top_tenth_first(order: Sequence[float]) -> float:
    """Return the share of the highest tenth that is in the first tenth of the order."""
    tenth = max(1, len(order) // 10)
    top = set(sorted(order, reverse=True)[:tenth])
    return sum(1 for rank in order[:tenth] if rank in top) / tenth
