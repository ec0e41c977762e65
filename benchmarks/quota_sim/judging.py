"""What a run's log says about the client. Pure; times are seconds of the simulation."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from benchmarks.quota_figures import counts
from benchmarks.quota_sim.world import Log, Seen

WELL_USED = 0.9
LEARNED = 10  # windows after which a limit must be known


def accepted(seen: Sequence[Seen], since_s: float = 0.0, until_s: float = math.inf) -> int:
    """How many the server accepted in that time."""
    return sum(1 for one in seen if one.accepted and since_s <= one.arrived_s < until_s)


def refused_share(seen: Sequence[Seen], since_s: float = 0.0) -> float:
    """Which share of the requests was refused from then on."""
    late = [one for one in seen if one.arrived_s >= since_s]
    return sum(1 for one in late if not one.accepted) / len(late) if late else 0.0


def by_window(seen: Sequence[Seen], window_s: float, quota: float, windows: int) -> list[float]:
    """The used share of each window from the first request on."""
    first_s = min((one.arrived_s for one in seen), default=0.0)
    found = [0] * windows
    for one in seen:
        at = int((one.arrived_s - first_s) / window_s)
        if one.accepted and at < windows:
            found[at] += 1
    return [count / quota for count in found]


def to_well_used(shares: Sequence[float]) -> int:
    """The first window (from 1) that is well used; one more than there are when none is."""
    return next((at for at, share in enumerate(shares, 1) if share >= WELL_USED), len(shares) + 1)


def mean(shares: Sequence[float]) -> float:
    """The mean; 0 of nothing."""
    return sum(shares) / len(shares) if shares else 0.0


def openings(seen: Sequence[Seen]) -> dict[str, int]:
    """Closings that told when to come back, requests before that, and the most at one opening."""
    log: list[dict[str, Any]] = [
        {
            "arrived_s": one.arrived_s,
            "decided_s": one.decided_s,
            "answered_s": one.answered_s,
            "accepted": one.accepted,
            "wait_s": one.told_s or 0.0,
        }
        for one in seen
        if one.answered_s < math.inf
    ]
    return counts.openings(log)


def reopening_s(seen: Sequence[Seen]) -> list[float]:
    """How long after each told opening the next request was sent, where nothing had moved it meanwhile."""
    sent = sorted(one.sent_s for one in seen)
    told = sorted(
        (one.answered_s + one.told_s, one.answered_s)
        for one in seen
        if not one.accepted and one.told_s is not None
    )
    late = []
    for number, (opens, _) in enumerate(told):
        at = bisect_left(sent, opens)
        moved = any(after > opens and heard <= opens for after, heard in told[number + 1 :])
        if at < len(sent) and not moved:
            late.append(sent[at] - opens)
    return late


def percentile(values: Sequence[float], share: float) -> float:
    """The value below which that share lies; 0 of nothing."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else 0.0


def empty_share(log: Log) -> float:
    """Which share of the wake-ups found nothing."""
    return log.woken_empty / log.woken if log.woken else 0.0


def busy(seen: Sequence[Seen], places: int) -> float:
    """Which share of the places was taken from the first answer on, as far as the way to them and back allows."""
    first_s = min(one.left_s for one in seen)
    last_s = max(one.arrived_s for one in seen)
    inside = sum(
        max(0.0, min(one.left_s, last_s) - max(one.arrived_s, first_s)) for one in seen if one.accepted
    )
    return inside / (places * (last_s - first_s))


def silence_s(seen: Sequence[Seen]) -> float:
    """The longest time without a request."""
    sent = sorted(one.sent_s for one in seen)
    return max((after - before for before, after in pairwise(sent)), default=0.0)


def by_host(seen: Sequence[Seen], names: Sequence[str]) -> dict[str, int]:
    """How many each host accepted."""
    found = dict.fromkeys(names, 0)
    for one in seen:
        if one.accepted and one.host in found:
            found[one.host] += 1
    return found
