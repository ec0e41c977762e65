"""Pauses between attempts that double up to a ceiling: plain, or drawn at random (full jitter)."""

from __future__ import annotations

import random
from collections.abc import Iterator

_MAX_DOUBLINGS = 60  # beyond any ceiling in use, and far from the overflow of a float


def exponential_s(failures: int, first_s: float, max_s: float) -> float:
    """
    Return the pause after a number of consecutive failures, in seconds.

    Args:
        failures: 1 after the first failure; smaller numbers count as 1.
        first_s: The pause after the first failure; each further failure doubles it.
        max_s: The longest pause.
    """
    doublings = min(max(failures, 1) - 1, _MAX_DOUBLINGS)
    return min(first_s * 2.0**doublings, max_s)


def full_jitter_s(failures: int, first_s: float, max_s: float, *, rng: random.Random | None = None) -> float:
    """
    Return a random pause between 0 and `exponential_s`, so that clients that failed together do not retry together.

    Source: "Exponential Backoff And Jitter", AWS Architecture Blog.
    """
    return (rng or random).uniform(0.0, exponential_s(failures, first_s, max_s))


def pauses_s(first_s: float, max_s: float) -> Iterator[float]:
    """
    Yield the pauses of one retry loop, without end: `first_s`, twice that, and so on up to `max_s`.

        pauses = pauses_s(0.02, 0.5)
        while not connect():
            time.sleep(next(pauses))
    """
    pause_s = first_s
    while True:
        yield min(pause_s, max_s)
        pause_s = min(pause_s * 2.0, max_s)
