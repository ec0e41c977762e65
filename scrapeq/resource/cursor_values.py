"""
Values of a cursor: which of two is higher, and times shifted or rewritten in the form in which they came.

Forms: ISO dates and times (with or without Z, offset and fraction), days without separators (20240501), HTTP dates,
Unix times in s, ms, us or ns, as numbers or as text. Values that are not times stay as they are.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal, DecimalException
from typing import Any

from scrapeq.expression.values import as_text, http_time_s, iso_time_s, number

MILLIS_FROM, MICROS_FROM, NANOS_FROM = 10**11, 10**14, 10**17
"""Where Unix times in ms, us and ns begin: as seconds, these numbers would be beyond the year 5138."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MAX_LENGTH = 64
_ISO = re.compile(
    r"(?P<day>\d{4}-\d\d-\d\d)"
    r"(?:(?P<between>[Tt ])(?P<clock>\d\d:\d\d(?P<seconds>:\d\d(?:(?P<point>[.,])(?P<fraction>\d+))?)?)"
    r"(?P<zone>Z|z| UTC|[+-]\d\d:?\d\d|[+-]\d\d)?)?",
    re.ASCII,
)
_COMPACT = re.compile(
    r"(?:19|20|21)\d\d(?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01])(?P<clock>[0-5]\d{5})?", re.ASCII
)
_NUMBER = re.compile(r"[+-]?(?P<whole>\d+)(?:\.(?P<fraction>\d+))?", re.ASCII)


def higher(current: Any, new: Any) -> Any:
    """
    Return the higher of two values in its own spelling, or `current` if they are equal.

    Two numbers or two times compare as such, anything else as text. Null, booleans, maps and lists are lower than all.
    """
    if not _is_value(new):
        return current if _is_value(current) else None
    if not _is_value(current):
        return new
    first, second = _position(current), _position(new)
    if first is not None and second is not None and first != second:
        return new if second > first else current
    if first is not None and second is not None and not _same_length(current, new):
        return current  # two spellings of the same time
    return new if (as_text(new) or "") > (as_text(current) or "") else current


def _is_value(value: Any) -> bool:
    return isinstance(value, str | int | float) and not isinstance(value, bool) and value != ""


def _same_length(current: Any, new: Any) -> bool:
    """Return whether text decides, for example between two times with fractions finer than microseconds."""
    return isinstance(current, str) and isinstance(new, str) and len(current) == len(new)


def _position(value: Any) -> int | float | None:
    match = number(value)
    return http_time_s(value) if match is None and isinstance(value, str) else match


@dataclass(frozen=True, slots=True)
class Moment:
    """
    A time and the form in which it was written.

    Args:
        seconds: Unix time.
        kind: "text" (a date or time for people) or "number".
        write: Turns a Unix time into a value of this form, rounded down to its resolution.
        resolution_s: The smallest step of this form.
    """

    seconds: Decimal
    kind: str
    write: Callable[[Decimal], Any]
    resolution_s: Decimal = Decimal(1)


def moment_of(value: Any) -> Moment | None:
    """Parse a value as a time in its form; None if it is not a time."""
    if not _is_value(value):
        return None
    if isinstance(value, int | float):
        return _number_moment(str(value), type(value))
    text = value.strip()
    if len(text) > _MAX_LENGTH:
        return None
    if match := _COMPACT.fullmatch(text):
        return _compact_moment(text, match["clock"] is not None)
    if _NUMBER.fullmatch(text):
        return _number_moment(text, str)
    if match := _ISO.fullmatch(text):
        return _iso_moment(text, match)
    seconds = iso_time_s(text)
    if seconds is not None:  # a rare ISO form: a week date, a month
        return Moment(Decimal(str(seconds)), "text", lambda s: _datetime_at(s).strftime("%Y-%m-%dT%H:%M:%SZ"))
    seconds = http_time_s(text)
    if seconds is not None:
        return Moment(
            Decimal(str(seconds)), "text", lambda s: _datetime_at(s).strftime("%a, %d %b %Y %H:%M:%S GMT")
        )
    return None


