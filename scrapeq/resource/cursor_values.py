"""
Values of a cursor: which of two is higher, and times shifted or rewritten in the form in which they came.

Forms: ISO dates and times (with or without Z, offset and fraction), days without separators (20240501), HTTP dates,
Unix times in s, ms, us or ns, as numbers or as text, and a form that the configuration declares (`cursor_format`, as in
strptime). Values that are not times stay as they are.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal, DecimalException
from typing import Any

from scrapeq.expression.values import as_text, http_time_s, iso_time_s, number

_UNITS = (1, 10**3, 10**6, 10**9)  # Unix times in s, ms, us and ns
_PLAUSIBLE_S = (6 * 10**8, 5 * 10**9)
"""Numbers in this range of seconds (1989 to 2128) are Unix times, if any numbers are."""

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
_UNCLEAR_DATE = re.compile(r"\d{1,2}[/.-]\d{1,2}[/.-](?:\d{4}|\d\d)(?!\d)", re.ASCII)
_NUMBER = re.compile(r"[+-]?(?P<whole>\d+)(?:\.(?P<fraction>\d+))?", re.ASCII)


def higher(current: Any, new: Any, form: str = "") -> Any:
    """
    Return the higher of two values in its own spelling, or `current` if they are equal.

    Two numbers or two times compare as such, anything else as text. Null, booleans, maps and lists are lower than all.
    `form`: the declared form of times (`cursor_format`).
    """
    if not _is_value(new):
        return current if _is_value(current) else None
    if not _is_value(current):
        return new
    first, second = _position(current), _position(new)
    if form or (first is not None and second is not None and _form_class(current) != _form_class(new)):
        one, other = moment_of(current, form), moment_of(new, form)
        if one is not None and other is not None and _are_comparable_times(one, other):
            first, second = one.seconds, other.seconds
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


def _form_class(value: Any) -> int:
    """Return a number that differs where two values do not compare as they are, such as two units of Unix times."""
    text = value.strip() if isinstance(value, str) else str(value)
    match = _NUMBER.fullmatch(text)
    if match is None:
        return 0
    length = len(match["whole"])
    return -length if isinstance(value, str) and _COMPACT.fullmatch(text) else length


def _are_comparable_times(one: Moment, other: Moment) -> bool:
    """Return whether two values compare as times, and not as the numbers that they are."""
    if not one.kind == other.kind == "number":
        return True
    return one.unit != other.unit and one.is_plausible and other.is_plausible


def _position(value: Any) -> int | float | Decimal | None:
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
        unit: kind "number": how many of the number's units are a second.
        wall_s: What a clock on the wall showed, as if that were UTC; None = the same as `seconds`.
        has_zone: Whether the form says in which zone the time is.
    """

    seconds: Decimal
    kind: str
    write: Callable[[Decimal], Any]
    resolution_s: Decimal = Decimal(1)
    unit: int = 1
    wall_s: Decimal | None = None
    has_zone: bool = True

    @property
    def is_plausible(self) -> bool:
        """Whether a number is probably a Unix time of today's data."""
        return _PLAUSIBLE_S[0] <= self.seconds <= _PLAUSIBLE_S[1]


def moment_of(value: Any, form: str = "") -> Moment | None:
    """Parse a value as a time in its form, or in the declared one; None if it is not a time."""
    if not _is_value(value):
        return None
    if form and (declared := _declared_moment(value, form)) is not None:
        return declared
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


def shifted(value: Any, by_s: float, form: str = "") -> Any:
    """Return the value shifted by some seconds, in its form; a value that is not a time stays as it is."""
    match = moment_of(value, form) if by_s else None
    if match is None:
        return value
    moved = match.seconds + Decimal(str(by_s))
    if match.kind == "number" and moved < 0 <= match.seconds:
        moved = Decimal(0)  # few servers accept times before 1970
    try:
        return match.write(moved)
    except (OverflowError, ValueError):  # the result is before the year 1
        return value


def time_like(unix_s: float | Decimal, like: Any, form: str = "") -> Any:
    """Write a Unix time in the form of another value; None if that is not a time."""
    match = moment_of(like, form)
    return None if match is None else match.write(Decimal(str(unix_s)))


def value_like(value: Any, like: Any, form: str = "") -> Any:
    """
    Rewrite a value in the form of another one, rounded down: a time as date, as number of its unit, with its zone.

    Numbers keep their value unless both are Unix times, but become text or numbers like the other one. A time with a
    zone becomes one without by the earlier of UTC and its own zone, since a server may mean either. What has no such
    form stays as it is.
    """
    own, other = moment_of(value, form), moment_of(like, form)
    if other is None:
        other = _day_number(like) if own is not None and own.kind == "text" else None
    elif own is not None and own.kind == "text" and other.kind == "number" and not form:
        other = _day_number(like) or other
    if own is None or other is None:
        return value
    if own.kind == other.kind == "number" and not (own.is_plausible and other.is_plausible):
        return _number_of_type(value, like)
    seconds = own.seconds
    if not other.has_zone and own.wall_s is not None:
        seconds = min(seconds, own.wall_s)
    try:
        return other.write(seconds)
    except (OverflowError, ValueError):
        return value


