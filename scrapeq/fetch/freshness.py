"""
Whether a response may be stored in the cache, how long it is fresh, and how it is revalidated. Pure.

This is RFC 9111 for a private cache (which ignores `s-maxage` and `private`), without heuristic freshness: a response
without an explicit lifetime is revalidated each time. For conditional requests see RFC 9110, 13.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from scrapeq.expression.http_date import http_date_s
from scrapeq.page import Page

Fields = tuple[tuple[str, str], ...]

CONDITIONS = frozenset({"if-none-match", "if-modified-since", "if-match", "if-unmodified-since", "if-range"})
NOT_MODIFIED = 304

_STORABLE_STATUSES = frozenset({200, 203})
_DIRECTIVE = re.compile(
    r"""([!#$%&'*+.^_`|~\w-]+)\s*(?:=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s,;"]*)))?""", re.ASCII
)
_SECONDS = re.compile(r"[0-9]+", re.ASCII)
_OVERFLOW_S = 2**31  # RFC 9111, 1.2.2
# Fields that describe how the body was sent. A 304 is sent without a body, so it does not update them (RFC 9111, 3.2).
_BODY_FIELDS = frozenset(
    {"content-length", "content-encoding", "content-type", "content-range", "transfer-encoding", "connection"}
    | {"keep-alive", "te", "trailer", "upgrade"}
)


def directives(value: str | None) -> dict[str, list[str]]:
    """Return the directives of Cache-Control: lower-case name -> values, several if it is repeated (RFC 9111, 5.2)."""
    found: dict[str, list[str]] = {}
    for name, quoted, plain in _DIRECTIVE.findall(value or ""):
        found.setdefault(name.lower(), []).append(quoted or plain)
    return found


def lifetime_s(page: Page, received_s: float) -> float:
    """
    Return the freshness lifetime in seconds: max-age, else Expires (RFC 9111, 4.2.1); 0 = never fresh.

    Args:
        page: The response.
        received_s: When it was received, Unix seconds.
    """
    control = directives(page.header("cache-control"))
    if "no-cache" in control:
        return 0.0
    if "max-age" in control:
        values = control["max-age"]
        # A malformed value means stale; of several values the smallest counts.
        return float(min(int(value) if _SECONDS.fullmatch(value) else 0 for value in values))
    expires = page.header("expires")
    if expires is None:
        return 0.0
    expires_s = http_date_s(expires, received_s)
    date_s = http_date_s(page.header("date") or "", received_s)
    return 0.0 if expires_s is None else max(0.0, expires_s - (received_s if date_s is None else date_s))


def age_s(page: Page, requested_s: float, received_s: float, now_s: float) -> float:
    """Return the current age in seconds (RFC 9111, 4.2.3). Times are Unix seconds of this machine."""
    date_s = http_date_s(page.header("date") or "", received_s)
    apparent_s = 0.0 if date_s is None else max(0.0, received_s - date_s)
    age = (page.header("age") or "").partition(",")[0].strip()
    reported_s = min(int(age), _OVERFLOW_S) if _SECONDS.fullmatch(age) else 0
    corrected_s = reported_s + max(0.0, received_s - requested_s)
    return max(apparent_s, corrected_s) + max(0.0, now_s - received_s)


def conditions(page: Page) -> list[tuple[str, str]]:
    """Return the header fields that make the next request conditional; empty without a validator in the response."""
    fields = []
    if etag := page.header("etag"):
        fields.append(("If-None-Match", etag))
    if (since := page.header("last-modified")) and http_date_s(since) is not None:
        fields.append(("If-Modified-Since", since))
    return fields


def is_storable(page: Page, received_s: float, *, revalidate: bool) -> bool:
    """
    Return whether a response may be stored and will be of use: it is fresh for a while, or can be revalidated.

    Args:
        page: The response.
        received_s: When it was received, Unix seconds.
        revalidate: Whether conditional requests are allowed.
    """
    if page.method != "GET" or page.status not in _STORABLE_STATUSES:
        return False
    if "no-store" in directives(page.header("cache-control")) or "*" in (page.header("vary") or ""):
        return False
    return lifetime_s(page, received_s) > 0 or (revalidate and bool(conditions(page)))


def is_validated_by(stored: Page, not_modified: Page) -> bool:
    """Return whether a 304 is about this stored response: its entity tag, if any, is the same (RFC 9111, 4.3.4)."""
    theirs, ours = not_modified.header("etag"), stored.header("etag")
    return theirs is None or ours is None or theirs.removeprefix("W/") == ours.removeprefix("W/")


def freshened(stored: Fields, not_modified: Fields) -> Fields:
    """Return the header fields of a stored response, updated from a 304 (RFC 9111, 3.2)."""
    updates = [field for field in not_modified if field[0].lower() not in _BODY_FIELDS]
    replaced = {name.lower() for name, _ in updates} | {"age"}
    return (*(field for field in stored if field[0].lower() not in replaced), *updates)


def bypasses_cache(fields: Iterable[tuple[str, str]]) -> bool:
    """Return whether a request has its own conditions, asks for a range, or refuses cached responses."""
    for name, value in fields:
        lower = name.lower()
        if lower in CONDITIONS or lower in ("range", "pragma"):
            return True
        if lower == "cache-control" and {"no-store", "no-cache"} & directives(value).keys():
            return True
    return False
