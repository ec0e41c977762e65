"""A reset reported as a Unix time in whole seconds is read as exactly as possible, without a refusal."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest

from scrapeq.limits.reset_countdown import WORTH_S
from scrapeq.limits.server_clock import ServerClocks
from scrapeq.responses.observation import Reported

WAY_S = 0.02  # travel time of a request or a response
AHEAD_S = 1795500000.3  # the server's clock minus the client's
SERVER_STARTED_S = 1795500000


class Server:
    """A window of whole seconds that starts with a request or by the clock, reported in X-RateLimit fields."""

    def __init__(self, limit: int, window_s: float, rounds: Callable[[float], int], *, aligned: bool) -> None:
        self._limit, self._window_s, self._rounds, self._aligned = limit, window_s, rounds, aligned
        self._ends_s = 0.0
        self._count = 0
        self.accepted = self.refused = 0

    def respond(self, at_s: float) -> Reported:
        """Return the response to a request that arrives at this time of the client's clock."""
        now_s = at_s + AHEAD_S
        if now_s >= self._ends_s:
            started_s = now_s - now_s % self._window_s if self._aligned else now_s
            self._ends_s, self._count = started_s + self._window_s, 0
        if self._count < self._limit:
            self._count += 1
            self.accepted += 1
        else:
            self.refused += 1
        resets, date = self._rounds(self._ends_s), math.floor(now_s)
        return Reported(
            self._limit - self._count, float(max(0, resets - date)), self._limit, resets, float(date)
        )


def spend(server: Server, now_s: float, until_s: float, clocks: ServerClocks | None) -> float:
    """Send one request after the other while the budget lasts, then none until the reset. Return the end time."""
    while now_s < until_s:
        reported = server.respond(now_s + WAY_S)
        sent_s, now_s = now_s, now_s + 2 * WAY_S
        if clocks is not None:
            reported = clocks.read("limit", reported, sent_s, now_s)
        if not reported.remaining:
            now_s += reported.reset_s
    return now_s


@pytest.mark.parametrize("aligned", [False, True])
@pytest.mark.parametrize("rounds", [math.ceil, math.floor, round])
def test_a_window_reported_in_whole_seconds_is_used(rounds: Callable[[float], int], aligned: bool) -> None:
    """At least 95 % of ten windows are used whatever the rounding, without a refusal after the first."""
    limit, window_s, windows = 60, 10.0, 10
    server = Server(limit, window_s, rounds, aligned=aligned)
    clocks = ServerClocks()
    started_s = spend(server, 0.0, window_s, clocks)
    server.accepted = server.refused = 0
    spend(server, started_s, started_s + window_s * windows, clocks)
    assert server.accepted >= 0.95 * limit * windows
    assert server.refused == 0


def test_at_face_value_a_tenth_of_the_quota_is_lost() -> None:
    """Shows that the correction is necessary: the same server without it."""
    server = Server(60, 3.0, math.ceil, aligned=False)
    spend(server, 0.0, 30.0, None)
    assert server.accepted < 0.9 * 60 * 10


def test_only_short_windows_with_many_requests_are_corrected() -> None:
    """A budget with a long window, few requests or a fractional reset is returned unchanged."""
    clocks = ServerClocks()
    for reported in (
        Reported(5, 10.5, 100, None, None),
        Reported(5, WORTH_S + 1, 1000, SERVER_STARTED_S + 200, SERVER_STARTED_S),
        Reported(5, 10.0, 6, SERVER_STARTED_S + 10, SERVER_STARTED_S),
    ):
        assert clocks.read("limit", reported, 0.0, 0.1) is reported


def test_the_last_request_is_withheld_until_the_first_possible_end() -> None:
    """The other requests are granted at once."""
    clocks = ServerClocks()
    first = clocks.read("limit", Reported(99, 10.0, 100, SERVER_STARTED_S + 10, SERVER_STARTED_S), 0.0, 0.04)
    assert (first.remaining, first.reset_s) == (98, 10.0)
    later = clocks.read("limit", Reported(1, 10.0, 100, SERVER_STARTED_S + 10, SERVER_STARTED_S), 0.5, 0.54)
    assert (later.remaining, round(later.reset_s, 6)) == (0, 9.5)
    spent = clocks.read(
        "limit", Reported(0, 1.0, 100, SERVER_STARTED_S + 10, SERVER_STARTED_S + 9), 10.04, 10.08
    )
    assert (spent.remaining, round(spent.reset_s, 6)) == (0, 0.96)


def test_a_reset_with_a_fraction_needs_the_clock_alone() -> None:
    """A request is not withheld; later responses restore the fraction that the Date lacks."""
    clocks = ServerClocks()
    resets = SERVER_STARTED_S + 10.25
    first = clocks.read("limit", Reported(9, 10.25, 10, resets, SERVER_STARTED_S), 0.0, 0.5)
    assert (first.remaining, first.reset_s) == (9, 10.25)
    later = clocks.read("limit", Reported(8, 9.25, 10, resets, SERVER_STARTED_S + 1), 0.9, 0.94)
    assert (later.remaining, later.reset_s) == pytest.approx((8, 9.25))
    assert clocks.read(
        "limit", Reported(7, 9.25, 10, resets, SERVER_STARTED_S + 1), 1.3, 1.4
    ).reset_s == pytest.approx(8.79)


def test_responses_of_two_clocks_are_not_combined() -> None:
    """A Date that is too early for the known clock starts a new one."""
    clocks = ServerClocks()
    clocks.read("limit", Reported(99, 10.0, 100, SERVER_STARTED_S + 10, SERVER_STARTED_S), 0.0, 0.04)
    behind = SERVER_STARTED_S - 60
    reported = clocks.read("limit", Reported(98, 10.0, 100, behind + 10, behind), 0.1, 0.14)
    assert reported.reset_s == pytest.approx(10.0)
