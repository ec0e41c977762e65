"""Counting consecutive refusals."""

from __future__ import annotations

from scrapeq.limits.consecutive_refusals import ConsecutiveRefusals


def test_requests_refused_together_count_as_one_refusal() -> None:
    """Requests in flight when a limit closes are not consecutive refusals."""
    refusals = ConsecutiveRefusals()
    for observed_s in (1.0, 1.1, 1.2):
        count = refusals.count_with("group", 0.5)
        assert count == 1
        refusals.refused("group", count, observed_s)


def test_a_refused_probe_is_counted_and_a_success_resets_the_count() -> None:
    """Only refusals of requests sent after the last refusal was observed add to the count."""
    refusals = ConsecutiveRefusals()
    refusals.refused("group", refusals.count_with("group", 0.5), 1.0)
    assert refusals.count_with("group", 2.0) == 2
    refusals.refused("group", 2, 2.5)
    assert refusals.count_with("group", 3.0) == 3
    assert refusals.count_with("other", 3.0) == 1
    refusals.succeeded("group")
    assert refusals.count_with("group", 4.0) == 1
