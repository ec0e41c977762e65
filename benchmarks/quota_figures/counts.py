"""What a server's log says about a client. Pure. A request is a dict as `servers` logs it; times are seconds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

Log = Sequence[dict[str, Any]]

SETTLING_S = 0.05  # after an answer was written the client may take so long to have heard it


def span_s(log: Log) -> float:
    """From the first request to the last that was accepted."""
    accepted = [seen["decided_s"] for seen in log if seen["accepted"]]
    return accepted[-1] - log[0]["decided_s"] if accepted else 0.0


def used(log: Log, over_s: float, quota: float, since_s: float = 0.0) -> float:
    """Which share of `quota` was accepted in the `over_s` seconds from `since_s` after the first request on."""
    first = log[0]["decided_s"] + since_s
    return sum(1 for seen in log if seen["accepted"] and first <= seen["decided_s"] < first + over_s) / quota


def kept_up(log: Log, quota: int, ideal_s: float) -> float:
    """
    The ideal time over the time until `quota` was spent and one more request accepted.

    For a client that spends each window at once: what it loses is the time between windows, which a count over a
    fixed time does not see.
    """
    accepted = [seen["decided_s"] for seen in log if seen["accepted"]]
    return ideal_s / (accepted[quota] - accepted[0]) if len(accepted) > quota else 0.0


def refused(log: Log) -> int:
    """How many were refused."""
    return sum(1 for seen in log if not seen["accepted"])


def busy(log: Log, limit: int) -> float:
    """Which share of `limit` places was taken from the first answer on, before which one goes alone."""
    first, last = log[0]["left_s"], max(seen["decided_s"] for seen in log)
    inside = sum(
        min(seen["left_s"], last) - max(seen["decided_s"], first)
        for seen in log
        if seen["accepted"] and seen["left_s"] > first
    )
    return float(inside / (limit * (last - first)))


def openings(log: Log, least_wait_s: float | None = None) -> dict[str, int]:
    """
    What came while the limit was closed.

    `closings`: how often it closed. `early`: requests that came after a refusal was known and before the opening that
    it told (`least_wait_s` after it, where nothing is told). `most`: the most requests at one opening until the
    answer of the first of them was known.
    """
    found = {"closings": 0, "early": 0, "most": 0}
    opens: float | None = None  # closed until then
    known = 0.0  # when the client had heard of the refusal
    probe: dict[str, Any] | None = None
    together = 0
    for seen in sorted(log, key=lambda one: one["arrived_s"]):
        arrived = seen["arrived_s"]
        if probe is not None and arrived >= probe["answered_s"]:
            if probe["accepted"]:
                opens = None
            probe = None
        if opens is not None and arrived > known:
            if arrived < opens:
                found["early"] += 1
            elif probe is None:
                probe, together = seen, 1
            else:
                together += 1
            found["most"] = max(found["most"], together)
        if not seen["accepted"]:
            wait_s = seen["wait_s"] if least_wait_s is None else least_wait_s
            found["closings"] += opens is None
            opens = max(opens or 0.0, seen["decided_s"] + wait_s)
            known = max(known, seen["answered_s"] + SETTLING_S)
    return found


def lateness_s(log: Log) -> list[float]:
    """How long after each told opening the next request came."""
    late = []
    arrivals = sorted(seen["arrived_s"] for seen in log)
    for seen in log:
        if not seen["accepted"]:
            opens = seen["decided_s"] + seen["wait_s"]
            after = next((arrived for arrived in arrivals if arrived >= opens), None)
            if after is not None:
                late.append(after - opens)
    return late


def inversions(order: Sequence[float]) -> int:
    """How often a later one ranked higher than one before it."""
    best_after = float("-inf")
    count = 0
    for rank in reversed(order):
        count += rank < best_after
        best_after = max(best_after, rank)
    return count


def top_tenth_first(order: Sequence[float]) -> float:
    """Which share of the highest tenth stands in the first tenth of the order."""
    tenth = max(1, len(order) // 10)
    top = set(sorted(order, reverse=True)[:tenth])
    return sum(1 for rank in order[:tenth] if rank in top) / tenth
