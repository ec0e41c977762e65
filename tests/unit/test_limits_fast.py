"""The fast limit grants the same requests as the plain engine, and computes when it opens."""

from __future__ import annotations

import math
import random
import time

import pytest

from scrapeq.limit import Limit, Rate, Reserve
from scrapeq.limits.engine import US, LimitModel
from scrapeq.limits.fast_limit import NEVER, FastLimit

STEPS = 600
DEFINITIONS = {
    "one": Limit((Rate(7, 2.0),)),
    "two": Limit((Rate(20, 1.0, burst=5), Rate(100, 30.0))),
    "many": Limit((Rate(300, 5.0),)),
    "learned": Limit(learn=True),
    "aligned": Limit((Rate(20, 5.0, aligned_s=1.5), Rate(60, 30.0))),
    "reserved": Limit((Rate(20, 5.0),), reserve=Reserve(0.4, 5.0)),
}


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("name", DEFINITIONS)
def test_the_fast_limit_grants_what_the_plain_engine_grants(name: str, seed: int) -> None:
    """Compares both after every step of random grants, responses, refusals and stated rates."""
    chance = random.Random(seed)
    both = LimitModel(name, DEFINITIONS), FastLimit(name, DEFINITIONS)
    now, granted = US, 0
    flight: list[tuple[str, float, float]] = []
    for step in range(STEPS):
        now += chance.randrange(US // 20)
        weight = float(chance.choice((1, 1, 1, 0, 2)))
        assert both[0].closed_until(now, weight, 0) == both[1].closed_until(now, weight, 0)
        act = chance.random()
        if act < 0.5 and both[0].grants(now, weight, 0):
            granted += 1
            flight.append((str(step), now, weight))
            for limit in both:
                limit.spend(now, str(step), weight)
        elif flight and act < 0.97:
            grant_id, at, charged = flight.pop(chance.randrange(len(flight)))
            refused, wait_s = chance.random() < 0.03, chance.choice((0, 1))
            for limit in both:
                if refused:
                    limit.report_refusal(now, now, now + wait_s * US, at, charged)
                limit.settle(now, grant_id, "responded", now, charged, at, refused, charged)
        elif act > 0.99:
            for limit in both:
                limit.report_rate(now, 50, 10 * US)
        assert both[0].state(now) == both[1].state(now)
    assert granted > STEPS // 20


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("name", DEFINITIONS)
def test_the_opening_time_is_the_first_at_which_it_grants(name: str, seed: int) -> None:
    """The limit does not grant a millisecond earlier; NEVER means that only responses in flight can open it."""
    chance = random.Random(seed)
    limit, now = FastLimit(name, DEFINITIONS), US
    flight: list[tuple[str, float, float]] = []
    closures = 0
    for step in range(STEPS):
        now += chance.randrange(US // 20)
        weight, priority = float(chance.choice((1, 1, 2))), chance.choice((0, 9))
        opens = limit.opens_at(now, weight, priority)
        if opens == now:
            limit.spend(now, str(step), weight)
            flight.append((str(step), now, weight))
        elif opens == NEVER:
            assert flight
        else:
            closures += 1
            assert limit.grants(opens, weight, priority)
            earlier = [now + (opens - now) * share // 8 for share in range(8)]
            assert not any(limit.grants(at, weight, priority) for at in (*earlier, opens - 1))
        if flight and chance.random() < 0.6:
            grant_id, at, charged = flight.pop(0)
            if chance.random() < 0.03:
                limit.report_refusal(now, now, now + US, at, charged)
            limit.settle(now, grant_id, "responded", now, charged, at, False)
    assert closures or name == "learned"


def test_a_paused_limit_never_opens_by_itself() -> None:
    """A limit whose calendar window is filled by requests in flight does not open by itself, either."""
    paused = FastLimit("one", DEFINITIONS, paused=True)
    assert paused.opens_at(US, 1) == NEVER
    full = FastLimit("aligned", DEFINITIONS, in_flight=20, in_flight_count=20)
    assert full.opens_at(US, 1) == math.inf


def test_the_cost_of_a_check_is_independent_of_the_window() -> None:
    """With a million responses in the window, a thousand checks take milliseconds, not minutes."""
    limit = FastLimit("x", {"x": Limit((Rate(1_000_000, 86_400.0),))})
    for number in range(100_000):
        limit.add_response(0, US, US + number, 1, 86_400 * US)
    began_s = time.perf_counter()
    for _ in range(1000):
        limit.grants(2 * US)
    assert time.perf_counter() - began_s < 1.0
