"""
Parse the times that servers write: numbers, durations, HTTP dates and similar formats.

Functions return None for what they cannot parse, and never raise. They are strict where a guess could shorten a
wait. `email.utils` is not used: it accepts 31 February and hour 25, and expands two-digit years at a fixed pivot.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta, timezone

OVERFLOW_S = 2147483648.0  # the value of a delta that is too large (RFC 9111, 1.2.2)

EPOCH_S_FROM = 1e9  # from here on a reset is Unix seconds, since windows are shorter than 31 years
EPOCH_MS_FROM = 1e11  # from here on a reset is Unix milliseconds
# (first value, units per second) of nanoseconds, microseconds and milliseconds
_FINER_EPOCHS = ((1e17, 1e9), (1e14, 1e6), (EPOCH_MS_FROM, 1e3))

_CENTURY = 100
_PIVOT_YEARS = 50  # RFC 9110, 5.6.7

_NUMBER = re.compile(r"[0-9]+(?:\.[0-9]+)?", re.ASCII)
_SIGNED = re.compile(r"-?[0-9]+(?:\.[0-9]+)?", re.ASCII)
_DURATION_PART = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ns|us|µs|μs|ms|s|m|h|d)", re.ASCII)
_UNIT_S = {
    "ns": 1e-9,
    "us": 1e-6,
    "µs": 1e-6,
    "μs": 1e-6,
    "ms": 1e-3,
    "s": 1.0,
    "m": 60.0,
    "h": 3600.0,
    "d": 86400.0,
}

_MONTHS = {
    name: number
    for number, name in enumerate(
        ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"], start=1
    )
}
_TIME = r"(?P<hour>[0-9]{2}):(?P<minute>[0-9]{2})(?::(?P<second>[0-9]{2}))?"
_ZONE = r"(?P<zone>[A-Za-z]{1,4}|[+-][0-9]{4})"
_FLAGS = re.ASCII | re.IGNORECASE
_DATES = (
    # IMF-fixdate, and the variants of the Internet Message Format (RFC 9110, 5.6.7, asks for robust parsers)
    re.compile(
        r"(?:[a-z]{3}, *)?(?P<day>[0-9]{1,2})[ -](?P<month>[a-z]{3})[ -](?P<year>[0-9]{4})"
        rf" +{_TIME} +{_ZONE}",
        _FLAGS,
    ),
    # RFC 850
    re.compile(
        rf"[a-z]{{6,9}}, *(?P<day>[0-9]{{2}})-(?P<month>[a-z]{{3}})-(?P<year>[0-9]{{2}}) +{_TIME} +{_ZONE}",
        _FLAGS,
    ),
    # asctime
    re.compile(
        rf"[a-z]{{3}} (?P<month>[a-z]{{3}}) (?P<day>[ 0-9]?[0-9]) {_TIME} (?P<year>[0-9]{{4}})", _FLAGS
    ),
    # Date.toString of JavaScript
    re.compile(
        r"[a-z]{3} (?P<month>[a-z]{3}) (?P<day>[0-9]{1,2}) (?P<year>[0-9]{4}) "
        rf"{_TIME} (?:GMT|UTC)?(?P<zone>[+-][0-9]{{4}})?"
        r"(?: \([^()]*\))?",
        _FLAGS,
    ),
)
_ISO = re.compile(
    rf"(?P<year>[0-9]{{4}})-(?P<month>[0-9]{{2}})-(?P<day>[0-9]{{2}})[T ]{_TIME}(?P<fraction>[.,][0-9]+)?"
    r"(?P<zone>Z| ?UTC|[+-][0-9]{2}:?[0-9]{2})?",
    _FLAGS,
)
_ZONES_H = {
    "gmt": 0, "utc": 0, "ut": 0, "z": 0,
    "est": -5, "edt": -4, "cst": -6, "cdt": -5, "mst": -7, "mdt": -6, "pst": -8, "pdt": -7,
}  # fmt: skip


def capped(seconds: float) -> float:
    """Clamp seconds to 0 … OVERFLOW_S."""
    return min(max(seconds, 0.0), OVERFLOW_S)


def number(text: str) -> float | None:
    """Parse an unsigned decimal in ASCII digits: no sign, exponent, underscore, inf or nan."""
    return float(text) if _NUMBER.fullmatch(text) else None


def signed(text: str) -> float | None:
    """Parse a decimal in ASCII digits that may be negative."""
    return float(text) if _SIGNED.fullmatch(text) else None


def duration_s(text: str) -> float | None:
    """Parse a duration as Go prints it (`6m0s`, `12ms`, `1h2m3.5s`); return seconds."""
    total, end = 0.0, 0
    for part in _DURATION_PART.finditer(text):
        if part.start() != end:
            return None
        total += float(part[1]) * _UNIT_S[part[2]]
        end = part.end()
    return total if end and end == len(text) else None


def in_window_units(text: str) -> float | None:
    """Parse the length of a window: a duration (`1s`, `1h30m`) or a number of seconds."""
    value = duration_s(text)
    return number(text) if value is None else value


def moment_s(text: str, server_s: float, form: str = "auto") -> float | None:
    """Return the Unix time (of the server's clock) of a reset; None when it is not a time or is relative."""
    value = number(text)
    if value is None:
        moment = iso_date(text) if form in ("auto", "iso") else None
        return http_date(text, server_s) if moment is None and form in ("auto", "http_date") else moment
    if form == "auto":
        per_s = next((unit for least, unit in _FINER_EPOCHS if value >= least), 1.0)
        return value / per_s if value >= EPOCH_S_FROM else None
    if form.startswith("epoch"):
        return value / 1000 if form.endswith("_ms") else value
    return None


def until_s(text: str, server_s: float, form: str = "auto") -> float | None:
    """
    Return the seconds until a reset, or None where it cannot be read as `form`.

    Args:
        text: The value.
        server_s: The server's time, Unix seconds.
        form: delta or delta_ms (relative), epoch or epoch_ms (Unix time), http_date or iso. auto detects the format,
            for numbers by their size; relative milliseconds look like seconds, so it reads them as seconds.
    """
    moment = moment_s(text, server_s, form)
    if moment is not None:
        return capped(moment - server_s)
    if form not in ("auto", "delta", "delta_ms"):
        return None
    value = number(text)
    if value is None:
        value = duration_s(text)
    elif form == "delta_ms":
        value /= 1000
    return None if value is None else capped(value)


def _offset(zone: str | None) -> timezone | None:
    if not zone:
        return UTC
    zone = zone.strip().lower()
    if zone in _ZONES_H:
        return timezone(timedelta(hours=_ZONES_H[zone]))
    digits = zone[1:].replace(":", "")
    if zone[0] not in "+-" or not (digits.isascii() and digits.isdigit()):
        return None
    offset = timedelta(hours=int(digits[:2]), minutes=int(digits[2:]))
    if int(digits[2:]) >= 60 or offset >= timedelta(hours=24):
        return None
    return timezone(-offset if zone[0] == "-" else offset)


def _timestamp(found: re.Match[str], year: int, month: int, fraction_s: float = 0.0) -> float | None:
    zone = _offset(found.groupdict().get("zone"))
    second = int(found["second"] or 0)
    if zone is None or second > 60:  # 60 is a valid leap second
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


def http_date(text: str, now_s: float) -> float | None:
    """
    Parse an HTTP date (RFC 9110, 5.6.7) in any of its forms and the usual time zones; return Unix seconds.

    A two-digit year that appears to be more than 50 years after `now_s` is the latest such year in the past.
    A wrong weekday is ignored.
    """
    for form in _DATES:
        found = form.fullmatch(text)
        if found is None:
            continue
        month = _MONTHS.get(found["month"].lower())
        if month is None:
            return None
        year = int(found["year"])
        if len(found["year"]) == 4:
            return _timestamp(found, year, month)
        now = datetime.fromtimestamp(min(max(now_s, 0.0), OVERFLOW_S * 2), UTC)
        year += now.year // _CENTURY * _CENTURY
        if year < now.year - _PIVOT_YEARS:  # in 2099, 05 is 2105
            year += _CENTURY
        moment = _timestamp(found, year, month)
        if moment is not None and moment > _years_later(now, _PIVOT_YEARS):
            moment = _timestamp(found, year - _CENTURY, month)
        return moment
    return None


def _years_later(now: datetime, years: int) -> float:
    day = 28 if (now.month, now.day) == (2, 29) else now.day
    return now.replace(year=now.year + years, day=day).timestamp()


def iso_date(text: str) -> float | None:
    """Parse an RFC 3339 time, with optional seconds and time zone (default UTC); return Unix seconds."""
    found = _ISO.fullmatch(text)
    if found is None:
        return None
    fraction = found["fraction"]
    return _timestamp(
        found, int(found["year"]), int(found["month"]), float(f"0.{fraction[1:]}") if fraction else 0.0
    )
