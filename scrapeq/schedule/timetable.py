"""When a schedule is due: every so many seconds, or by a cron line in a time zone. Pure."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

from scrapeq.plan import Schedule


def next_due_s(schedule: Schedule, after_s: float, last_s: float | None = None) -> float:
    """
    The first time that is due after a moment, Unix seconds. What was missed until then is not made up for.

    Args:
        schedule: What the file says; its cron line and its zone are known to be right.
        after_s: Unix seconds.
        last_s: When it was due last, for steps to stay in step; None = now.
    """
    if schedule.every_s is not None:
        start_s = after_s if last_s is None else last_s
        steps = max(1, math.floor((after_s - start_s) / schedule.every_s) + 1)
        return start_s + steps * schedule.every_s
    from cronsim import CronSim  # few files have a cron line: a start does not pay for it

    zone = ZoneInfo(schedule.timezone)
    return next(CronSim(schedule.cron, datetime.fromtimestamp(after_s, zone))).astimezone(UTC).timestamp()


def spelled(schedule: Schedule) -> str:
    """A schedule as a text: whether it is another one than the one before."""
    if schedule.every_s is not None:
        return f"every {schedule.every_s:g} s"
    return f"{schedule.cron} {schedule.timezone}"
