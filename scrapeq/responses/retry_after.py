"""
Parse Retry-After (RFC 9110, 10.2.3) and the fields that vendors send in its place.

Servers write more than the RFC allows: a Unix time, which cannot be a number of seconds (31 years), an ISO 8601 time,
and durations with a unit.
"""

from __future__ import annotations

from scrapeq.responses import times
from scrapeq.responses.budgets import Fields

_MS_FIELDS = ("retry-after-ms", "x-ms-retry-after-ms", "x-amz-retry-after")


def retry_after_s(fields: Fields, server_s: float) -> float | None:
    """Return the wait in seconds: of the most precise field, and of several values the longest valid one."""

    def delta_or_moment(text: str) -> float | None:
        return times.until_s(text.strip('"'), server_s)

    def milliseconds(text: str) -> float | None:
        value = times.number(text)
        return None if value is None else times.capped(value / 1000)

    def go_duration(text: str) -> float | None:
        value = times.duration_s(text)
        return None if value is None else times.capped(value)

    for name in _MS_FIELDS:
        wait = fields.longest(name, milliseconds)
        if wait is not None:
            return wait
    for name, read in (
        ("retry-after", delta_or_moment),
        ("x-retry-after", delta_or_moment),
        ("x-ratelimit-retry-after", delta_or_moment),
        ("x-rate-limit-retry-after", delta_or_moment),
        ("x-retry-in", go_duration),
    ):
        wait = fields.longest(name, read)
        if wait is not None:
            return wait
    return None
