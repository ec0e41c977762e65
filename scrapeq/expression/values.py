"""
Arithmetic, comparison and conversion of the values of expressions.

Null propagates. A string compared or combined with a number is read as a number or a time. The functions accept any
value and never raise: a result that does not exist is null (None).
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson

from scrapeq.expression.http_date import http_date_s

MAX_NUMERIC_TEXT = 64
MAX_WHOLE = 1 << 128  # larger results become floats, so that an expression cannot grow a number without bound

_NUMERIC = re.compile(r"[+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?", re.ASCII)
_LEAP_SECOND = re.compile(r"(T\d\d:\d\d:)60")
_LONG_FRACTION = re.compile(r"([.,]\d{6})\d+")
_MONTH = re.compile(r"\d{4}-\d\d", re.ASCII)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Raw(str):
    """Text that is inserted into a path without encoding."""

    __slots__ = ()


def as_number(value: Any) -> float | None:
    """
    Return a value as a finite float, or None.

    Accepts numbers, numeric strings, and ISO 8601 dates and times (as Unix seconds; without a zone in UTC).
    A boolean is not a number.
    """
    number = _number(value)
    return None if number is None else float(number)


def _number(value: Any) -> int | float | None:
    """Like `as_number`, but integers stay integers, so that an id of 19 digits keeps its last digit."""
    if isinstance(value, bool) or value is None:
        return None
    if isinstance(value, int):
        return value if abs(value) <= MAX_WHOLE else _finite(value)
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, str):
        text = value.strip()
        if len(text) > MAX_NUMERIC_TEXT:
            return None
        if _NUMERIC.fullmatch(text):
            return int(text) if text.lstrip("+-").isdigit() else _finite(text)
        return iso_time_s(text)
    return None


def _finite(value: Any) -> float | None:
    try:
        number = float(value)
    except (OverflowError, ValueError):
        return None
    return number if math.isfinite(number) else None


def iso_time_s(text: str) -> float | None:
    """Return the Unix seconds of an ISO 8601 date or time (an int if they are whole); None for any other text."""
    text = text.strip()
    if len(text) > MAX_NUMERIC_TEXT or len(text) < len("2024-01") or not text[:4].isdigit():
        return None
    if _MONTH.fullmatch(text):
        text += "-01"
    leap = _LEAP_SECOND.search(text)
    if leap:
        text = _LEAP_SECOND.sub(r"\g<1>59", text)
    try:
        moment = datetime.fromisoformat(_LONG_FRACTION.sub(r"\1", text.replace(" UTC", "Z")))
    except (ValueError, OverflowError):
        return None
    seconds = _unix_s(moment)
    return seconds + 1 if leap else seconds


def http_time_s(text: str) -> float | None:
    """Return the Unix seconds of an HTTP date (RFC 9110, 5.6.7) or an RFC 5322 date; None for other text."""
    if len(text) > MAX_NUMERIC_TEXT:
        return None
    seconds = http_date_s(text.strip(), any_zone=True)
    return int(seconds) if seconds is not None and seconds.is_integer() else seconds


def _unix_s(moment: datetime) -> int | float:
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    seconds = (moment - _EPOCH).total_seconds()
    return int(seconds) if seconds == int(seconds) else seconds


def as_datetime(value: Any) -> datetime | None:
    """Return Unix seconds, or a date in text form, as a UTC datetime; None for anything else or out of range."""
    seconds = _number(value)
    if seconds is None and isinstance(value, str):
        seconds = http_time_s(value)
    if seconds is None:
        return None
    try:
        return _EPOCH + timedelta(seconds=seconds)
    except OverflowError:
        return None


def as_text(value: Any) -> str | None:
    """Return a value as text, as it is inserted into a longer string; None for null. Whole floats lose their `.0`."""
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() and abs(value) < 1e16 else repr(value)
    if isinstance(value, int):
        return str(value) if abs(value) <= MAX_WHOLE else repr(_finite(value))
    try:
        return orjson.dumps(value, default=dict).decode()
    except (TypeError, ValueError, RecursionError):
        return None


def equal(left: Any, right: Any) -> bool:
    """Compare for equality: null equals only null, and a number equals text that is the same number or time."""
    if left is None or right is None:
        return left is right
    if isinstance(left, bool) or isinstance(right, bool):
        return left is right
    if isinstance(left, str) != isinstance(right, str):
        first, second = _number(left), _number(right)
        return first is not None and first == second
    try:
        return bool(left == right)
    except RecursionError:
        return False


def compare(operator: str, left: Any, right: Any) -> bool | None:
    """Apply `<`, `<=`, `>` or `>=`; None if the operands cannot be ordered."""
    if left is None or right is None:
        return None
    if not (isinstance(left, str) and isinstance(right, str)):
        left, right = _number(left), _number(right)
        if left is None or right is None:
            return None
    if operator == "<":
        return bool(left < right)
    if operator == "<=":
        return bool(left <= right)
    if operator == ">":
        return bool(left > right)
    return bool(left >= right)


def contains(whole: Any, part: Any) -> bool | None:
    """Return whether a list has an element, a string a substring, or a map a key; None for any other container."""
    if whole is None:
        return None
    if isinstance(whole, str):
        text = as_text(part)
        return None if text is None else text in whole
    if isinstance(whole, Mapping):
        return isinstance(part, str) and part in whole
    if isinstance(whole, list | tuple):
        return any(equal(element, part) for element in whole)
    return None


def calculate(operator: str, left: Any, right: Any) -> Any:
    """Apply `+ - * / %`; `+` joins two strings. None if an operand is null or not a number, or for a division by 0."""
    if operator == "+" and isinstance(left, str) and isinstance(right, str):
        return left + right
    first, second = _number(left), _number(right)
    if first is None or second is None:
        return None
    try:
        if operator == "+":
            return bounded(first + second)
        if operator == "-":
            return bounded(first - second)
        if operator == "*":
            return bounded(first * second)
        if operator == "/":
            return bounded(first / second)
        return bounded(first % second)
    except (ZeroDivisionError, OverflowError):
        return None


def bounded(number: int | float) -> int | float | None:
    """Return the number: as a float if it is very large, None if it is not finite."""
    if isinstance(number, int):
        return number if abs(number) <= MAX_WHOLE else _finite(number)
    return number if math.isfinite(number) else None


def negative(value: Any) -> Any:
    """Return `-value`; None if the value is not a number."""
    number = _number(value)
    return None if number is None else -number


def number(value: Any) -> int | float | None:
    """Implement `number(x)` of the expression language; integers stay integers."""
    return _number(value)
