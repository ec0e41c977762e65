"""Refusals in a row: what counts as one."""

from __future__ import annotations

from scrapeq.limits.consecutive_refusals import ConsecutiveRefusals


def test_requests_refused_together_are_one_refusal() -> None:
    """Eight requests on their way when a limit closes do not make a row of eight."""
    refusals = ConsecutiveRefusals()
    for heard_s in (1.0, 1.1, 1.2):
        count = refusals.count_with("group", 0.5)
        assert count == 1
        refusals.refused("group", count, heard_s)


def test_a_refused_probe_makes_the_row_longer_and_an_answer_ends_it() -> None:
    """What is sent after a refusal was heard counts, until one is answered well."""
    refusals = ConsecutiveRefusals()
    refusals.refused("group", refusals.count_with("group", 0.5), 1.0)
    assert refusals.count_with("group", 2.0) == 2
    refusals.refused("group", 2, 2.5)
    assert refusals.count_with("group", 3.0) == 3
    assert refusals.count_with("other", 3.0) == 1
    refusals.succeeded("group")
    assert refusals.count_with("group", 4.0) == 1
