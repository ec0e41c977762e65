"""The limits of a plan as definitions for the engine, by name. Pure."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace

from scrapeq.limit import Limit, Rate, aligned_s
from scrapeq.limits.partition import IMPLICIT
from scrapeq.plan import LimitRule


def limits_of(rules: Sequence[LimitRule], now_s: float | None = None) -> dict[str, Limit]:
    """
    Rate limits as the engine knows them.

    One without rates is learned from what answers tell; what no rule names is the implicit one, learned too.
    """
    now_s = time.time() if now_s is None else now_s
    limits = {IMPLICIT.name: Limit(learn=True)}
    for rule in rules:
        rates = tuple(_rate(rate, now_s) for rate in rule.rates)
        learn = not rates and rule.observe != "none"
        limits[rule.name] = Limit(rates, rule.max_concurrency, learn=learn, reserve=rule.reserve)
    return limits


def _rate(rate: Rate, now_s: float) -> Rate:
    if (
        rate.limit < 1 and rate.aligned_s is None
    ):  # a window that holds less than one request is as long as one takes
        return replace(rate, limit=1, interval_s=rate.interval_s / rate.limit)
    return replace(rate, aligned_s=aligned_s(rate.aligned, rate.interval_s, now_s)) if rate.aligned else rate