def shifted(value: Any, by_s: float) -> Any:
    """Return the value shifted by some seconds, in its form; a value that is not a time stays as it is."""
    match = moment_of(value) if by_s else None
    if match is None:
        return value
    moved = match.seconds + Decimal(str(by_s))
    if match.kind == "number" and moved < 0 <= match.seconds:
        moved = Decimal(0)  # few servers accept times before 1970
    try:
        return match.write(moved)
    except (OverflowError, ValueError):  # the result is before the year 1
        return value


def time_like(unix_s: float | Decimal, like: Any) -> Any:
    """Write a Unix time in the form of another value; None if that is not a time."""
    match = moment_of(like)
    return None if match is None else match.write(Decimal(str(unix_s)))


def value_like(value: Any, like: Any) -> Any:
    """Rewrite a time in the form of another one, unless both are numbers; other values stay as they are."""
    own, other = moment_of(value), moment_of(like)
    if own is None or other is None or (own.kind == other.kind == "number"):
        return value
    return other.write(own.seconds)


def _number_moment(text: str, kind: type) -> Moment | None:
    match = _NUMBER.fullmatch(text)
    if match is None:
        return None
    try:
        value = Decimal(text)
    except DecimalException:
        return None
    size = abs(value)
    unit = 1 if size < MILLIS_FROM else 10**3 if size < MICROS_FROM else 10**6 if size < NANOS_FROM else 10**9
    places = len(match["fraction"] or "")

    def write(seconds: Decimal) -> Any:
        moved = seconds * unit
        if kind is float:
            return float(moved)
        return _round_down(moved, places) if kind is str else int(moved // 1)

    return Moment(value / unit, "number", write, Decimal(1).scaleb(-places) / unit)


def _round_down(value: Decimal, places: int) -> str:
    """Write a number with this many decimal places, rounded down."""
    scaled = int(value.scaleb(places) // 1)
    return f"{Decimal(scaled).scaleb(-places):f}"


def _compact_moment(text: str, has_clock: bool) -> Moment | None:
    form = "%Y%m%d%H%M%S" if has_clock else "%Y%m%d"
    try:
        moment = datetime.strptime(text, form).replace(tzinfo=UTC)
    except ValueError:
        return None
    resolution = Decimal(1 if has_clock else 86_400)
    return Moment(_unix(moment), "text", lambda s: _datetime_at(s).strftime(form), resolution)


def _iso_moment(text: str, match: re.Match[str]) -> Moment | None:
    seconds = iso_time_s(text.upper().replace(",", "."))
    if seconds is None:
        return None
    zone = match["zone"] or ""
    offset = _offset(zone)
    places = len(match["fraction"] or "")

    def write(unix_s: Decimal) -> str:
        moment = _datetime_at(unix_s).astimezone(offset)
        if match["clock"] is None:
            return f"{moment:%Y-%m-%d}"
        clock = f"{moment:%H:%M:%S}" if match["seconds"] else f"{moment:%H:%M}"
        fraction = (
            f"{match['point']}{moment.microsecond:06d}".ljust(places + 1, "0")[: places + 1] if places else ""
        )
        return f"{moment:%Y-%m-%d}{match['between']}{clock}{fraction}{zone}"

    resolution = 86_400 if match["clock"] is None else 1 if match["seconds"] else 60
    finest = Decimal(1).scaleb(-min(places, 6))
    return Moment(Decimal(str(seconds)), "text", write, Decimal(resolution) if not places else finest)


def _offset(zone: str) -> timezone:
    digits = zone.strip().replace(":", "")
    if digits[:1] not in ("+", "-"):
        return UTC
    away = timedelta(hours=int(digits[1:3]), minutes=int(digits[3:5] or 0))
    return timezone(-away if digits[0] == "-" else away)


def _datetime_at(unix_s: Decimal) -> datetime:
    return _EPOCH + timedelta(microseconds=int(unix_s * 1_000_000 // 1))


def _unix(moment: datetime) -> Decimal:
    return Decimal(str((moment - _EPOCH).total_seconds()))
