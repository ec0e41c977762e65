"""Fields of items: a path or an expression, then a regex, a type and a default."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from datetime import UTC
from typing import Any

import orjson

from scrapeq.charsets import encodable
from scrapeq.errors import ExtractError, UsageError
from scrapeq.expression import Expression, as_text
from scrapeq.expression.pattern import compile_search
from scrapeq.expression.values import as_datetime
from scrapeq.expression.values import number as number_of
from scrapeq.extract.decode import check_depth
from scrapeq.extract.selector import compile_path, matches_several
from scrapeq.json_values import LARGEST_WHOLE, MAX_DIGITS, SMALLEST_WHOLE, read_json
from scrapeq.plan import Field

Scope = Mapping[str, Any]
Read = Callable[[Any, Scope], Any]

MILLISECONDS_FROM = 1e11
"""Where Unix times in ms begin (as seconds, the year 5138); those in us begin a thousand times higher, and so on."""

_LONG_DIGITS = 19  # from here on an integer may be beyond 64 bits

_NUMBER = re.compile(r"[+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?", re.ASCII)
_TRUE = frozenset({"true", "yes", "y", "t", "on", "1"})
_FALSE = frozenset({"false", "no", "n", "f", "off", "0"})


def compile_field(name: str, source: str | Expression | Field) -> Read:
    """
    Compile a field into a function of (record, scope).

    Raises:
        UsageError: its path or its regex is invalid.
    """
    if isinstance(source, Field):
        return _compile_field_options(name, source)
    if isinstance(source, Expression):
        return lambda record, scope: to_json_value(source.evaluate(scope))
    path = compile_path(source, f"fields.{name}")
    return lambda record, scope: path(record)


def to_json_value(value: Any) -> Any:
    """Return the result of an expression as a value that JSON can hold."""
    if isinstance(value, str):
        return encodable(value)
    if value is None or isinstance(value, bool | float):
        return value
    if isinstance(value, int):
        return value if SMALLEST_WHOLE <= value <= LARGEST_WHOLE else as_text(value)
    try:
        return orjson.loads(orjson.dumps(value, default=dict))
    except (TypeError, ValueError, RecursionError):
        return as_text(value)


def _compile_field_options(name: str, field: Field) -> Read:
    source: str | Expression = field.value if field.value is not None else field.path
    read = compile_field(name, source)
    # Without `all`, only the first match of a JSONPath counts.
    first = not field.all and isinstance(source, str) and matches_several(source)
    find = _pattern(field.regex, name)
    convert = _CONVERTERS[field.type]
    default: Read | None = compile_field(name, field.default) if isinstance(field.default, Field) else None

    def one(value: Any) -> Any:
        if value is None:
            return None
        if find is not None:
            text = as_text(value)
            value = None if text is None else find(text)
        return None if value is None else convert(value)

    def converted(value: Any) -> Any:
        if not field.all:
            return one(next(iter(value), None) if first and isinstance(value, list) else value)
        values = value if isinstance(value, list) else [value]
        return [done for done in (one(each) for each in values) if done is not None] or None

    def whole(record: Any, scope: Scope) -> Any:
        value = converted(read(record, scope))
        if value is not None:
            return value
        if default is None:
            return [] if field.all and field.default is None and not field.required else field.default
        other = default(record, scope)
        if other is None or field.all:
            return other if other is not None else []
        return convert(other)

    return whole


def _pattern(regex: str, name: str) -> Callable[[str], str | None] | None:
    if not regex:
        return None
    try:
        return compile_search(regex)
    except ValueError as error:
        raise UsageError(f"fields.{name}.regex: {error}") from None


def _text(value: Any) -> str | None:
    text = as_text(value)
    return None if text is None else encodable(text)


def _numeric(value: Any) -> int | float | None:
    if isinstance(value, bool):
        return int(value)
    if isinstance(value, str):
        value = value.strip()
        if not _NUMBER.fullmatch(value):
            return None  # number_of would read a date as its Unix seconds
    return number_of(value)


def _int(value: Any) -> int | str | None:
    """Return a whole number; beyond 64 bits as text, which keeps its digits."""
    text = value.strip() if isinstance(value, str) else ""
    if len(text) >= _LONG_DIGITS and (digits := text.lstrip("+-")).isdecimal() and digits.isascii():
        sign = "-" if text.startswith("-") else ""
        text = sign + (digits.lstrip("0") or "0")
        if len(text) > MAX_DIGITS or not SMALLEST_WHOLE <= int(text) <= LARGEST_WHOLE:
            return text
        return int(text)
    number = _numeric(value)
    if number is None or number != math.floor(number):
        return None
    whole = int(number)
    if SMALLEST_WHOLE <= whole <= LARGEST_WHOLE:
        return whole
    return str(whole) if isinstance(number, int) else None


def _float(value: Any) -> float | None:
    number = _numeric(value)
    return None if number is None else float(number)


def _bool(value: Any) -> bool | None:
    if isinstance(value, bool):
        return value
    text = (as_text(value) or "").strip().lower()
    return True if text in _TRUE else False if text in _FALSE else None


def _time(value: Any) -> str | None:
    """Return ISO 8601 in UTC, with a fraction if there is one; numbers are Unix times in s, ms, us or ns."""
    if isinstance(value, bool):
        return None
    number = _numeric(value)
    if number is not None:
        value = number
        for _ in ("ms", "us", "ns"):
            if abs(value) >= MILLISECONDS_FROM:
                value = value / 1000
    found = as_datetime(value)
    if found is None:
        return None
    found = found.astimezone(UTC)
    text = found.replace(tzinfo=None).isoformat(timespec="microseconds" if found.microsecond else "seconds")
    return (text.rstrip("0") if found.microsecond else text) + "Z"


def _json(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    try:
        data = value.encode()
        return check_depth(read_json(data), data)
    except (ValueError, ExtractError):
        return None


def _unchanged(value: Any) -> Any:
    return value


_CONVERTERS: Mapping[str, Callable[[Any], Any]] = {
    "": _unchanged,
    "text": _text,
    "int": _int,
    "float": _float,
    "bool": _bool,
    "time": _time,
    "json": _json,
}
