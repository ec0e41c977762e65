"""Pauses between attempts: doubling up to a ceiling, with and without jitter."""

from __future__ import annotations

import itertools
import random

import pytest

from scrapeq.backoff import exponential_s, full_jitter_s, pauses_s
from scrapeq.queue.backoff import backoff_s


@pytest.mark.parametrize(
    ("failures", "expected_s"), [(-1, 1.0), (0, 1.0), (1, 1.0), (2, 2.0), (4, 8.0), (9, 256.0), (10, 300.0)]
)
def test_each_failure_doubles_the_pause(failures: int, expected_s: float) -> None:
    """The pause starts with the first one and stops at the longest."""
    assert exponential_s(failures, 1.0, 300.0) == expected_s


def test_a_huge_number_of_failures_gives_the_longest_pause() -> None:
    """The computation does not overflow."""
    assert exponential_s(10**9, 1.0, 300.0) == 300.0


def test_full_jitter_is_uniform_up_to_the_plain_pause() -> None:
    """The pause is drawn from the given generator."""
    drawn = [full_jitter_s(3, 1.0, 300.0, rng=random.Random(seed)) for seed in range(500)]
    assert 0.0 <= min(drawn) < 0.2
    assert 3.8 < max(drawn) <= 4.0
    assert full_jitter_s(3, 1.0, 300.0, rng=random.Random(7)) == random.Random(7).uniform(0.0, 4.0)


def test_a_retry_loop_gets_the_same_pauses() -> None:
    """The iterator and the function give the same pauses."""
    pauses = list(itertools.islice(pauses_s(0.02, 0.5), 8))
    assert pauses == [exponential_s(failures, 0.02, 0.5) for failures in range(1, 9)]


@pytest.mark.parametrize("attempts", [0, 1, 2, 8, 9, 50])
def test_a_failed_task_waits_at_most_the_doubled_base(attempts: int) -> None:
    """1 s doubled once for each charged attempt, at most five minutes, at least a millisecond."""
    ceiling_s = min(300.0, 2.0 ** min(attempts, 40))
    assert backoff_s(attempts, rng=random.Random(3)) == max(0.001, random.Random(3).uniform(0.0, ceiling_s))
