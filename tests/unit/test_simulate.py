"""Forecasts of work under limits: known results, priorities, follow-up work, and lots."""

from __future__ import annotations

import time
from dataclasses import fields
from typing import Any

import pytest

from scrapeq.errors import UsageError
from scrapeq.limit import Limit, LimitState, Rate, Reserve
from scrapeq.simulate import Work, simulate
from scrapeq.simulate.lots import LOTS
from scrapeq.task import Group

ONE = Group("g", ("core",))
HOUR = {"core": Limit((Rate(5000, 3600.0),))}


def state(name: str, **known: Any) -> LimitState:
    """Return the state of a limit with only these values known."""
    plain: dict[str, Any] = dict.fromkeys([field.name for field in fields(LimitState)[1:]], 0.0)
    empty = {"paused": False, "probing": False, "remaining": None, "learned": None, "source": ""}
    return LimitState(name, **{**plain, **empty, **known})


def test_a_paced_limit_takes_the_time_of_its_requests() -> None:
    """300 requests at 30 a minute: one every two seconds, and the whole quota is used."""
    forecast = simulate([Work(ONE, 300)], {"core": Limit((Rate(30, 60.0),))}, latency_s=0.1)
    assert 299 * 2 <= forecast.done_s <= 300 * 2 + 1
    (limit,) = forecast.limits
    assert (limit.name, limit.requests, limit.first_s) == ("core", 300, 0.0)
    assert limit.share is not None and limit.share > 0.99
    assert forecast.left == 0 and forecast.exact_to_s == 0
    assert [round(moment / 60) for moment in forecast.tenths_s] == list(range(1, 11))


def test_without_limits_only_the_slots_count() -> None:
    """1,000 requests in 10 slots at half a second each take 50 seconds; the forecast lists no limit."""
    forecast = simulate([Work(Group("free"), 1000)], {}, slots=10, latency_s=0.5)
    assert forecast.done_s == pytest.approx(50)
    assert forecast.limits == ()


def test_concurrency_bounds_what_is_in_flight() -> None:
    """100 requests of one second, four at once, take 25 seconds, whatever the number of slots."""
    forecast = simulate([Work(ONE, 100)], {"core": Limit(max_concurrency=4)}, latency_s=1)
    assert forecast.done_s == pytest.approx(25)
    assert forecast.limits[0].share is None and forecast.limits[0].held_s == pytest.approx(24, abs=1)


def test_a_page_sequence_sends_one_request_after_the_other() -> None:
    """Two sequences of ten pages without a limit take the time of ten responses."""
    forecast = simulate([Work(Group("free"), 2, pages=10)], {}, latency_s=1)
    assert forecast.requests == 20
    assert forecast.done_s == pytest.approx(10)


def test_the_highest_priority_is_done_first() -> None:
    """Of three priorities under one limit, the highest finishes first; the bands are in that order."""
    work = [Work(ONE, 10, priority=priority) for priority in (1, 3, 2)]
    forecast = simulate(work, {"core": Limit((Rate(1, 1.0),))}, latency_s=0)
    assert [band.highest for band in forecast.bands] == [3, 2, 1]
    assert [round(band.done_s or 0) for band in forecast.bands] == [9, 19, 29]


def test_a_closed_limit_does_not_delay_other_work() -> None:
    """While the work with the highest priority is parked, work under another limit is done."""
    work = [Work(ONE, 5, priority=9), Work(Group("h", ("other",)), 5, label="other")]
    forecast = simulate(work, {}, latency_s=0.1, states=[state("core", parked_s=600, probing=True)])
    done = {one.label: one.done_s for one in forecast.work}
    assert (done["other"] or 0) < 1
    assert 600 < (done[""] or 0) < 610