def not_after(value: Any, limit_s: Decimal, like: Any = None, form: str = "") -> Any:
    """
    Return the value, or the limit in its form if it is a time after that.

    Args:
        value: The value.
        limit_s: Unix seconds.
        like: A value of the same field that is not in the future: its unit is that of a number, since the year 9999 in
            seconds looks like 1978 in milliseconds.
        form: The declared form of times.
    """
    match = moment_of(value, form)
    if match is None:
        return value
    if match.kind == "number":
        reference = moment_of(like, form)
        if reference is not None and reference.kind == "number" and reference.is_plausible:
            text = value.strip() if isinstance(value, str) else str(value)
            match = _number_moment(text, type(value), reference.unit) or match
    return value if match.seconds <= limit_s else match.write(limit_s)


def is_time(value: Any, form: str = "") -> bool:
    """Return whether a value is a time that people can read, or a number that is probably a Unix time."""
    match = moment_of(value, form)
    return match is not None and (match.kind == "text" or match.is_plausible)


def implied_form(initial: Any) -> str:
    """Return the form of times that an initial value implies: that of days as numbers (20240501); else empty."""
    return (
        "" if (day := _day_number(initial)) is None else "%Y%m%d%H%M%S" if day.resolution_s == 1 else "%Y%m%d"
    )


def is_unclear_date(value: Any) -> bool:
    """Return whether a value looks like a date of which day and month may be either way round."""
    return isinstance(value, str) and _UNCLEAR_DATE.match(value.strip()) is not None


def _number_of_type(value: Any, like: Any) -> Any:
    """Return a number as text or as a number, as the other one is."""
    if isinstance(like, str):
        return value if isinstance(value, str) else as_text(value)
    if isinstance(value, str) and value.strip().lstrip("+-").isdecimal():
        return int(value)
    return value


def _declared_moment(value: Any, form: str) -> Moment | None:
    """Parse a value by the declared form; a number may be one as well (20240501 by `%Y%m%d`)."""
    if isinstance(value, float):
        return None
    try:
        moment = datetime.strptime(str(value).strip(), form)
    except ValueError:
        return None
    has_zone = moment.tzinfo is not None
    zone = moment.tzinfo or UTC
    seconds = _unix(moment.replace(tzinfo=zone))
    wall = _unix(moment.replace(tzinfo=UTC)) if has_zone else None
    steps = (("%f", Decimal("0.000001")), ("%S", Decimal(1)), ("%M", Decimal(60)), ("%H", Decimal(3600)))
    resolution = next((step for name, step in steps if name in form), Decimal(86_400))

    def write(unix_s: Decimal) -> Any:
        text = _datetime_at(unix_s).astimezone(zone).strftime(form)
        return int(text) if isinstance(value, int) else text

    return Moment(seconds, "text", write, resolution, wall_s=wall, has_zone=has_zone)


def _day_number(value: Any) -> Moment | None:
    """Parse a number that is a day without separators, such as 20240501."""
    if isinstance(value, bool) or not isinstance(value, int) or not _COMPACT.fullmatch(str(value)):
        return None
    return _declared_moment(value, "%Y%m%d" if value < MILLIS_FROM else "%Y%m%d%H%M%S")


def _number_moment(text: str, kind: type, unit: int = 0) -> Moment | None:
    """Parse a number as a Unix time in this unit; 0 = the one in which it is not too far away."""
    match = _NUMBER.fullmatch(text)
    if match is None:
        return None
    try:
        value = Decimal(text)
    except DecimalException:
        return None
    size = abs(value)
    if not unit:
        unit = _UNITS[sum(size >= start for start in (MILLIS_FROM, MICROS_FROM, NANOS_FROM))]
    places = len(match["fraction"] or "")

    def write(seconds: Decimal) -> Any:
        moved = seconds * unit
        if kind is float:
            return float(moved)
        return _round_down(moved, places) if kind is str else int(moved // 1)

    return Moment(value / unit, "number", write, Decimal(1).scaleb(-places) / unit, unit)


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
    write = lambda s: _datetime_at(s).strftime(form)  # noqa: E731
    return Moment(_unix(moment), "text", write, resolution, has_zone=False)


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
    unix_s = Decimal(str(seconds))
    away_s = Decimal(offset.utcoffset(None).total_seconds())
    return Moment(
        unix_s,
        "text",
        write,
        Decimal(resolution) if not places else finest,
        wall_s=unix_s + away_s if zone else None,
        has_zone=bool(zone),
    )


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
