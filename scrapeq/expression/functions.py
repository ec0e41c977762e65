"""The functions that expressions can call. For arguments they cannot handle they return null instead of raising."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from scrapeq.errors import ExpressionError
from scrapeq.expression import values
from scrapeq.expression.pattern import compile_search
from scrapeq.expression.template import encode_segment
from scrapeq.expression.values import Raw, as_text
from scrapeq.json_values import read_json

MAX_PATTERN = 500
MAX_DATE_FORMAT = 100

_FORMAT = re.compile(r"(?:[<>^=])?[+ ]?0?\d{0,3},?(?:\.\d{1,2})?[dfegxXbo%s]?", re.ASCII)
_UNSAFE_DATE_FORMAT = re.compile(r"%(?![aAwdbBmyYHIMpSfzZjUWcxXGuV%])")


@dataclass(frozen=True, slots=True)
class Function:
    """A function of the expression language, and how many arguments it takes (`max_arguments` None: any number)."""

    min_arguments: int
    max_arguments: int | None
    call: Callable[..., Any]

    def describe_arity(self) -> str:
        """Return the number of arguments in words, for messages: `1 argument`, `2 to 3 arguments`."""
        if self.max_arguments is None:
            return f"{self.min_arguments} or more arguments"
        if self.min_arguments == self.max_arguments:
            return f"{self.min_arguments} argument{'' if self.min_arguments == 1 else 's'}"
        return f"{self.min_arguments} to {self.max_arguments} arguments"


def _default(*arguments: Any) -> Any:
    return next((value for value in arguments if value is not None), None)


def _length(value: Any) -> int | None:
    return len(value) if isinstance(value, str | list | tuple | Mapping) else None


def _starts_with(value: Any, prefix: Any) -> bool | None:
    text, start = as_text(value), as_text(prefix)
    return None if text is None or start is None else text.startswith(start)


def _lower(value: Any) -> str | None:
    text = as_text(value)
    return None if text is None else text.lower()


def _split(value: Any, separator: Any) -> list[str] | None:
    text, between = as_text(value), as_text(separator)
    return text.split(between) if text is not None and between else None


def _join(value: Any, separator: Any = "") -> str | None:
    between = as_text(separator)
    if between is None or not isinstance(value, list | tuple):
        return None
    return between.join(as_text(element) or "" for element in value)


def _format(value: Any, spec: Any) -> str | None:
    if value is None or not isinstance(spec, str) or not _FORMAT.fullmatch(spec):
        return None
    kind = spec[-1:]
    try:
        if kind == "s" or (isinstance(value, str) and not kind.isalpha() and kind != "%"):
            return format(as_text(value) or "", spec)
        number = values.number(value)
        if number is None:
            return None
        return format(int(number) if kind and kind in "dxXbo" else number, spec)
    except (ValueError, OverflowError):
        return None


def _extreme(pick: Callable[[list[Any]], Any]) -> Callable[..., Any]:
    def call(*arguments: Any) -> Any:
        flat = (
            list(arguments[0])
            if len(arguments) == 1 and isinstance(arguments[0], list | tuple)
            else list(arguments)
        )
        if not flat or any(value is None for value in flat):
            return None
        if all(isinstance(value, str) for value in flat):
            return pick(flat)
        numbers = [values.number(value) for value in flat]
        return None if None in numbers else pick(numbers)

    return call


def _time(value: Any) -> float | None:
    number = values.number(value)
    if number is None and isinstance(value, str):
        number = values.http_time_s(value)
    return number


def _date(value: Any, pattern: Any = "%Y-%m-%dT%H:%M:%SZ") -> str | None:
    moment = values.as_datetime(value)
    if moment is None or not isinstance(pattern, str) or len(pattern) > MAX_DATE_FORMAT:
        return None
    if _UNSAFE_DATE_FORMAT.search(pattern):
        return None
    try:
        return moment.strftime(pattern)
    except ValueError:
        return None


def _json(value: Any) -> Any:
    """Parse a string as JSON; serialize any other value to a JSON string."""
    if value is None:
        return None
    if isinstance(value, str):
        try:
            return read_json(value.encode(errors="replace"))
        except ValueError:
            return None
    return as_text(value)


def _raw(value: Any) -> Raw | None:
    text = as_text(value)
    return None if text is None else Raw(text)


def _segments(value: Any) -> Raw | None:
    """Encode each path segment and keep the slashes between them; null for a dot segment, which servers resolve."""
    text = as_text(value)
    if text is None:
        return None
    parts = text.split("/")
    return None if "." in parts or ".." in parts else Raw("/".join(map(encode_segment, parts)))


def compile_regex_call(pattern: str, position: int) -> Callable[[Any], Any]:
    """Compile the call `regex(text, 'pattern')`: it returns the first group, else the whole match, else null."""
    if len(pattern) > MAX_PATTERN:
        raise ExpressionError(f"the pattern is longer than {MAX_PATTERN} characters", position)
    try:
        find = compile_search(pattern)
    except ValueError as error:
        raise ExpressionError(str(error), position) from None

    def call(value: Any) -> str | None:
        text = as_text(value)
        return None if text is None else find(text)

    return call


def compile_path_call(path: str, position: int) -> Callable[[Any], Any]:
    """Compile the call `path(value, 'items[].id')`: it applies a JMESPath to a value."""
    import jmespath  # imported here because few expressions need it and it slows every start

    try:
        compiled = jmespath.compile(path)
    except (ValueError, RecursionError) as error:
        message = f"not a valid JMESPath: {str(error).splitlines()[0]}"
        raise ExpressionError(message, position) from None

    def call(value: Any) -> Any:
        try:
            return None if value is None else compiled.search(value)
        except (ValueError, TypeError, RecursionError):
            return None

    return call


# Functions whose second argument is a pattern. It must be a string literal in the file, so that it never comes
# from data, and it is compiled when the file is read.
LITERAL_SECOND: Mapping[str, Callable[[str, int], Callable[[Any], Any]]] = {
    "regex": compile_regex_call,
    "path": compile_path_call,
}

FUNCTIONS: Mapping[str, Function] = {
    "default": Function(2, None, _default),
    "length": Function(1, 1, _length),
    "contains": Function(2, 2, values.contains),
    "starts_with": Function(2, 2, _starts_with),
    "lower": Function(1, 1, _lower),
    "split": Function(2, 2, _split),
    "join": Function(1, 2, _join),
    "number": Function(1, 1, values.number),
    "format": Function(2, 2, _format),
    "min": Function(1, None, _extreme(min)),
    "max": Function(1, None, _extreme(max)),
    "time": Function(1, 1, _time),
    "date": Function(1, 2, _date),
    "json": Function(1, 1, _json),
    "raw": Function(1, 1, _raw),
    "segments": Function(1, 1, _segments),
}
# The parser implements `if`, which evaluates one branch only, and `header`, which reads the response.
CALLS = frozenset({*FUNCTIONS, *LITERAL_SECOND, "if", "header"})
