"""
Reads JSON as servers really write it, without the loss of a value or of a page.

orjson reads what is valid. Its two gaps are closed here: it turns integers beyond 64 bits into floats without a word,
and one lone surrogate, NaN or raw control character makes it refuse everything.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from typing import Any

import orjson

LARGEST_WHOLE = 2**64 - 1
SMALLEST_WHOLE = -(2**63)
MAX_DIGITS = 20
"""The most characters of an integer of 64 bits, with its sign."""

Repairs = dict[str, str]
"""By topic, a sentence for the user: what of a response was not as its format has it, and what it became."""

NOT_A_NUMBER = "NaN, Infinity and numbers beyond the range of a float are null"
NOT_UNICODE = (
    "bytes and escapes that are not Unicode characters are U+FFFD; "
    "set `decoder: {encoding: …}` if the response is in another encoding than it declares"
)
TRAILING = "what follows the JSON value is ignored"

_DIGITS_TO_ZERO = bytes(0x30 if chr(byte).isdigit() and byte < 0x80 else byte for byte in range(256))
_ANY_LONG, _LONG, _LONG_NEGATIVE = b"0" * 19, b"0" * 20, b"-" + b"0" * 19
_LONG_INTEGER = re.compile(rb"(?:^|[\[,:\s])-?\d{19,}(?=[\s,\]}]|$)")
_ESCAPE = re.compile(
    r"\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|(u[dD][89a-fA-F][0-9a-fA-F]{2})|.)",
    re.DOTALL,
)
_NEARLY_JSON = re.compile(
    r'"(?:[^"\\]|\\.)*"|([-+]?\b(?:nan|inf|infinity|undefined)\b(?:\(ind\))?)|(,)(?=\s*[\]}])',
    re.DOTALL | re.I,
)
_GUARD = re.compile(
    rb"\s*(?:\)\]\}',?|while\s*\(\s*(?:1|true)\s*\)\s*;|for\s*\(\s*;\s*;\s*\)\s*;|\{\}\s*&&|throw\s+1\s*;)\s*(?=[\[{\"])"
)
_BLANK = " \t\r\n\0"


def read_json(data: bytes, repairs: Repairs | None = None, *, text_beyond_64_bits: bool = True) -> Any:
    """
    Return the value of a JSON text.

    Integers keep all their digits: beyond 64 bits they are text, as outputs write them. A name that occurs twice in an
    object has its last value.

    Args:
        data: UTF-8 without a byte order mark; a prefix against inclusion as a script is ignored.
        repairs: Receives a sentence for each kind of repair: what was not JSON, and what it became. What follows an
            object or a list is ignored only with it.
        text_beyond_64_bits: Whether integers beyond 64 bits are text; otherwise they are Python integers.

    Raises:
        ValueError: it is not JSON.
    """
    failure: ValueError | None = None
    data = without_guard(data)
    if not has_long_integer(data):
        try:
            return orjson.loads(data)
        except ValueError as error:
            failure = error
    try:
        return _Lenient(data, {} if repairs is None else repairs, text_beyond_64_bits).value(
            repairs is not None
        )
    except (ValueError, RecursionError) as error:
        raise failure or _failure_of(data) or ValueError(str(error)) from None


def _failure_of(data: bytes) -> ValueError | None:
    """Return orjson's error, which says better than others where the data ends too early."""
    try:
        orjson.loads(data)
    except ValueError as error:
        return error
    return None


def read_json_values(data: bytes, repairs: Repairs) -> list[Any]:
    """
    Return the objects and lists that follow each other, with or without separators between them (RFC 7464).

    Raises:
        ValueError: one of them is something else.
    """
    try:
        return list(_Lenient(data.replace(b"\x1e", b" "), repairs, True).values())
    except RecursionError:
        raise ValueError("the depth exceeds the recursion limit") from None


def without_guard(data: bytes) -> bytes:
    """Return the data without what servers put before JSON so that a page cannot load it as a script."""
    guard = _GUARD.match(data)
    return data if guard is None else data[guard.end() :]


def has_long_integer(data: bytes) -> bool:
    """Return whether there may be an integer beyond 64 bits. Costs a fifth of the time to parse the data."""
    digits = data.translate(_DIGITS_TO_ZERO)
    if digits.find(_ANY_LONG) < 0 or (digits.find(_LONG) < 0 and digits.find(_LONG_NEGATIVE) < 0):
        return False
    return _LONG_INTEGER.search(data) is not None


def _decoded(data: bytes, repairs: Repairs) -> str:
    """Return the text of data that is not valid UTF-8. Pairs of surrogates, as in CESU-8, are the characters meant."""
    try:
        text = (
            data.decode("utf-8", "surrogatepass")
            .encode("utf-16", "surrogatepass")
            .decode("utf-16", "replace")
        )
    except UnicodeDecodeError:
        text = data.decode(errors="replace")
    if "\ufffd" in text:
        repairs[NOT_UNICODE] = NOT_UNICODE
    return text


class _Lenient:
    """Reads JSON with the standard library, which can be taught about numbers and control characters."""

    def __init__(self, data: bytes, repairs: Repairs, text_beyond_64_bits: bool) -> None:
        self._repairs = repairs
        self._as_text = text_beyond_64_bits
        try:
            text = data.decode()
        except UnicodeDecodeError:
            text = _decoded(data, repairs)
        text = text.strip(_BLANK)
        self._text = _ESCAPE.sub(self._escape, text) if "\\u" in text else text
        self._decoder = json.JSONDecoder(
            parse_int=self._whole, parse_float=self._float, parse_constant=self._constant, strict=False
        )

    def value(self, may_ignore_rest: bool) -> Any:
        """Return the only value. Raises ValueError, RecursionError."""
        value, end = self._decode(0)
        rest = self._text[end:].strip(_BLANK)
        if rest:
            # Another value is data. A text that begins with a number, "3 of 5" for example, is not JSON at all.
            if not may_ignore_rest or not isinstance(value, dict | list) or rest[0] in '{["':
                raise ValueError(f"unexpected content after the JSON value: char {end}")
            self._repairs[TRAILING] = TRAILING
        return value

    def values(self) -> Iterator[Any]:
        """Yield all values. Raises ValueError, RecursionError."""
        at, size = 0, len(self._text)
        while at < size:
            value, at = self._decode(at)
            if not isinstance(value, dict | list):
                raise ValueError("unexpected content after the JSON value")
            yield value
            while at < size and self._text[at] in _BLANK:
                at += 1

    def _decode(self, at: int) -> tuple[Any, int]:
        try:
            return self._decoder.raw_decode(self._text, at)
        except json.JSONDecodeError:
            text = _NEARLY_JSON.sub(
                lambda match: "NaN" if match[1] else "" if match[2] else match[0], self._text
            )
            if text == self._text:
                raise
            self._text = text
            return self._decoder.raw_decode(text, at)

    def _escape(self, match: re.Match[str]) -> str:
        if not match[1]:
            return match[0]
        self._repairs[NOT_UNICODE] = NOT_UNICODE
        return "\\ufffd"

    def _whole(self, text: str) -> int | str:
        if len(text) < MAX_DIGITS - 1:
            return int(text)
        try:
            whole = int(text)
        except ValueError:  # longer than Python reads
            return text
        return whole if not self._as_text or SMALLEST_WHOLE <= whole <= LARGEST_WHOLE else text

    def _float(self, text: str) -> float | None:
        number = float(text)
        if math.isfinite(number):
            return number
        self._constant(text)
        return None

    def _constant(self, _: str) -> None:
        self._repairs[NOT_A_NUMBER] = NOT_A_NUMBER
