"""How long a failed task waits before the next attempt: exponential backoff with full jitter."""

from __future__ import annotations

import random

BASE_S, MAX_S = 1.0, 300.0
MIN_S = 0.001
MAX_DOUBLINGS = 40  # beyond it the power would only overflow


def backoff_s(
    attempts: int, *, rng: random.Random | None = None, base_s: float = BASE_S, max_s: float = MAX_S
) -> float:
    """
    Return the seconds to wait after `attempts` charged attempts: uniform from 1 ms to the doubled base.

    Source: "full jitter" in the AWS Architecture Blog's "Exponential Backoff and Jitter".
    """
    ceiling = min(max_s, base_s * 2.0 ** min(attempts, MAX_DOUBLINGS))
    return max(MIN_S, (rng or random).uniform(0.0, ceiling))
