"""How long a failed task waits before the next attempt: exponential backoff with full jitter."""

from __future__ import annotations

import random

from scrapeq.backoff import full_jitter_s

BASE_S, MAX_S = 1.0, 300.0
MIN_S = 0.001


def backoff_s(
    attempts: int, *, rng: random.Random | None = None, base_s: float = BASE_S, max_s: float = MAX_S
) -> float:
    """
    Return the seconds to wait after `attempts` charged attempts: uniform from 1 ms to the doubled base.

    Source: "full jitter" in the AWS Architecture Blog's "Exponential Backoff and Jitter".
    """
    return max(MIN_S, full_jitter_s(attempts + 1, base_s, max_s, rng=rng))
