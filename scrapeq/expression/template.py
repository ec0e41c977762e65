"""Text with `${...}` in it: split once, compiled once, rendered for every request."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import quote

from scrapeq.errors import ExpressionError

MAX_TEMPLATE = 100_000
MAX_PLACEHOLDERS = 200


@dataclass(frozen=True, slots=True)
class Placeholder:
    """What stands between `${` and `}`; `at` is the 0-based place of its first character."""

    source: str
    position: int


Part = str | Placeholder
Fill = Callable[[Placeholder], str | None]


def split_placeholders(text: str) -> list[Part]:
    """
    Literal text and placeholders in turn; `$${` is a literal `${`.

    Raises:
        ExpressionError: a `${` that is never closed, too many of them, or too long a text.
    """
    if len(text) > MAX_TEMPLATE:
        raise ExpressionError(f"the text is longer than {MAX_TEMPLATE} characters", MAX_TEMPLATE)
    parts: list[Part] = []
    literal: list[str] = []
    position, count = 0, 0
    while True:
        begin = text.find("${", position)
        if begin < 0:
            literal.append(text[position:])
            break
        if begin > position and text[begin - 1] == "$":
            literal.append(text[position : begin - 1] + "${")
            position = begin + 2
            continue
        literal.append(text[position:begin])
        end = _end(text, begin + 2)
        count += 1
        if count > MAX_PLACEHOLDERS:
            raise ExpressionError(f"the text has more than {MAX_PLACEHOLDERS} placeholders", begin)
        if joined := "".join(literal):
            parts.append(joined)
        literal = []
        parts.append(Placeholder(text[begin + 2 : end], begin + 2))
        position = end + 1
    if joined := "".join(literal):
        parts.append(joined)
    return parts


def _end(text: str, position: int) -> int:
    """Where the placeholder that begins at `at` is closed; braces inside quoted text do not close it."""
    plain = text.startswith(("env:", "file:"), position)
    quote_mark = ""
    for position in range(position, len(text)):
        letter = text[position]
        if quote_mark:
            if letter == quote_mark and text[position - 1] != "\\":
                quote_mark = ""
        elif letter == "}":
            return position
        elif letter in "'\"" and not plain:
            quote_mark = letter
    raise ExpressionError("this '${' is never closed", position - 2, "add }, or write $${ for a literal ${")


def encode_segment(text: str) -> str:
    """The text percent-encoded as one path segment (RFC 3986, 3.3): only unreserved characters stay."""
    return quote(text, safe="-._~", errors="replace")
