"""The limits of one process, instance by instance, on a clock that the test holds."""

from __future__ import annotations

import math

import pytest

from scrapeq.errors import RateLimited
from scrapeq.limits.local import UNKNOWN_IN_FLIGHT, Grant, Instance, LocalLimits
from scrapeq.limits.outcome import Outcome
from scrapeq.limits.readings import Told
from scrapeq.plan import LimitRule, Match, Rate

URL = "https://api.example/items"


class FakeClock:
    """Time that passes only when somebody sleeps."""

    def __init__(self) -> None:
        self.time_s = 1000.0

    def now_s(self) -> float:
        return self.time_s

    def monotonic_s(self) -> float:
        return self.time_s

    async def sleep(self, delay_s: float) -> None:
        self.time_s += delay_s


def fill(limit: Instance, now_s: float) -> list[Grant]:
    """Every grant that it gives now."""
    grants = []
    while limit.closed_s(now_s) <= 0:
        grants.append(limit.take(now_s))
        assert len(grants) < 1000
    return grants


def known(rule: LimitRule = LimitRule("x"), told: Told | None = None) -> Instance:
    """An instance that has heard one answer at 0."""
    limit = Instance(rule)
    [first] = fill(limit, 0.0)
    limit.answered(first, 0.0, told)
    return limit


def test_an_unknown_limit_is_asked_carefully() -> None:
    """One request until the first answer, then eight in flight."""
    limit = Instance(LimitRule("x"))
    assert len(fill(limit, 0.0)) == 1
    assert limit.closed_s(0.0) == math.inf
    assert len(fill(known(), 0.0)) == UNKNOWN_IN_FLIGHT


def test_a_lost_request_proves_nothing() -> None:
    """Without an answer the next one still goes alone."""
    limit = Instance(LimitRule("x"))
    [first] = fill(limit, 0.0)
    limit.lost(first, 1.0)
    assert len(fill(limit, 1.0)) == 1


def test_refusals_of_one_flight_are_one_event() -> None:
    """Eight refusals halve once, count once, and the longest wait holds."""
    limit = known()
    flight = fill(limit, 1.0)
    for index, grant in enumerate(flight):
        assert limit.refusals_with(grant) == 1
        limit.refused(grant, 2.0, 10.0 - index)
    assert limit.refusals == 1
    assert limit.closed_s(2.0) == 10.0
    [probe] = fill(limit, 12.0)
    limit.answered(probe, 12.0, None)
    assert len(fill(limit, 12.0)) == UNKNOWN_IN_FLIGHT // 2


def test_one_probe_goes_after_a_park_and_only_its_answer_opens() -> None:
    """Late answers of the flight before it do not."""
    limit = known()
    first, *late = fill(limit, 1.0)
    limit.refused(first, 2.0, 5.0)
    for grant in late:
        limit.answered(grant, 3.0, None)
    assert fill(limit, 6.9) == []
    [probe] = fill(limit, 7.0)
    assert limit.refusals_with(probe) == 2
    limit.refused(probe, 7.5, 1.0)
    assert limit.refusals == 2
    [second] = fill(limit, 8.5)
    limit.lost(second, 9.0)
    [third] = fill(limit, 9.0)
    limit.answered(third, 9.5, None)
    assert limit.refusals == 0
    assert len(fill(limit, 9.5)) > 0


def test_told_budgets_are_spent_to_the_last_and_no_further() -> None:
    """What remains minus what is in flight; then parked to the reset, and one request asks for the new budget."""
    limit = known(told=Told(20, 60.0))
    flight = fill(limit, 0.0)
    assert len(flight) == 20
    for index, grant in enumerate(flight):
        limit.answered(grant, 1.0, Told(19 - index, 59.0))
    assert limit.closed_s(1.0) == 59.0
    assert len(fill(limit, 60.0)) == 1


def test_an_older_answer_does_not_raise_the_budget() -> None:
    """Only a request that left after the last accepted word may say that there is more."""
    limit = known(told=Told(20, 60.0))
    early, late = limit.take(1.0), limit.take(1.0)
    limit.answered(late, 2.0, Told(5, 58.0))
    limit.answered(early, 3.0, Told(18, 57.0))
    assert len(fill(limit, 3.0)) == 5
    newer = known(told=Told(0, 60.0))
    assert fill(newer, 1.0) == []


def test_answers_that_say_nothing_cost_one() -> None:
    """Silence and lost requests count against what was told."""
    limit = known(told=Told(3, 60.0))
    one, two = limit.take(0.0), limit.take(0.0)
    limit.answered(one, 1.0, None)
    limit.lost(two, 1.0)
    assert len(fill(limit, 1.0)) == 1


