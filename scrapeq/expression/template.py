"""Splits a string that contains `${...}` into literal text and placeholders."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import quote

from scrapeq.errors import ExpressionError

MAX_TEMPLATE = 100_000
MAX_PLACEHOLDERS = 200


@dataclass(frozen=True, slots=True)
class Placeholder:
    """The source between `${` and `}`; `position` is the 0-based index of its first character."""

    source: str
    position: int


Part = str | Placeholder
Fill = Callable[[Placeholder], str | None]


def split_placeholders(text: str) -> list[Part]:
    """
    Return the literal texts and placeholders of a string in order; `$${` is a literal `${`.

    Raises:
        ExpressionError: A `${` is never closed, or the string is too long or has too many placeholders.
    """
    if len(text) > MAX_TEMPLATE:
        raise ExpressionError(f"the text is longer than {MAX_TEMPLATE} characters", MAX_TEMPLATE)
    parts: list[Part] = []
    literal: list[str] = []
    position, count = 0, 0
    while True:
        start = text.find("${", position)
        if start < 0:
            literal.append(text[position:])
            break
        if start > position and text[start - 1] == "$":
            literal.append(text[position : start - 1] + "${")
            position = start + 2
            continue
        literal.append(text[position:start])
        end = _end(text, start + 2)
        count += 1
        if count > MAX_PLACEHOLDERS:
            raise ExpressionError(f"the text has more than {MAX_PLACEHOLDERS} placeholders", start)
        if joined := "".join(literal):
            parts.append(joined)
        literal = []
        parts.append(Placeholder(text[start + 2 : end], start + 2))
        position = end + 1
    if joined := "".join(literal):
        parts.append(joined)
    return parts


def _end(text: str, start: int) -> int:
    """Return the index of the `}` that closes the placeholder at `start`; braces in quoted text do not count."""
    is_plain = text.startswith(("env:", "file:"), start)  # the quotes in it are ordinary characters
    quote_mark = ""
    for position in range(start, len(text)):
        letter = text[position]
        if quote_mark:
            if letter == quote_mark and text[position - 1] != "\\":
                quote_mark = ""
        elif letter == "}":
            return position
        elif letter in "'\"" and not is_plain:
            quote_mark = letter
    raise ExpressionError("this '${' is never closed", start - 2, "add }, or write $${ for a literal ${")


def encode_segment(text: str) -> str:
    """Percent-encode a text as one path segment (RFC 3986, 3.3): all but unreserved characters are encoded."""
    return quote(text, safe="-._~", errors="replace")
