"""Convert the rate limits of a plan to the definitions that the limit engine uses. Pure."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace

from scrapeq.limit import Limit, Rate, aligned_s
from scrapeq.limits.partition import IMPLICIT
from scrapeq.plan import LimitRule


def limits_of(rules: Sequence[LimitRule], now_s: float | None = None) -> dict[str, Limit]:
    """
    Return the definitions of rate limits by name, including the implicit one.

    A limit without rates, and the implicit limit, learn from responses.

    Args:
        rules: The rate limits of a plan.
        now_s: Unix time for the offset of calendar windows; None: now.
    """
    now_s = time.time() if now_s is None else now_s
    limits = {IMPLICIT.name: Limit(learn=True)}
    for rule in rules:
        rates = tuple(_rate(rate, now_s) for rate in rule.rates)
        learn = not rates and rule.observe != "none"
        limits[rule.name] = Limit(rates, rule.max_concurrency, learn=learn, reserve=rule.reserve)
    return limits


def _rate(rate: Rate, now_s: float) -> Rate:
    if rate.limit < 1 and rate.aligned_s is None:  # stretch the window until it holds a whole request
        return replace(rate, limit=1, interval_s=rate.interval_s / rate.limit)
    return replace(rate, aligned_s=aligned_s(rate.aligned, rate.interval_s, now_s)) if rate.aligned else rate