def test_all_limits_of_a_request_must_grant() -> None:
    """The slower of two limits determines the time, and comes first in the forecast."""
    limits = {"core": Limit((Rate(100, 1.0),)), "search": Limit((Rate(1, 2.0),))}
    forecast = simulate([Work(Group("g", ("core",), "search|a"), 10)], limits, latency_s=0.1)
    assert forecast.done_s == pytest.approx(9 * 2.1 + 0.1, abs=0.3)
    assert forecast.limits[0].name == "search|a"


def test_a_pool_has_the_quotas_of_all_its_credentials() -> None:
    """Three tokens do three times the work of one; each has its own limit in the forecast."""
    limits = {"core": Limit((Rate(10, 10.0),))}
    work = [Work(Group("g", ("core|host,*tokens",)), 90)]
    forecast = simulate(work, limits, latency_s=0.1, pools={"tokens": ["a", "b", "c"]})
    assert forecast.done_s == pytest.approx(30, abs=2)
    assert [one.name for one in sorted(forecast.limits, key=lambda one: one.name)] == [
        "core|host,a",
        "core|host,b",
        "core|host,c",
    ]
    assert [one.requests for one in forecast.limits] == [30, 30, 30]


def test_weights_change_the_time() -> None:
    """Requests of weight 3 take three times as long; those of weight 0 never wait."""
    limits = {"core": Limit((Rate(60, 60.0),))}
    heavy = simulate([Work(Group("g", ("core",), weights=(("core", 3),)), 40)], limits)
    assert heavy.done_s == pytest.approx(120, abs=5)
    free = simulate([Work(Group("g", ("core",), weights=(("core", 0),)), 40)], limits, latency_s=1)
    assert free.done_s == pytest.approx(1)


def test_calendar_windows_reset_by_the_calendar() -> None:
    """Starting at half past the hour, one quota is used at once and the next at the full hour."""
    limits = {"core": Limit((Rate(100, 3600.0, aligned_s=0.0),))}
    forecast = simulate([Work(ONE, 250)], limits, slots=10, latency_s=0.1, start_s=1800.0)
    assert forecast.done_s == pytest.approx(1800 + 3600, abs=10)
    assert forecast.tenths_s[3] < 10 and forecast.tenths_s[4] > 1790


def test_a_reserve_is_left_for_high_priorities() -> None:
    """Work below the threshold uses half of the window, so later work above it need not wait."""
    limits = {"core": Limit((Rate(100, 100.0),), reserve=Reserve(0.5, 5.0))}
    low = Work(ONE, 100, priority=1, label="low")
    high = Work(ONE, 20, priority=9, delay_s=60, label="high")
    forecast = simulate([low, high], limits, latency_s=0.1)
    done = {one.label: one.done_s for one in forecast.work}
    assert (done["high"] or 0) < 100 < (done["low"] or 0)


def test_a_burst_is_sent_at_once() -> None:
    """A bucket of 10 that refills one a second: ten at once, then one a second."""
    forecast = simulate([Work(ONE, 20)], {"core": Limit((Rate(1, 1.0, 10),))}, latency_s=0)
    assert forecast.done_s == pytest.approx(10, abs=0.1)


def test_follow_up_work_starts_as_responses_arrive() -> None:
    """Comments start with the first responses of issues, which have the same priority, and both finish."""
    work = [Work(ONE, 100, label="issues"), Work(ONE, 1000, label="comments", follows="issues")]
    forecast = simulate(work, {"core": Limit((Rate(10, 1.0),))}, latency_s=0.1)
    issues, comments = forecast.work
    assert (comments.requests, forecast.left) == (1000, 0)
    assert (
        comments.first_s is not None and issues.done_s is not None and comments.first_s <= issues.done_s + 1
    )
    assert forecast.done_s == pytest.approx(
        1100 / 10 * 1.1, rel=0.02
    )  # slots of one second, freed 0.1 s later


def test_delayed_work_waits() -> None:
    """Requests are sent only after the delay."""
    forecast = simulate([Work(Group("free"), 3, delay_s=86_400)], {}, latency_s=1)
    assert forecast.done_s == pytest.approx(86_401)