def test_a_rule_may_not_listen() -> None:
    """observe: none leaves what answers tell aside."""
    assert len(fill(known(LimitRule("x", observe="none"), Told(1, 60.0)), 0.0)) == UNKNOWN_IN_FLIGHT


def test_concurrency_is_kept() -> None:
    """Never more in flight than configured, and up to it after the first answer."""
    limit = known(LimitRule("x", max_concurrency=20))
    flight = fill(limit, 0.0)
    assert len(flight) == 20
    limit.answered(flight[0], 1.0, None)
    assert len(fill(limit, 1.0)) == 1


def test_slots_are_free_one_window_after_the_answer() -> None:
    """Counted from the answer, so that no server's window ever sees more than the limit."""
    limit = Instance(LimitRule("x", rates=(Rate(3, 10.0),)))
    flight = fill(limit, 0.0)
    assert len(flight) == 3
    assert limit.closed_s(0.0) == math.inf
    for index, grant in enumerate(flight):
        limit.answered(grant, 1.0 + index, None)
    assert limit.closed_s(3.0) == 8.0
    assert len(fill(limit, 11.0)) == 1
    assert not limit.is_idle(12.0)


def test_rates_below_one_take_longer() -> None:
    """One in two seconds is one slot of two seconds."""
    limit = Instance(LimitRule("x", rates=(Rate(0.5, 1.0),)))
    [grant] = fill(limit, 0.0)
    limit.answered(grant, 0.0, None)
    assert limit.closed_s(0.0) == 2.0


async def test_every_matching_limit_must_grant() -> None:
    """A closed one keeps the request back although the other is open."""
    rules = (LimitRule("all", Match(), (), max_concurrency=1), LimitRule("host", Match(), ("host",)))
    limits = LocalLimits(rules, clock=FakeClock())
    first = await limits.try_acquire(URL)
    assert first is not None
    assert await limits.try_acquire("https://other.example/") is None
    first.settle(Outcome("success"))
    first.settle(Outcome("rate_limited", 99.0))  # only the first report counts
    assert await limits.try_acquire("https://other.example/") is not None


async def test_a_refusal_closes_its_host_alone() -> None:
    """The narrowest limit is parked; other hosts go on."""
    rules = (LimitRule("all", Match(), ()), LimitRule("host", Match(), ("host",)))
    limits = LocalLimits(rules, clock=FakeClock())
    permit = await limits.acquire(URL)
    permit.settle(Outcome("rate_limited", 60.0))
    assert await limits.try_acquire(URL) is None
    assert await limits.try_acquire("https://other.example/") is not None


async def test_waiting_ends_with_the_park() -> None:
    """It sleeps exactly as long as it was told."""
    clock = FakeClock()
    limits = LocalLimits(clock=clock)
    (await limits.acquire(URL)).settle(Outcome("rate_limited", 60.0))
    await limits.acquire(URL)
    assert clock.time_s == 1060.0


async def test_a_closure_beyond_max_wait_is_told_to_the_caller() -> None:
    """With the seconds left, and at once."""
    clock = FakeClock()
    limits = LocalLimits(clock=clock)
    (await limits.acquire(URL)).settle(Outcome("rate_limited", 60.0))
    with pytest.raises(RateLimited, match="default") as caught:
        await limits.acquire(URL, max_wait_s=59.0)
    assert caught.value.retry_after_s == 60.0
    assert clock.time_s == 1000.0
    await limits.acquire(URL, max_wait_s=60.0)


async def test_what_was_never_sent_costs_nothing() -> None:
    """The slot of a request that was blocked is free at once; one without an answer has cost it."""
    limits = LocalLimits(
        (LimitRule("x", rates=(Rate(1, 60.0, burst=9),), max_concurrency=1),), clock=FakeClock()
    )
    for was_sent in (False, True):
        permit = await limits.try_acquire(URL)
        assert permit is not None
        permit.settle(None, was_sent=was_sent)
    slots = LocalLimits((LimitRule("x", rates=(Rate(2, 60.0),)),), clock=FakeClock())
    (await slots.acquire(URL)).settle(None, was_sent=False)
    [held] = slots._held(URL, "GET")
    assert held.state.is_idle(0.0)


async def test_a_told_budget_is_heard_by_the_narrowest_that_listens() -> None:
    """`observe: none` leaves it to the next."""
    rules = (LimitRule("all", Match(), ()), LimitRule("host", Match(), ("host",), observe="none"))
    limits = LocalLimits(rules, clock=FakeClock())
    (await limits.acquire(URL)).settle(Outcome("success", told=Told(0, 60.0)))
    assert await limits.try_acquire("https://other.example/") is None
