"""A limit that counts its stamps once grants what the plain one grants."""

from __future__ import annotations

import random
import time

import pytest

from scrapeq.limit import Limit, Rate
from scrapeq.limits.counted import CountedLimit
from scrapeq.limits.engine import US, LimitModel

STEPS = 600
DEFINITIONS = {
    "one": Limit((Rate(7, 2.0),)),
    "two": Limit((Rate(20, 1.0, burst=5), Rate(100, 30.0))),
    "many": Limit((Rate(300, 5.0),)),
    "learned": Limit(learn=True),
}


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("name", DEFINITIONS)
def test_it_grants_what_the_plain_one_grants(name: str, seed: int) -> None:
    """Through grants, answers of several weights, refusals and named rates, at every step."""
    chance = random.Random(seed)
    both = LimitModel(name, DEFINITIONS), CountedLimit(name, DEFINITIONS)
    now, granted = US, 0
    flight: list[tuple[str, float, float]] = []
    for step in range(STEPS):
        now += chance.randrange(US // 20)
        weight = float(chance.choice((1, 1, 1, 0, 2)))
        assert both[0].closed_until(now, weight) == both[1].closed_until(now, weight)
        act = chance.random()
        if act < 0.5 and both[0].grants(now, weight):
            granted += 1
            flight.append((str(step), now, weight))
            for limit in both:
                limit.spend(now, str(step), weight)
        elif flight and act < 0.97:
            who, at, charged = flight.pop(chance.randrange(len(flight)))
            refused = chance.random() < 0.03
            for limit in both:
                if refused:
                    limit.refuse(now, now, now + US, at, charged)
                limit.settle(now, who, "answered", now, charged, at, refused, charged)
        elif act > 0.99:
            for limit in both:
                limit.name_rate(now, 50, 10 * US)
        assert both[0].state(now) == both[1].state(now)
    assert granted > STEPS // 20


def test_a_look_costs_the_same_however_many_answers_are_in_the_window() -> None:
    """A window of a million: a thousand looks take milliseconds, not minutes."""
    limit = CountedLimit("x", {"x": Limit((Rate(1_000_000, 86_400.0),))})
    for number in range(100_000):
        limit._stamp(0, US, US + number, 1, 86_400 * US)
    began_s = time.perf_counter()
    for _ in range(1000):
        limit.grants(2 * US)
    assert time.perf_counter() - began_s < 1.0
