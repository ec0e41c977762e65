"""What a run's log says about the client. Pure; times are seconds of the simulation."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Sequence
from itertools import pairwise

from benchmarks.quota_sim.world import Log, Seen

WELL_USED = 0.9
ROUNDED_S = 0.001  # a queue counts microseconds
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
    """
    What was sent to a closed limit, by a client that knew it.

    `closings`: how often it closed. `early`: requests sent after a refusal was heard that reached the server before
    the time that it had told. `most`: the most requests at one opening until the first of them was answered.
    """
    found = {"closings": 0, "early": 0, "most": 0}
    refusals = [one for one in seen if not one.accepted and one.answered_s < math.inf]
    heard = sorted(refusals, key=lambda one: one.answered_s)
    at, opens_s, is_closed = 0, 0.0, False
    probe: Seen | None = None
    together = 0
    for one in sorted(seen, key=lambda one: one.sent_s):
        while at < len(heard) and heard[at].answered_s < one.sent_s:
            found["closings"] += not is_closed
            is_closed, opens_s = True, max(opens_s, heard[at].decided_s + (heard[at].told_s or 0.0))
            at += 1
        if probe is not None and one.sent_s >= probe.answered_s:
            is_closed, probe = is_closed and not probe.accepted, None
        if not is_closed:
            continue
        if one.arrived_s < opens_s:
            found["early"] += 1
        elif probe is None:
            probe, together = one, 1
        else:
            together += 1
        found["most"] = max(found["most"], together)
    return found


def reopening_s(seen: Sequence[Seen]) -> list[float]:
    """How long after each told opening the next request was sent, where nothing had moved it meanwhile."""
    sent = sorted(one.sent_s for one in seen)
    reported = sorted(
        (one.answered_s + one.told_s, one.answered_s)
        for one in seen
        if not one.accepted and one.told_s is not None
    )
    late = []
    for number, (opens, _) in enumerate(reported):
        at = bisect_left(sent, opens - ROUNDED_S)
        moved = any(after > opens and heard <= opens for after, heard in reported[number + 1 :])
        if at < len(sent) and not moved:
            late.append(max(0.0, sent[at] - opens))
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
