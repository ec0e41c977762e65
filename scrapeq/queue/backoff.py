"""How long a failed try waits: exponential, with full jitter."""

from __future__ import annotations

import random

BASE_S, MAX_S = 1.0, 300.0
MAX_ATTEMPTS = 5


def backoff_s(
    attempts: int, *, rng: random.Random | None = None, base_s: float = BASE_S, max_s: float = MAX_S
) -> float:
    """
    Seconds until the next try after `attempts` charged ones: uniform between 0 and the doubled base, at least 1 ms.

    Source: full jitter, as in the AWS Architecture Blog's "Exponential Backoff and Jitter".
    """
    ceiling = min(max_s, base_s * 2.0 ** min(attempts, 40))
    return max(0.001, (rng or random).uniform(0.0, ceiling))
