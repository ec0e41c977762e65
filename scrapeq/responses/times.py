"""
Parse the times that servers write: numbers, durations, HTTP dates and similar formats.

Functions return None for what they cannot parse, and never raise. They are strict where a guess could shorten a
wait.
"""

from __future__ import annotations

import re

from scrapeq.expression.http_date import TIME, http_date_s, timestamp_s

OVERFLOW_S = 2147483648.0  # the value of a delta that is too large (RFC 9111, 1.2.2)

EPOCH_S_FROM = 1e9  # from here on a reset is Unix seconds, since windows are shorter than 31 years
YEAR_S = 365.25 * 86400  # a longer wait is probably a number that was meant otherwise
EPOCH_MS_FROM = 1e11  # from here on a reset is Unix milliseconds
# (first value, units per second) of nanoseconds, microseconds and milliseconds
_FINER_EPOCHS = ((1e17, 1e9), (1e14, 1e6), (EPOCH_MS_FROM, 1e3))

_NUMBER = re.compile(r"[0-9]+(?:\.[0-9]+)?", re.ASCII)
_SIGNED = re.compile(r"-?[0-9]+(?:\.[0-9]+)?", re.ASCII)
_WORDS = {
    "milli": "ms",
    "sec": "s",
    "min": "m",
    "hour": "h",
    "day": "d",
}  # the beginning of a word -> its unit
_DURATION_PART = re.compile(
    r"([0-9]+(?:\.[0-9]+)?)(?: ?((?i:millisecond|second|sec|minute|min|hour|day)s?)|(ns|us|µs|μs|ms|s|m|h|d)) ?",
    re.ASCII,
)
_ISO_DURATION = re.compile(
    r"P(?:([0-9]+)D)?(?:T(?:([0-9]+)H)?(?:([0-9]+)M)?(?:([0-9]+(?:\.[0-9]+)?)S)?)?(?<![PT])", re.ASCII
)
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

_ISO = re.compile(
    rf"(?P<year>[0-9]{{4}})-(?P<month>[0-9]{{2}})-(?P<day>[0-9]{{2}})[T ]{TIME}(?P<fraction>[.,][0-9]+)?"
    r"(?P<zone>Z| ?UTC|[+-][0-9]{2}:?[0-9]{2})?",
    re.ASCII | re.IGNORECASE,
)


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
    """Parse a duration as Go prints it (`6m0s`), in words (`2 minutes`) or of ISO 8601 (`PT30S`); return seconds."""
    if (iso := _ISO_DURATION.fullmatch(text)) is not None:
        units = (_UNIT_S["d"], _UNIT_S["h"], _UNIT_S["m"], _UNIT_S["s"])
        return sum(float(part or 0) * unit for part, unit in zip(iso.groups(), units, strict=True))
    total, end = 0.0, 0
    for part in _DURATION_PART.finditer(text):
        if part.start() != end:
            return None
        unit = part[3] or next(_WORDS[word] for word in _WORDS if part[2].lower().startswith(word))
        total += float(part[1]) * _UNIT_S[unit]
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
        return http_date_s(text, server_s) if moment is None and form in ("auto", "http_date") else moment
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


def iso_date(text: str) -> float | None:
    """Parse an RFC 3339 time, with optional seconds and time zone (default UTC); return Unix seconds."""
    found = _ISO.fullmatch(text)
    if found is None:
        return None
    fraction = found["fraction"]
    return timestamp_s(
        found, int(found["year"]), int(found["month"]), float(f"0.{fraction[1:]}") if fraction else 0.0
    )
