"""Grants of the limits of one process, on a fake clock."""

from __future__ import annotations

import pytest
from local_limits import ALL, ALONE, FINE, HOST, NEXT_WINDOW_S, OTHER, TICK_S, Limited, refusal

from scrapeq.fetcher import local_limits
from scrapeq.limits.learning import LEAST_WINDOW_US, START_IN_FLIGHT, Learned, S
from scrapeq.plan import LimitRule, Match, Rate, Weight
from scrapeq.responses.observation import Reported
from scrapeq.responses.outcome import Outcome
from scrapeq.responses.rule_observations import RuleObservation


async def test_an_unknown_limit_starts_slowly() -> None:
    """Only one request is sent until the first response, then a few are in flight."""
    limited = Limited()
    [first] = await limited.fill()
    limited.settle(first, FINE)
    assert len(await limited.fill()) == START_IN_FLIGHT


async def test_a_lost_request_proves_nothing() -> None:
    """Without a response, the next request is still sent alone, and not at once."""
    limited = Limited()
    [first] = await limited.fill()
    first.settle(None)
    assert await limited.closed_s() == 1.0
    await limited.clock.advance(1.0)
    assert len(await limited.fill()) == 1


async def test_refusals_of_requests_in_flight_together_count_once() -> None:
    """The longest of their waits applies."""
    limited = Limited(LimitRule("x", max_concurrency=8))
    await limited.request()
    flight = await limited.fill()
    assert len(flight) == 8
    await limited.clock.advance(1.0)
    for index, permit in enumerate(flight):
        assert limited.consecutive_refusals(permit) == 1
        limited.settle(permit, refusal(10.0 - index))
    assert await limited.closed_s() == 10.0
    await limited.clock.advance(10.0)
    [probe] = await limited.fill()
    assert limited.consecutive_refusals(probe) == 2


async def test_one_probe_follows_a_park_and_only_its_response_opens() -> None:
    """Late responses to earlier requests do not open the limit; a lost probe is followed by another one."""
    limited = Limited(LimitRule("x", max_concurrency=3, observe="none"))
    first, *late = await limited.fill()
    await limited.clock.advance(1.0)
    limited.settle(first, refusal(5.0))
    for permit in late:
        limited.settle(permit, FINE)
    await limited.clock.advance(4.9)
    assert await limited.fill() == []
    await limited.clock.advance(0.1)
    [probe] = await limited.fill()
    probe.settle(None)
    await limited.clock.advance(1.0)
    [second] = await limited.fill()
    limited.settle(second, FINE)
    assert len(await limited.fill()) == 3


async def test_a_refused_probe_closes_for_longer_than_the_stated_wait() -> None:
    """The last wait was too short. Consecutive refusals are counted until a request is accepted."""
    limited = Limited()
    await limited.request(refusal(5.0))
    await limited.clock.advance(5.0)
    [probe] = await limited.fill()
    assert limited.consecutive_refusals(probe) == 2
    limited.settle(probe, refusal(5.0))
    assert await limited.closed_s() > 5.0
    await limited.clock.advance(7.0)
    await limited.request()
    assert limited.consecutive_refusals(await limited.one()) == 1


async def test_a_reported_budget_is_spent_exactly() -> None:
    """The remaining requests minus those in flight are granted, then one request after the reset."""
    limited = Limited()
    await limited.request(Outcome("success", reported=Reported(20, 60.0)))
    flight = await limited.fill()
    assert len(flight) == 20
    await limited.clock.advance(1.0)
    for index, permit in enumerate(flight):
        limited.settle(permit, Outcome("success", reported=Reported(19 - index, 59.0)))
    assert await limited.closed_s() == 59.0
    await limited.clock.advance(59.0)
    assert len(await limited.fill()) == 1


async def test_an_older_response_does_not_raise_the_budget() -> None:
    """Only the response to a request sent after the last report may raise it."""
    limited = Limited()
    await limited.request(Outcome("success", reported=Reported(20, 60.0)))
    early, late = await limited.one(), await limited.one()
    await limited.clock.advance(1.0)
    limited.settle(late, Outcome("success", reported=Reported(5, 58.0)))
    limited.settle(early, Outcome("success", reported=Reported(18, 58.0)))
    assert len(await limited.fill()) == 5


