"""The pauses before restarts, and the titles of limits in events."""

from __future__ import annotations

from scrapeq.inspect.limit_views import title_of
from scrapeq.processes.child import RestartBackoff


def test_pauses_double_up_to_the_longest_during_a_crash_loop() -> None:
    """The pause of a process that never runs for long doubles each time."""
    backoff = RestartBackoff(0.25, 30.0)
    pauses = []
    for _ in range(10):
        backoff.record_lifetime(0.2)
        pauses.append(backoff.next_s())
    assert pauses == [0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0, 30.0]


def test_an_occasional_kill_costs_the_shortest_pause() -> None:
    """A process that finished work, or ran for ten pauses or half a minute, is not in a crash loop."""
    backoff = RestartBackoff(0.25, 30.0)
    for did_work, lifetime_s in ((True, 0.1), (False, 10.1), (False, 31.0)):
        backoff.next_s()
        assert backoff.next_s() == 0.5
        backoff.record_lifetime(lifetime_s, did_work=did_work)
        assert backoff.next_s() == 0.25
        backoff.record_lifetime(31.0)
    for _ in range(9):
        backoff.next_s()
    backoff.record_lifetime(29.0)
    assert backoff.next_s() == 30.0


def test_a_limits_title_names_its_partition() -> None:
    """The title is the name with the non-empty parts of the partition in parentheses."""
    assert title_of("core") == "core"
    assert title_of("core|api.example:443,") == "core (api.example:443)"
    assert title_of("core|api.example,a91f") == "core (api.example, a91f)"
