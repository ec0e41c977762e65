"""Splits an expression into tokens with positions; the error for an operator of another language names ours."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Literal

from scrapeq.errors import ExpressionError

MAX_LENGTH = 4_000
MAX_TOKENS = 1_000
UNIT_S = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400}
KEYWORDS = frozenset({"or", "and", "not", "in", "true", "false", "null"})

Kind = Literal["number", "text", "quoted", "name", "keyword", "symbol", "end"]

_SPACE = re.compile(r"\s*")
_NUMBER = re.compile(r"\d+(?:\.\d+)?(?:[eE][+-]?\d{1,3}(?!\w))?")
_DURATION = re.compile(r"(?:\d+(?:\.\d+)?(?:ms|[smhd]))+(?!\w)")
_DURATION_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|[smhd])")
_NAME = re.compile(r"[A-Za-z_]\w*", re.ASCII)
_TEXT = re.compile(r"'((?:[^'\\]|\\.)*)'", re.DOTALL)
_QUOTED = re.compile(r'"((?:[^"\\]|\\.)*)"', re.DOTALL)
_ESCAPE = re.compile(r"\\(['\\])")
_QUOTED_ESCAPE = re.compile(r'\\(["\\])')
_SYMBOL = re.compile(r"==|!=|<=|>=|[-+*/%<>()\[\],.]")

# Symbols of other languages and what to write instead, the longest first.
_FOREIGN_SYMBOLS = (
    ("===", "use '=='"),
    ("&&", "use 'and'"),
    ("||", "use 'or'"),
    ("&", "use 'and'"),
    ("|", "use 'or'"),
    ("!", "use 'not'"),
    ("=", "use '=='"),
    ("?", "use if(condition, then, else)"),
    ("{", "expressions do not use braces"),
    ("}", "expressions do not use braces"),
    ("$", "inside an expression, write the name without ${}"),
)


@dataclass(frozen=True, slots=True)
class Token:
    """One token of an expression: `value` is its parsed value, `position` its 0-based index in the text."""

    kind: Kind
    value: Any
    position: int

    def __str__(self) -> str:
        return "the end" if self.kind == "end" else repr(str(self.value))


def duration_s(text: str) -> float:
    """Return the seconds of a valid duration such as `1h30m` or `500ms`; an int if they are whole."""
    total = sum(float(number) * UNIT_S[unit] for number, unit in _DURATION_PART.findall(text))
    return int(total) if total == int(total) else round(total, 6)


def is_duration(text: str) -> bool:
    """Return whether the whole text is a duration, such as `1h30m`."""
    return _DURATION.fullmatch(text) is not None


def tokenize(text: str) -> list[Token]:
    """Return all tokens; the last one is an `end` token. Raises ExpressionError."""
    if len(text) > MAX_LENGTH:
        raise ExpressionError(f"the expression is longer than {MAX_LENGTH} characters", MAX_LENGTH)
    tokens: list[Token] = []
    position = _skip_space(text, 0)
    while position < len(text):
        if len(tokens) >= MAX_TOKENS:
            raise ExpressionError(f"the expression has more than {MAX_TOKENS} tokens", position)
        token, position = _next(text, position)
        tokens.append(token)
        position = _skip_space(text, position)
    tokens.append(Token("end", "", len(text)))
    return tokens


def _skip_space(text: str, position: int) -> int:
    found = _SPACE.match(text, position)
    return found.end() if found else position


def _next(text: str, position: int) -> tuple[Token, int]:
    if text[position].isascii() and text[position].isdigit():
        return _number(text, position)
    if found := _NAME.match(text, position):
        name = found[0]
        return Token("keyword" if name in KEYWORDS else "name", name, position), found.end()
    if found := _TEXT.match(text, position):
        return Token("text", _ESCAPE.sub(r"\1", found[1]), position), found.end()
    if found := _QUOTED.match(text, position):
        return Token("quoted", _QUOTED_ESCAPE.sub(r"\1", found[1]), position), found.end()
    if text[position] in "'\"":
        raise ExpressionError(f"this string is never closed: add {text[position]}", position)
    if not text.startswith("===", position) and (found := _SYMBOL.match(text, position)):
        return Token("symbol", found[0], position), found.end()
    for foreign, remedy in _FOREIGN_SYMBOLS:
        if text.startswith(foreign, position):
            raise ExpressionError(f"unexpected '{foreign}': {remedy}", position)
    raise ExpressionError(f"unexpected {text[position]!r}", position)


def _number(text: str, position: int) -> tuple[Token, int]:
    if found := _DURATION.match(text, position):
        return Token("number", duration_s(found[0]), position), found.end()
    found = _NUMBER.match(text, position)
    assert found is not None  # the caller has seen a digit here
    end = found.end()
    if unit := _NAME.match(text, end):
        if unit[0] in ("M", "mo", "y", "Y"):
            raise ExpressionError("months and years have no fixed length; write days", end)
        raise ExpressionError(f"unexpected {unit[0]!r} after a number; units are ms s m h d", end)
    value = float(found[0])
    if value in (float("inf"), float("-inf")):
        raise ExpressionError("the number is too large", position)
    if found[0].isdigit():
        return Token("number", int(found[0]), position), end
    return Token("number", value, position), end
