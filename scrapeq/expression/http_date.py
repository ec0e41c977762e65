"""
HTTP dates (RFC 9110, 5.6.7) and the dates of RFC 5322 and JavaScript, as Unix seconds.

`email.utils` is too lenient for response headers: it turns two-digit years at a fixed pivot, ignores what follows the
date, and reads an unknown zone as UTC.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta, timezone

_LATEST_S = 2.0**32  # the clock's time is read as at most this, so that `datetime` can hold it
_CENTURY = 100
_PIVOT_YEARS = 50  # RFC 9110, 5.6.7
_POSIX_PIVOT = 69  # without a clock: 69 is 1969, 68 is 2068

_MONTH_NAMES = (
    *("january", "february", "march", "april", "may", "june"),
    *("july", "august", "september", "october", "november", "december"),
)
_MONTHS = {key: number for number, name in enumerate(_MONTH_NAMES, start=1) for key in (name, name[:3])}
_MINUTE = r":(?P<minute>[0-9]{2})(?::(?P<second>[0-9]{2}))?"
TIME = rf"(?P<hour>[0-9]{{2}}){_MINUTE}"
"""The pattern of a time of day, as `timestamp_s` reads it."""

_ZONE = r"(?P<zone>[A-Za-z]{1,5}|[+-][0-9]{2}:?[0-9]{2})"
_COMMENT = r"(?: *\([^()]*\))?"
_FLAGS = re.ASCII | re.IGNORECASE
_FORMS = (
    # IMF-fixdate, and the dates of RFC 5322 and RFC 822 that it was taken from
    re.compile(
        r"(?:[a-z]{3}, *)?(?P<day>[0-9]{1,2})[ -](?P<month>[a-z]{3,9})[ -](?P<year>[0-9]{4}|[0-9]{2})"
        rf" +(?P<hour>[0-9]{{1,2}}){_MINUTE}(?: +{_ZONE})?{_COMMENT}",
        _FLAGS,
    ),
    # RFC 850
    re.compile(
        rf"[a-z]{{6,9}}, *(?P<day>[0-9]{{2}})-(?P<month>[a-z]{{3}})-(?P<year>[0-9]{{2}}) +{TIME} +{_ZONE}",
        _FLAGS,
    ),
    # asctime
    re.compile(
        rf"[a-z]{{3}} (?P<month>[a-z]{{3}}) (?P<day>[ 0-9]?[0-9]) {TIME} (?P<year>[0-9]{{4}})", _FLAGS
    ),
    # JavaScript's Date
    re.compile(
        r"[a-z]{3} (?P<month>[a-z]{3}) (?P<day>[0-9]{1,2}) (?P<year>[0-9]{4}) "
        rf"{TIME} (?:GMT|UTC)?(?P<zone>[+-][0-9]{{4}})?{_COMMENT}",
        _FLAGS,
    ),
)
_ZONES_H = {
    "gmt": 0, "utc": 0, "ut": 0, "z": 0,
    "est": -5, "edt": -4, "cst": -6, "cdt": -5, "mst": -7, "mdt": -6, "pst": -8, "pdt": -7,
}  # fmt: skip


def http_date_s(text: str, now_s: float | None = None, *, any_zone: bool = False) -> float | None:
    """
    Return the Unix seconds of an HTTP date, an RFC 5322 date or what JavaScript's Date prints; None for other text.

    A wrong weekday is ignored. A date without a zone is in UTC.

    Args:
        text: The date.
        now_s: The time now, for two-digit years: one that seems more than 50 years ahead is in the past
            (RFC 9110, 5.6.7). None: years up to 68 are those of this century.
        any_zone: Whether a zone name that is unknown means UTC (RFC 5322, 4.3); otherwise it gives None.
    """
    for form in _FORMS:
        found = form.fullmatch(text)
        if found is None:
            continue
        month = _MONTHS.get(found["month"].lower())
        if month is None:
            return None
        year = int(found["year"])
        if len(found["year"]) == 4:
            return timestamp_s(found, year, month, any_zone=any_zone)
        if now_s is None:
            year += 2000 if year < _POSIX_PIVOT else 1900
            return timestamp_s(found, year, month, any_zone=any_zone)
        now = datetime.fromtimestamp(min(max(now_s, 0.0), _LATEST_S), UTC)
        year += now.year // _CENTURY * _CENTURY
        if year < now.year - _PIVOT_YEARS:  # 05 read in 2099 is 2105
            year += _CENTURY
        seconds = timestamp_s(found, year, month, any_zone=any_zone)
        if seconds is not None and seconds > _years_later_s(now, _PIVOT_YEARS):
            seconds = timestamp_s(found, year - _CENTURY, month, any_zone=any_zone)
        return seconds
    return None


def timestamp_s(
    found: re.Match[str], year: int, month: int, fraction_s: float = 0.0, *, any_zone: bool = False
) -> float | None:
    """Return the Unix seconds of a match with the groups of `TIME`, `day` and perhaps `zone`; None if out of range."""
    zone = _zone(found.groupdict().get("zone"), any_zone)
    second = int(found["second"] or 0)
    if zone is None or second > 60:  # 60 is a leap second, which is legal
        return None
    try:
        moment = datetime(
            year,
            month,
            int(found["day"]),
            int(found["hour"]),
            int(found["minute"]),
            min(second, 59),
            tzinfo=zone,
        )
        return moment.timestamp() + (second == 60) + fraction_s
    except (ValueError, OverflowError):
        return None


def _zone(text: str | None, any_zone: bool) -> timezone | None:
    if not text:
        return UTC
    text = text.strip().lower()
    if text in _ZONES_H:
        return timezone(timedelta(hours=_ZONES_H[text]))
    if text[0] not in "+-":
        return UTC if any_zone else None
    digits = text[1:].replace(":", "")
    if not (digits.isascii() and digits.isdigit()):
        return None
    offset = timedelta(hours=int(digits[:2]), minutes=int(digits[2:]))
    if int(digits[2:]) >= 60 or offset >= timedelta(hours=24):
        return None
    return timezone(-offset if text[0] == "-" else offset)


def _years_later_s(now: datetime, years: int) -> float:
    day = 28 if (now.month, now.day) == (2, 29) else now.day
    return now.replace(year=now.year + years, day=day).timestamp()