async def test_a_response_without_a_budget_costs_one() -> None:
    """It and lost requests count against the reported budget; requests that were never sent do not."""
    limited = Limited()
    await limited.request(Outcome("success", reported=Reported(3, 60.0)))
    one, two, three = await limited.fill()
    limited.settle(one, FINE)
    two.settle(None)
    assert await limited.fill() == []
    three.settle(None, was_sent=False)
    assert len(await limited.fill()) == 1


async def test_a_response_may_state_its_cost() -> None:
    """The cost replaces the charged weight."""
    limited = Limited()
    await limited.request(Outcome("success", reported=Reported(10, 60.0)))
    limited.settle(await limited.one(), Outcome("success", cost=7.0))
    assert len(await limited.fill()) == 3


async def test_a_stated_rate_is_obeyed() -> None:
    """After size and window are stated without a budget, the limit is paced like a configured one."""
    limited = Limited()
    await limited.request(Outcome("success", rates=((60.0, 60.0),)))
    await limited.clock.advance(1.0)
    limited.settle(await limited.one(), FINE)
    assert await limited.fill() == []
    await limited.clock.advance(0.9)
    assert await limited.fill() == []
    await limited.clock.advance(0.1)
    assert len(await limited.fill()) == 1


async def test_a_rule_may_ignore_responses() -> None:
    """With `observe: none`, only refusals limit it."""
    limited = Limited(LimitRule("x", observe="none"))
    await limited.request(Outcome("success", reported=Reported(0, 60.0)))
    permits = [await limited.one() for _ in range(50)]
    await limited.clock.advance(TICK_S)
    limited.settle(permits[0], refusal(9.0))
    assert await limited.closed_s() == 9.0


async def test_concurrency_is_limited() -> None:
    """After the first response, the configured number of requests may be in flight."""
    limited = Limited(LimitRule("x", max_concurrency=20))
    await limited.request()
    flight = await limited.fill()
    assert len(flight) == 20
    limited.settle(flight[0], FINE)
    assert len(await limited.fill()) == 1


async def test_a_rate_is_paced_and_its_slots_are_freed_one_window_after_the_response() -> None:
    """Windows count from the response, so that no window of the server exceeds the limit."""
    limited = Limited(LimitRule("x", rates=(Rate(3, 9.0),)))
    flight = []
    for _ in range(3):
        flight += await limited.fill()
        await limited.clock.advance(3.0)
    assert len(flight) == 3
    assert await limited.fill() == [], "paced, but all slots are taken until there are responses"
    for permit in flight:
        limited.settle(permit, FINE)
        await limited.clock.advance(1.0)
    assert await limited.closed_s() == 9.0 - 3.0
    await limited.clock.advance(6.0)
    assert len(await limited.fill()) == 1


async def test_all_rates_of_a_limit_apply() -> None:
    """Example: ten in a second, and at most twelve in a minute."""
    limited = Limited(LimitRule("x", rates=(Rate(10, 1.0, burst=10), Rate(12, 60.0, burst=12))))
    flight = await limited.fill()
    assert len(flight) == 10
    for permit in flight:
        limited.settle(permit, FINE)
    await limited.clock.advance(2.0)
    assert len(await limited.fill()) == 2


async def test_rates_below_one_stretch_the_window() -> None:
    """Half a request per second is one in two seconds."""
    limited = Limited(LimitRule("x", rates=(Rate(0.5, 1.0),)))
    limited.settle(await limited.one(), FINE)
    await limited.clock.advance(1.9)
    assert await limited.fill() == []
    await limited.clock.advance(0.1)
    assert len(await limited.fill()) == 1


async def test_a_calendar_window_is_not_paced_and_ends_with_the_hour() -> None:
    """Requests are counted by the wall clock."""
    limited = Limited(LimitRule("x", rates=(Rate(5, 3600.0, aligned="UTC"),)))
    await limited.clock.advance(NEXT_WINDOW_S % 3600 - 10.0)
    for permit in await limited.fill():
        limited.settle(permit, FINE)
    assert await limited.closed_s() == 10.0
    await limited.clock.advance(10.0)
    assert len(await limited.fill()) == 5


async def test_heavy_requests_are_charged_their_weight() -> None:
    """A search of weight three leaves two of five requests."""
    weights = (Weight(Match(path=("/search*",)), 3.0),)
    limited = Limited(LimitRule("x", rates=(Rate(5, 3600.0, aligned="UTC"),), weights=weights))
    await limited.one("https://api.example/search")
    assert await limited.limits.try_acquire("https://api.example/search") is None
    assert len(await limited.fill()) == 2


