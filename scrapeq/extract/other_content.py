"""Recognizes HTML pages and JSON errors in the place of data in another format, and quotes their own words."""

from __future__ import annotations

import re

from scrapeq.errors import BrokenBody
from scrapeq.json_values import read_json, without_guard

MAX_WORDS = 160
"""The most characters of a response that an error quotes."""

_SCANNED_BYTES = 65_536
_HTML = re.compile(
    rb"\s*(?:<!--.*?-->\s*)*<(?:!doctype\s+html|html|head|body|title|h1|center)\b", re.I | re.DOTALL
)
_MARKUP = re.compile(rb"\s*<[?!a-zA-Z][^<>]*>")
_HTML5 = re.compile(rb"\s*<!doctype\s+html\s*>", re.I)
_TITLE = re.compile(r"<title[^>]*>(.*?)</title", re.I | re.DOTALL)
_INVISIBLE = re.compile(r"<(script|style)\b.*?(?:</\1|$)|<!--.*?-->|<[^>]*>", re.I | re.DOTALL)
_ERROR_NAMES = frozenset({"error", "errors", "exception", "fault", "error_message", "errormessage"})
_STATUS_NAMES = frozenset({"code", "status", "statuscode", "status_code"})
_FIRST_ERROR_STATUS = 400
_AROUND_ERRORS = frozenset(
    {
        *(
            "message",
            "detail",
            "details",
            "title",
            "reason",
            "msg",
            "description",
            "error_description",
            "help",
        ),
        *("type", "success", "ok", "timestamp", "path", "instance", "requestid", "request_id", "traceid"),
        *("trace_id", "documentation_url", "error_code", "errorcode"),
    }
)


def check_content(start: bytes, wanted: str, kind: str) -> None:
    """
    Refuse an HTML page, and for CSV and XML a JSON document, in the place of data.

    Args:
        start: UTF-8: the beginning of the body.
        wanted: The format that the body should have, as an error calls it.
        kind: The declared media type.

    Raises:
        BrokenBody: the body is something else; the message quotes it. The next response may be the right one.
    """
    is_html = _HTML.match(start, 0, _SCANNED_BYTES) is not None
    if wanted == "XML":
        is_html = is_html and (kind == "text/html" or _HTML5.match(start) is not None)
    if is_html:
        raise BrokenBody(f"the response is not {wanted} but an HTML page{own_words(start)}")
    if wanted != "XML" and _MARKUP.match(start, 0, _SCANNED_BYTES):
        raise BrokenBody(f"the response is not {wanted} but markup{own_words(start)}")
    if without_guard(start).lstrip()[:1] not in (b"{", b"["):
        return
    try:
        value = read_json(start, {})
    except ValueError:
        value = {} if kind.endswith("json") else None
    if is_error(value) or (wanted != "JSON Lines" and isinstance(value, dict | list)):
        raise BrokenBody(f"the response is not {wanted} but {kind or 'JSON'}{own_words(start)}")


def is_error(value: object) -> bool:
    """Return whether a JSON value is an error and nothing else: all of its names are those of errors."""
    if not isinstance(value, dict):
        return False
    members = {str(name).lower(): member for name, member in value.items()}
    if not members.keys() <= _ERROR_NAMES | _STATUS_NAMES | _AROUND_ERRORS:
        return False
    if any(members.get(name) for name in _ERROR_NAMES):
        return True
    statuses = [members[name] for name in _STATUS_NAMES if isinstance(members.get(name), int)]
    return "message" in members and any(status >= _FIRST_ERROR_STATUS for status in statuses)


def own_words(body: bytes) -> str:
    """Return the beginning of a response as people read it, for the end of an error message; empty if it is binary."""
    text = body[:_SCANNED_BYTES].decode(errors="replace")
    if "\0" in text or text.count("\ufffd") > len(text) // 20:
        return ""
    title = _TITLE.search(text) if _HTML.match(body, 0, _SCANNED_BYTES) else None
    if title is None and text.lstrip().startswith("<"):
        text = _INVISIBLE.sub(" ", text)
    words = " ".join((title[1] if title else text).split())
    if len(words) > MAX_WORDS:
        words = words[:MAX_WORDS].rstrip() + "…"
    return f"; it begins with: {words}" if words else ""
