"""Group requests into lots, so that days are simulated in a moment. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from scrapeq.limit import Limit

LOTS = 6_000  # approximate number of lots in total; fewer requests are simulated one by one
MIN_LOTS_PER_WINDOW = 8  # larger lots would distort the result
MIN_LOTS = 32  # of one piece of work


def lot_of(total: int, requests: int, limits: Sequence[tuple[Limit, float]]) -> int:
    """
    Return how many requests of a piece of work are simulated as one.

    Windows and buckets hold a whole number of lots; otherwise their last slots would stay unused.

    Args:
        total: Number of all simulated requests.
        requests: Number of requests of this piece of work.
        limits: Its limits, each with the weight of a request.
    """
    sizes = [
        int((rate.burst or rate.limit) / (weight or 1)) for limit, weight in limits for rate in limit.rates
    ]
    most = min([size // MIN_LOTS_PER_WINDOW for size in sizes] + [requests // MIN_LOTS, total // LOTS])
    return next((lot for lot in range(most, 1, -1) if all(size % lot == 0 for size in sizes)), 1)
