"""Measures of the client's behavior from the log of a run. Pure; times are seconds of the simulation."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Sequence
from itertools import pairwise

from benchmarks.quota_sim.world import Log, RequestRecord

WELL_USED = 0.9
ROUNDED_S = 0.001  # queues round to microseconds
LEARNED = 10  # windows after which a limit must be learned


def accepted(records: Sequence[RequestRecord], since_s: float = 0.0, until_s: float = math.inf) -> int:
    """Return how many requests the server accepted in this time."""
    return sum(1 for one in records if one.accepted and since_s <= one.arrived_s < until_s)


def refused_share(records: Sequence[RequestRecord], since_s: float = 0.0) -> float:
    """Return the share of requests refused from then on."""
    late = [one for one in records if one.arrived_s >= since_s]
    return sum(1 for one in late if not one.accepted) / len(late) if late else 0.0


def by_window(records: Sequence[RequestRecord], window_s: float, quota: float, windows: int) -> list[float]:
    """Return the used share of each window from the first request on."""
    first_s = min((one.arrived_s for one in records), default=0.0)
    found = [0] * windows
    for one in records:
        at = int((one.arrived_s - first_s) / window_s)
        if one.accepted and at < windows:
            found[at] += 1
    return [count / quota for count in found]


def to_well_used(shares: Sequence[float]) -> int:
    """Return the number of the first window that is well used, from 1; the number of windows plus 1 if none is."""
    return next((at for at, share in enumerate(shares, 1) if share >= WELL_USED), len(shares) + 1)


def mean(shares: Sequence[float]) -> float:
    """Return the mean; 0 for an empty sequence."""
    return sum(shares) / len(shares) if shares else 0.0


def openings(records: Sequence[RequestRecord]) -> dict[str, int]:
    """
    Return what was sent to a closed limit after the client knew it was closed.

    `closings`: how often it closed. `early`: requests sent after a refusal was observed that reached the server before
    the stated opening. `most`: the most requests at one opening before the first of them was answered.
    """
    found = {"closings": 0, "early": 0, "most": 0}
    refusals = [one for one in records if not one.accepted and one.received_s < math.inf]
    observed = sorted(refusals, key=lambda one: one.received_s)
    at, opens_s, is_closed = 0, 0.0, False
    probe: RequestRecord | None = None
    together = 0
    for one in sorted(records, key=lambda one: one.sent_s):
        while at < len(observed) and observed[at].received_s < one.sent_s:
            found["closings"] += not is_closed
            is_closed, opens_s = True, max(opens_s, observed[at].decided_s + (observed[at].stated_s or 0.0))
            at += 1
        if probe is not None and one.sent_s >= probe.received_s:
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


def reopening_s(records: Sequence[RequestRecord]) -> list[float]:
    """Return how long after each stated opening the next request was sent, unless a later refusal moved the opening."""
    sent = sorted(one.sent_s for one in records)
    reported = sorted(
        (one.received_s + one.stated_s, one.received_s)
        for one in records
        if not one.accepted and one.stated_s is not None
    )
    late = []
    for number, (opens, _) in enumerate(reported):
        at = bisect_left(sent, opens - ROUNDED_S)
        moved = any(after > opens and observed <= opens for after, observed in reported[number + 1 :])
        if at < len(sent) and not moved:
            late.append(max(0.0, sent[at] - opens))
    return late


def percentile(values: Sequence[float], share: float) -> float:
    """Return the value below which this share of the values lies; 0 for an empty sequence."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else 0.0


def empty_share(log: Log) -> float:
    """Return the share of wake-ups without tasks."""
    return log.woken_empty / log.woken if log.woken else 0.0


def busy(records: Sequence[RequestRecord], places: int) -> float:
    """Return the used share of a concurrency limit from the first response on, without travel times at the ends."""
    first_s = min(one.left_s for one in records)
    last_s = max(one.arrived_s for one in records)
    inside = sum(
        max(0.0, min(one.left_s, last_s) - max(one.arrived_s, first_s)) for one in records if one.accepted
    )
    return inside / (places * (last_s - first_s))


def silence_s(records: Sequence[RequestRecord]) -> float:
    """Return the longest time without a request."""
    sent = sorted(one.sent_s for one in records)
    return max((after - before for before, after in pairwise(sent)), default=0.0)


def by_host(records: Sequence[RequestRecord], names: Sequence[str]) -> dict[str, int]:
    """Return how many requests each host accepted."""
    found = dict.fromkeys(names, 0)
    for one in records:
        if one.accepted and one.host in found:
            found[one.host] += 1
    return found