async def test_every_matching_limit_must_grant() -> None:
    """A closed limit holds the request back although the other is open."""
    limited = Limited(ALONE, HOST)
    first = await limited.one()
    assert await limited.fill(OTHER) == []
    limited.settle(first, FINE)
    limited.settle(first, refusal(99.0))  # only the first report counts
    assert len(await limited.fill(OTHER)) == 1


async def test_a_refusal_closes_its_host_alone() -> None:
    """The narrowest limit is parked; other hosts stay open."""
    limited = Limited(ALL, HOST)
    await limited.request(refusal(60.0))
    assert await limited.fill() == []
    assert len(await limited.fill(OTHER)) == 1


async def test_a_refusal_with_a_wide_scope_closes_all_limits() -> None:
    """Scope `all`, without a limit of that scope, closes every limit of the request."""
    limited = Limited(ALL, HOST)
    await limited.request(Outcome("rate_limited", 60.0, scope="all"))
    assert await limited.fill(OTHER) == []


async def test_a_budget_belongs_to_the_narrowest_limit_that_observes() -> None:
    """With `observe: none` it belongs to the next one; separate readings belong to their limits."""
    limited = Limited(ALL, LimitRule("host", Match(), ("host",), observe="none"))
    await limited.request(Outcome("success", reported=Reported(0, 60.0)))
    assert await limited.fill(OTHER) == []
    two = Limited(ALL, HOST)
    await two.request(
        Outcome(
            "success",
            rule_observations=(
                RuleObservation("all", Reported(5, 60.0)),
                RuleObservation("host", Reported(2, 60.0)),
            ),
        )
    )
    assert len(await two.fill()) == 2
    assert await two.closed_s() == 60.0 - TICK_S


async def test_a_request_that_was_never_sent_costs_nothing() -> None:
    """A blocked request returns its slot; a request without a response keeps it."""
    limited = Limited(LimitRule("x", rates=(Rate(1, 60.0),)))
    (await limited.one()).settle(None, was_sent=False)
    (await limited.one()).settle(None)
    await limited.clock.advance(59.9)
    assert await limited.fill() == []
    await limited.clock.advance(0.1)
    assert len(await limited.fill()) == 1


async def test_idle_limits_are_forgotten_learned_ones_last(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Limits that are closed or in use are never forgotten; those with refusals are forgotten last."""
    monkeypatch.setattr(local_limits, "MAX_INSTANCES", 5)
    monkeypatch.setattr(local_limits, "RETAINED_INSTANCES", 3)
    limited = Limited()
    hosts = [f"https://h{number}.example/" for number in range(9)]
    await limited.request(refusal(3600.0), hosts[0])
    in_flight = await limited.one(hosts[1])
    await limited.request(refusal(1.0), hosts[2])
    await limited.clock.advance(1.0)
    for host in hosts[3:6]:
        await limited.request(url=host)
    names = {name.split("|")[1].split(".")[0] for name in limited.limits._instances}
    assert names == {"h0", "h1", "h2", "h5"}
    assert await limited.fill(hosts[0]) == []
    limited.settle(in_flight, FINE)
    assert len(await limited.fill(hosts[1])) == START_IN_FLIGHT


async def test_a_stated_window_near_zero_becomes_a_hundredth_of_a_second() -> None:
    """A server's value never causes an error; learning goes on from it."""
    limited = Limited()
    await limited.request()
    await limited.request(Outcome("success", rates=((10.0, 1e-7),)))
    for _ in range(3):
        await limited.request()
    await limited.request(refusal(2.0))
    await limited.clock.advance(2.0)
    await limited.request()
    assert limited.limits._instances["default|api.example,"].model.learned.window >= LEAST_WINDOW_US


def test_a_slow_refusal_right_after_a_reopening_lowers_a_limit_by_little() -> None:
    """The request's round trip may be longer than the phase, which then says nothing about the window."""
    learned = Learned(limit=1000, window=10 * S, source=1, pacing=-1, accepted=1, phase_start=1000 * S)
    granted, at = 1000 * S + 30_000, 1000 * S + 130_000
    learned.record_refusal(granted, at, at + S, guessed=False, in_window=1, consecutive_refusals=0)
    learned.record_probe_success(at + S + 20_000, at + S, 1)
    assert learned.limit == 980
