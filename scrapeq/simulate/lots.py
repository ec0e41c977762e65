"""Requests counted in lots, so that days are simulated in a moment. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from scrapeq.limit import Limit

LOTS = 6_000  # about so many lots in all; fewer requests are simulated one by one
LEAST_LOTS_A_WINDOW = 8  # a coarser lot would show in the result
LEAST_LOTS = 32  # of one piece of work


def lot_of(total: int, requests: int, limits: Sequence[tuple[Limit, float]]) -> int:
    """
    How many requests of a piece of work count as one.

    A window and a bucket are a whole number of lots, else their last slots would stay unused.

    Args:
        total: All requests that will be simulated.
        requests: Those of this piece of work.
        limits: Its limits, and what a request weighs there.
    """
    sizes = [
        int((rate.burst or rate.limit) / (weight or 1)) for limit, weight in limits for rate in limit.rates
    ]
    most = min([size // LEAST_LOTS_A_WINDOW for size in sizes] + [requests // LEAST_LOTS, total // LOTS])
    return next((lot for lot in range(most, 1, -1) if all(size % lot == 0 for size in sizes)), 1)
