"""Convert the rate limits of a plan to the definitions that the limit engine uses. Pure."""

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


def _rate(rate: PlanRate, now_s: float) -> Rate:
    limit, interval_s = rate.limit, rate.interval_s
    if limit < 1 and not rate.aligned:  # stretch the window until it holds a whole request
        limit, interval_s = 1, interval_s / limit
    return Rate(limit, interval_s, rate.burst or 0, aligned_s(rate.aligned, rate.interval_s, now_s))


def aligned_s(zone: str, interval_s: float, now_s: float) -> float | None:
    """
    Return the seconds after 1970-01-01T00:00Z at which a calendar window of this time zone starts; None without zone.

    Windows of whole weeks start on Mondays. The offset of the zone is the current one: when its clocks change, windows
    are off by an hour until the next run defines the limits again.
    """
    if not zone:
        return None
    offset = None if zone == "UTC" else datetime.fromtimestamp(now_s, ZoneInfo(zone)).utcoffset()
    monday_s = FIRST_MONDAY_S if interval_s % WEEK_S == 0 else 0.0
    return (monday_s - (offset.total_seconds() if offset else 0.0)) % interval_s
