"""The delay of a failed task before its next attempt: exponential, with full jitter."""

from __future__ import annotations

import random

from scrapeq.backoff import full_jitter_s

BASE_S, MAX_S = 1.0, 300.0
LEAST_S = 0.001
MAX_ATTEMPTS = 5


def backoff_s(
    attempts: int, *, rng: random.Random | None = None, base_s: float = BASE_S, max_s: float = MAX_S
) -> float:
    """Return the seconds before the next attempt: random up to the base doubled `attempts` times, at least 1 ms."""
    return max(LEAST_S, full_jitter_s(attempts + 1, base_s, max_s, rng=rng))