def test_the_current_state_of_limits_counts() -> None:
    """A reported budget, a learned rate and a used window delay the work."""
    reported = simulate([Work(ONE, 5)], HOUR, states=[state("core", remaining=2.0, reset_s=900.0)])
    assert reported.done_s > 900
    unknown = {"core": Limit(learn=True)}
    learned = simulate([Work(ONE, 100)], unknown, states=[state("core", learned=Rate(1, 2.0))], latency_s=0)
    assert learned.done_s == pytest.approx(198, abs=1)
    full = simulate([Work(ONE, 1)], {"core": Limit((Rate(3, 60.0),))}, states=[state("core", used=3.0)])
    assert full.done_s > 60


def test_work_under_a_paused_limit_never_finishes() -> None:
    """The forecast lists it as remaining and waiting, without a finish time."""
    forecast = simulate([Work(ONE, 7, label="a")], HOUR, states=[state("core", paused=True)])
    assert forecast.left == 7
    assert forecast.limits[0].waiting == 7
    assert forecast.work[0].done_s is None and forecast.bands[0].done_s is None


def test_the_horizon_ends_the_simulation() -> None:
    """Requests without a response by then remain."""
    forecast = simulate([Work(ONE, 100)], {"core": Limit((Rate(1, 1.0),))}, horizon_s=10)
    assert 90 <= forecast.left <= 93


@pytest.mark.parametrize("rate", [Rate(7, 10.0), Rate(100, 60.0), Rate(0.5, 1.0), Rate(60, 1.0, 20)])
def test_lots_take_as_long_as_single_requests(rate: Rate, monkeypatch: pytest.MonkeyPatch) -> None:
    """With lots, the end is the same as with single requests, within the stated error."""
    work, limits = [Work(ONE, 2000)], {"core": Limit((rate,))}
    single = simulate(work, limits)
    monkeypatch.setattr("scrapeq.simulate.lots.LOTS", 100)
    lots = simulate(work, limits)
    assert lots.done_s == pytest.approx(single.done_s, rel=0.01, abs=lots.exact_to_s + 1)
    assert lots.requests == single.requests and lots.left == 0


def test_days_are_simulated_in_a_moment() -> None:
    """A week at 5,000 an hour: more than a thousand times faster than real time, with an error below one percent."""
    requests = 5000 * 24 * 7
    assert requests > LOTS
    began = time.perf_counter()
    forecast = simulate([Work(ONE, requests)], HOUR)
    took_s = time.perf_counter() - began
    assert forecast.done_s == pytest.approx(7 * 86_400, rel=0.01)
    assert forecast.done_s / took_s > 1000
    assert forecast.exact_to_s < 120


@pytest.mark.parametrize(
    ("work", "settings", "words"),
    [
        ([], {"slots": 0}, "at least 1"),
        ([], {"latency_s": -1.0}, "latency"),
        ([], {"latency_s": float("nan")}, "latency"),
        ([Work(ONE, 1, label="a", follows="b")], {}, "follows 'b', but no work has that label"),
        (
            [Work(ONE, 1, label="a", follows="b"), Work(ONE, 1, label="b", follows="a")],
            {},
            "never starts, because it follows itself",
        ),
    ],
)
def test_a_wrong_setting_raises_an_error(work: list[Work], settings: dict[str, Any], words: str) -> None:
    """The message names the setting."""
    with pytest.raises(UsageError, match=words):
        simulate(work, {}, **settings)


def test_invalid_work_raises_an_error() -> None:
    """Negative counts and priorities that are not a number are invalid; an empty list of work finishes at once."""
    with pytest.raises(UsageError, match="count must be at least 0"):
        Work(ONE, -1)
    with pytest.raises(UsageError, match="finite"):
        Work(ONE, 1, priority=float("nan"))
    assert simulate([], {}).done_s == 0
