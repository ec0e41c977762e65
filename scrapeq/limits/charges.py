"""
A request's way through the limits that it is charged to, in one order of calls wherever they are kept. Pure.

Microseconds, but for what answers say, which is in seconds.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from scrapeq.limits.engine import US, How, LimitModel

LimitOf = Callable[[str], LimitModel]  # the state of an instance, by its name


@dataclass(slots=True)
class Charge:
    """
    What a granted request has been charged.

    Args:
        who: Its name among all that are in flight.
        granted: When it was.
        limits: What each instance was charged.
        weight: What an instance that was not charged takes it for.
        answered: It was given back.
    """

    who: str
    granted: float
    limits: dict[str, float]
    weight: float = 1
    answered: bool = False


class ChargedResponse(NamedTuple):
    """
    What became of a request, `at` which time; the limits that the rest is of are those of its group.

    Args:
        told: Budgets: (instance, remaining, seconds until they are reset).
        refused: (instance, seconds for which it is closed).
        guessed: The answer did not say how long: 1 = a guess of ours, 2 = the file says it.
        rates: Sizes and windows named without what is left: (instance, limit, seconds).
        costs: What it has cost those that charged it otherwise: (instance, weight).
    """

    how: How
    at: float
    reported: Sequence[tuple[str, float, float]] = ()
    refused: Sequence[tuple[str, float]] = ()
    guessed: int = 0
    rates: Sequence[tuple[str, float, float]] = ()
    costs: Sequence[tuple[str, float]] = ()


def spend(limit: LimitOf, charge: Charge) -> None:
    """The request goes."""
    for name, weight in charge.limits.items():
        limit(name).spend(charge.granted, charge.who, weight)


def settle(limit: LimitOf, charge: Charge, answer: ChargedResponse, now: float) -> None:
    """It is over, or more is known of its answer: only the first report gives back what was charged."""
    how, at, granted = answer.how, answer.at, charge.granted
    reported, refused = {name for name, *_ in answer.reported}, {name for name, _ in answer.refused}
    paid = {**charge.limits, **dict(answer.costs)}
    if how == "answered" and not charge.answered:
        for name in charge.limits:
            if name not in reported:
                limit(name).cost(now, paid[name])
    for name, remaining, reset_s in answer.reported:
        limit(name).tell(now, remaining, at + round(reset_s * US), granted, paid.get(name, charge.weight))
    for name, wait_s in answer.refused:
        until, charged = at + round(wait_s * US), charge.limits.get(name, charge.weight)
        limit(name).refuse(now, at, until, granted, charged, answer.guessed)
    for name, size, window_s in answer.rates:
        limit(name).name_rate(now, size, round(window_s * US))
    if charge.answered:
        return
    charge.answered = True
    for name, charged in charge.limits.items():
        if how == "expired":
            limit(name).cost(now, paid[name])
        limit(name).settle(now, charge.who, how, at, charged, granted, name in refused, paid[name])
