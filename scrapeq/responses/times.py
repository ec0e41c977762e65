"""
The ways servers write a time: numbers, durations, HTTP dates and their relatives.

Everything here is strict where guessing would shorten a wait, and never raises: what cannot be read is None.
"""

from __future__ import annotations

import re

from scrapeq.expression.http_date import TIME, http_date_s, timestamp_s

OVERFLOW_S = 2147483648.0  # RFC 9111, 1.2.2: what a delta that is too large is read as

EPOCH_S_FROM = 1e9  # a reset field at least this large is Unix seconds: no window is 31 years long
EPOCH_MS_FROM = 1e11  # ... and from here on Unix milliseconds
_FINER_EPOCHS = (
    (1e17, 1e9),
    (1e14, 1e6),
    (EPOCH_MS_FROM, 1e3),
)  # nano-, micro-, milliseconds: from there, per second

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

_ISO = re.compile(
    rf"(?P<year>[0-9]{{4}})-(?P<month>[0-9]{{2}})-(?P<day>[0-9]{{2}})[T ]{TIME}(?P<fraction>[.,][0-9]+)?"
    r"(?P<zone>Z| ?UTC|[+-][0-9]{2}:?[0-9]{2})?",
    re.ASCII | re.IGNORECASE,
)


def capped(seconds: float) -> float:
    """Seconds, not negative, and at most what an overflow is read as."""
    return min(max(seconds, 0.0), OVERFLOW_S)


def number(text: str) -> float | None:
    """An unsigned decimal in ASCII digits, else None: no sign, exponent, underscore, inf or nan."""
    return float(text) if _NUMBER.fullmatch(text) else None


def signed(text: str) -> float | None:
    """A decimal in ASCII digits that may be negative, else None."""
    return float(text) if _SIGNED.fullmatch(text) else None


def duration_s(text: str) -> float | None:
    """A duration as Go prints it (`6m0s`, `12ms`, `1h2m3.5s`), in seconds; None if it is none."""
    total, end = 0.0, 0
    for part in _DURATION_PART.finditer(text):
        if part.start() != end:
            return None
        total += float(part[1]) * _UNIT_S[part[2]]
        end = part.end()
    return total if end and end == len(text) else None


def in_window_units(text: str) -> float | None:
    """A window's length: a duration (`1s`, `1h30m`), or a number of seconds."""
    value = duration_s(text)
    return number(text) if value is None else value


def moment_s(text: str, server_s: float, form: str = "auto") -> float | None:
    """The Unix time, by the server's clock, that a reset is written as; None if it is none, or seconds to go."""
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
    Seconds to a reset, however it is written; None where it cannot be read as `form`.

    Args:
        text: The value.
        server_s: The server's time, Unix seconds.
        form: delta or delta_ms (to go), epoch or epoch_ms (Unix time), http_date, iso; auto tells them apart: by
            their form, numbers by their size. Milliseconds to go it takes for seconds: nothing in them says so.
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
    """An RFC 3339 time, seconds and zone optional (then UTC), as Unix seconds; None if it is none."""
    found = _ISO.fullmatch(text)
    if found is None:
        return None
    fraction = found["fraction"]
    return timestamp_s(
        found, int(found["year"]), int(found["month"]), float(f"0.{fraction[1:]}") if fraction else 0.0
    )
