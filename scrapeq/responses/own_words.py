"""The words in which a server explains an error, for messages to the user."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from scrapeq.page import Page

_MAX_CHARS = 200
_MAX_BODY_BYTES = 64_000
_KEYS = (
    "error_description",
    "message",
    "detail",
    "error_message",
    "msg",
    "title",
    "reason",
    "error",
    "errors",
)
_DEPTH_MAX = 4
_TITLE = re.compile(r"<title[^>]*>(.*?)</title>", re.IGNORECASE | re.DOTALL)
_TAG = re.compile(r"<[^>]*>")
_CHALLENGE = re.compile(r'error_description="([^"]*)"')


def own_words(page: Page) -> str:
    """
    Return what the response says about its error, in one line of at most 200 characters; "" if it says nothing.

    It comes from the usual keys of a JSON body, the title of an HTML page, a text, or WWW-Authenticate.
    """
    text = ""
    if page.body and len(page.body) <= _MAX_BODY_BYTES:
        try:
            text = next(_texts(page.json()), "")
        except (ValueError, RecursionError):
            title = _TITLE.search(page.text)
            text = title[1] if title else _TAG.sub(" ", page.text)
    if not text.strip():
        challenge = _CHALLENGE.search(page.header("www-authenticate") or "")
        text = challenge[1] if challenge else ""
    text = " ".join(text.split())
    return text if len(text) <= _MAX_CHARS else f"{text[:_MAX_CHARS]}…"


def _texts(value: Any, depth: int = 0) -> Iterator[str]:
    if isinstance(value, str) and value.strip():
        yield value
    elif isinstance(value, list) and depth < _DEPTH_MAX:
        for one in value[:1]:
            yield from _texts(one, depth + 1)
    elif isinstance(value, Mapping) and depth < _DEPTH_MAX:
        for key in _KEYS:
            yield from _texts(value.get(key), depth + 1)
