"""
Charge a request to its limits, and settle the charge with its response.

The queue's reference model and the limits in process share this order of calls. Pure; times are in microseconds,
except in what responses report, which is in seconds.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from scrapeq.limits.engine import US, How, LimitModel

LimitOf = Callable[[str], LimitModel]  # returns the state of an instance by its name


@dataclass(slots=True)
class Charge:
    """
    The charge of a granted request.

    Args:
        grant_id: Unique among the requests in flight.
        granted: When it was granted.
        limits: Weight charged to each instance.
        weight: Weight for instances that it was not charged to.
        answered: Whether it is settled.
    """

    grant_id: str
    granted: float
    limits: dict[str, float]
    weight: float = 1
    settled: bool = False


class ChargedResponse(NamedTuple):
    """
    The outcome of a charged request, and what its response reported about limits.

    Args:
        how: See `LimitModel.settle`.
        at: When the response arrived.
        reported: Budgets: (instance, remaining, seconds until the reset).
        refused: (instance, seconds for which it is closed).
        guessed: Who stated those seconds, see `LimitModel.report_refusal`.
        rates: Sizes and windows stated without a remaining budget: (instance, limit, seconds).
        costs: Real costs that differ from the charge: (instance, weight).
    """

    how: How
    at: float
    reported: Sequence[tuple[str, float, float]] = ()
    refused: Sequence[tuple[str, float]] = ()
    guessed: int = 0
    rates: Sequence[tuple[str, float, float]] = ()
    costs: Sequence[tuple[str, float]] = ()


def spend(limit: LimitOf, charge: Charge) -> None:
    """Charge a request that is about to be sent."""
    for name, weight in charge.limits.items():
        limit(name).spend(charge.granted, charge.grant_id, weight)


def settle(limit: LimitOf, charge: Charge, response: ChargedResponse, now: float) -> None:
    """Apply what a response reported; the first call also takes the request out of what is in flight."""
    how, at, granted = response.how, response.at, charge.granted
    reported, refused = {name for name, *_ in response.reported}, {name for name, _ in response.refused}
    costs = {**charge.limits, **dict(response.costs)}
    if how == "responded" and not charge.settled:
        for name in charge.limits:
            if name not in reported:
                limit(name).charge_budget(now, costs[name])
    for name, remaining, reset_s in response.reported:
        reset_at = at + round(reset_s * US)
        limit(name).report_budget(now, remaining, reset_at, granted, costs.get(name, charge.weight))
    for name, wait_s in response.refused:
        until, charged = at + round(wait_s * US), charge.limits.get(name, charge.weight)
        limit(name).report_refusal(now, at, until, granted, charged, response.guessed)
    for name, size, window_s in response.rates:
        limit(name).report_rate(now, size, round(window_s * US))
    if charge.settled:
        return
    charge.settled = True
    for name, charged in charge.limits.items():
        if how == "expired":
            limit(name).charge_budget(now, costs[name])
        limit(name).settle(now, charge.grant_id, how, at, charged, granted, name in refused, costs[name])
