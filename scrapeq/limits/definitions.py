"""The limits of a plan as definitions for the engine, by name. Pure."""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import datetime
from zoneinfo import ZoneInfo

from scrapeq.limit import Limit, Rate
from scrapeq.limits.partition import IMPLICIT
from scrapeq.plan import LimitRule
from scrapeq.plan import Rate as PlanRate

WEEK_S, FIRST_MONDAY_S = 7 * 86_400, 4 * 86_400


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


def _rate(rate: PlanRate, now_s: float) -> Rate:
    limit, interval_s = rate.limit, rate.interval_s
    if limit < 1 and not rate.aligned:  # a window that holds less than one request is as long as one takes
        limit, interval_s = 1, interval_s / limit
    return Rate(limit, interval_s, rate.burst or 0, aligned_s(rate.aligned, rate.interval_s, now_s))


def aligned_s(zone: str, interval_s: float, now_s: float) -> float | None:
    """
    Seconds after 1970-01-01T00:00Z at which a calendar window of this time zone began; None without one.

    Whole weeks begin on Mondays. The zone's offset is that of now: after a change of its clocks the windows are off by
    an hour until the limits are defined again, which each run does when it begins.
    """
    if not zone:
        return None
    offset = None if zone == "UTC" else datetime.fromtimestamp(now_s, ZoneInfo(zone)).utcoffset()
    monday_s = FIRST_MONDAY_S if interval_s % WEEK_S == 0 else 0.0
    return (monday_s - (offset.total_seconds() if offset else 0.0)) % interval_s
