"""Compute when a schedule is due: every so many seconds, or by a cron line in a time zone. Pure functions."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

from scrapeq.plan import Schedule


def next_due_s(schedule: Schedule, after_s: float, last_s: float | None = None) -> float:
    """
    Return the first due time after a moment, Unix seconds. Due times missed before that moment are skipped.

    Args:
        schedule: The schedule, whose cron line and time zone are known to be valid.
        after_s: The moment, Unix seconds.
        last_s: The last due time, so that steps keep their rhythm; None = `after_s`.
    """
    if schedule.every_s is not None:
        start_s = after_s if last_s is None else last_s
        steps = max(1, math.floor((after_s - start_s) / schedule.every_s) + 1)
        return start_s + steps * schedule.every_s
    from cronsim import CronSim  # imported here because few files have a cron line

    zone = ZoneInfo(schedule.timezone)
    return next(CronSim(schedule.cron, datetime.fromtimestamp(after_s, zone))).astimezone(UTC).timestamp()


def schedule_text(schedule: Schedule) -> str:
    """Return a schedule as text; it changes exactly when the schedule does."""
    if schedule.every_s is not None:
        return f"every {schedule.every_s:g} s"
    return f"{schedule.cron} {schedule.timezone}"
