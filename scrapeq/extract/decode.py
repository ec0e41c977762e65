"""Bytes to values: JSON, JSON Lines or text, as the resource says, the answer says, or the bytes look."""

from __future__ import annotations

from typing import Any, Literal

import orjson

from scrapeq.errors import ExtractError
from scrapeq.page import Page

Decoder = Literal["auto", "json", "jsonl", "text"]

MAX_NESTING = 200
"""Deeper values could be read, but neither queued nor written again (orjson writes 254 levels)."""

_UTF8_MARK = b"\xef\xbb\xbf"
_JSON_BEGINS = frozenset(b'{["-0123456789tfn')
_JSONL_TYPES = frozenset(
    {"application/x-ndjson", "application/ndjson", "application/jsonl", "application/jsonlines", "text/jsonl"}
)
_TEXT_TYPES = frozenset({"text/plain", "text/markdown"})


def decode(page: Page, decoder: str) -> tuple[Any, bool]:
    """
    The body as a value, and whether it is the text itself; JSON Lines are a list, an empty body is null.

    Raises:
        ExtractError: the body is not what it should be.
    """
    if decoder == "text":
        return writable(page.text), True
    kind = _media_type(page)
    if decoder == "auto":
        return _guess(page, kind)
    body = _utf8(page)
    if not body.strip():
        return None, False
    return (_json(body, kind) if decoder == "json" else _json_lines(body)), False


def writable(text: str) -> str:
    """The text without what UTF-8 cannot say (lone surrogates, which some charsets and headers give)."""
    return text if text.isascii() else text.encode(errors="replace").decode()


def _guess(page: Page, kind: str) -> tuple[Any, bool]:
    body = _utf8(page)
    start = body.lstrip()[:1]
    if not start:
        return None, False
    if kind in _JSONL_TYPES:
        return _json_lines(body), False
    if kind.endswith("json"):
        return _json(body, kind), False
    if start[0] in _JSON_BEGINS:
        try:
            return _json(body, kind), False
        except ExtractError:
            if start == b"{" and b"\n" in body.strip():
                return _json_lines(body), False
            if kind not in _TEXT_TYPES:
                raise
    if kind in _TEXT_TYPES:
        return writable(page.text), True
    raise ExtractError(
        f"the answer is {kind or 'of no declared type'} and no JSON; `decoder: text` would take it as it is"
    )


def _media_type(page: Page) -> str:
    return (page.header("content-type") or "").partition(";")[0].strip().lower()


def _utf8(page: Page) -> bytes:
    """The body as UTF-8 (RFC 8259, 8.1), read through its declared charset where that is another one."""
    body = page.body
    if body.startswith(_UTF8_MARK):
        return body[len(_UTF8_MARK) :]
    declared = (page.header("content-type") or "").lower()
    if "charset" in declared and "utf-8" not in declared and "utf8" not in declared:
        return page.text.lstrip("\ufeff").encode(errors="replace")
    return body


def _json(body: bytes, kind: str) -> Any:
    try:
        value = orjson.loads(body)
    except ValueError as error:
        called = f" ({kind})" if kind else ""
        raise ExtractError(f"the answer{called} is no JSON: {error}") from None
    return _bounded(value, body)


def _json_lines(body: bytes) -> list[Any]:
    values: list[Any] = []
    for number, line in enumerate(body.split(b"\n"), start=1):
        if not line.strip():
            continue
        try:
            values.append(orjson.loads(line))
        except ValueError as error:
            raise ExtractError(f"line {number} of the answer is no JSON: {error}") from None
    _bounded(values, body)
    return values


def _bounded(value: Any, body: bytes) -> Any:
    """The value, unless it is nested too deeply; few bodies have brackets enough to be asked at all."""
    if body.count(b"[") + body.count(b"{") <= MAX_NESTING:
        return value
    deeper = value
    for _ in range(254 - MAX_NESTING):
        deeper = [deeper]
    try:
        orjson.dumps(deeper)
    except TypeError:
        raise ExtractError(f"the answer is nested more than {MAX_NESTING} levels deep") from None
    return value
