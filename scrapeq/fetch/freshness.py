"""
Whether an answer may be kept, for how long it is fresh, and how it is asked for again. Pure.

RFC 9111 as a private cache reads it (`s-maxage` and `private` are for shared ones), without its heuristics: an answer
that does not say for how long it is fresh is asked for again. Conditional requests: RFC 9110, 13.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from scrapeq.expression.http_date import http_date_s
from scrapeq.page import Page

Fields = tuple[tuple[str, str], ...]

CONDITIONS = frozenset({"if-none-match", "if-modified-since", "if-match", "if-unmodified-since", "if-range"})
NOT_MODIFIED = 304

_KEPT_STATUSES = frozenset({200, 203})
_DIRECTIVE = re.compile(
    r"""([!#$%&'*+.^_`|~\w-]+)\s*(?:=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s,;"]*)))?""", re.ASCII
)
_SECONDS = re.compile(r"[0-9]+", re.ASCII)
_OVERFLOW_S = 2**31  # RFC 9111, 1.2.2
# What says how a body was sent; a 304 has none (RFC 9111, 3.2). Age is that of the answer before.
_OF_THE_BODY = frozenset(
    {"content-length", "content-encoding", "content-type", "content-range", "transfer-encoding", "connection"}
    | {"keep-alive", "te", "trailer", "upgrade"}
)


def directives(value: str | None) -> dict[str, list[str]]:
    """Cache-Control by name in lower case; a name that stands there twice has two values (RFC 9111, 5.2)."""
    found: dict[str, list[str]] = {}
    for name, quoted, plain in _DIRECTIVE.findall(value or ""):
        found.setdefault(name.lower(), []).append(quoted or plain)
    return found


def lifetime_s(page: Page, received_s: float) -> float:
    """For how long after it was made it is fresh: max-age, else Expires (RFC 9111, 4.2.1); 0 = never."""
    control = directives(page.header("cache-control"))
    if "no-cache" in control:
        return 0.0
    if "max-age" in control:
        told = control["max-age"]
        # what is no number is stale, and of several the least
        return float(min(int(one) if _SECONDS.fullmatch(one) else 0 for one in told)) if told else 0.0
    expires = page.header("expires")
    if expires is None:
        return 0.0
    ends_s = http_date_s(expires, received_s)
    made_s = http_date_s(page.header("date") or "", received_s)
    return 0.0 if ends_s is None else max(0.0, ends_s - (received_s if made_s is None else made_s))


def age_s(page: Page, requested_s: float, received_s: float, now_s: float) -> float:
    """How old it is (RFC 9111, 4.2.3); times are Unix seconds of this machine."""
    made_s = http_date_s(page.header("date") or "", received_s)
    apparent = 0.0 if made_s is None else max(0.0, received_s - made_s)
    told = (page.header("age") or "").partition(",")[0].strip()
    said = min(int(told), _OVERFLOW_S) if _SECONDS.fullmatch(told) else 0
    return max(apparent, said + max(0.0, received_s - requested_s)) + max(0.0, now_s - received_s)


def conditions(page: Page) -> list[tuple[str, str]]:
    """What makes the next request a conditional one; nothing if the answer has no validator."""
    fields = []
    if etag := page.header("etag"):
        fields.append(("If-None-Match", etag))
    if (since := page.header("last-modified")) and http_date_s(since) is not None:
        fields.append(("If-Modified-Since", since))
    return fields


def may_be_kept(page: Page, received_s: float, *, revalidate: bool) -> bool:
    """Whether it is of use later (fresh for a while, or can be asked for conditionally), and nothing forbids it."""
    if page.method != "GET" or page.status not in _KEPT_STATUSES:
        return False
    if "no-store" in directives(page.header("cache-control")) or "*" in (page.header("vary") or ""):
        return False
    return lifetime_s(page, received_s) > 0 or (revalidate and bool(conditions(page)))


def is_of(kept: Page, not_modified: Page) -> bool:
    """Whether a 304 speaks of this answer: it names no other entity tag (RFC 9111, 4.3.4)."""
    told, known = not_modified.header("etag"), kept.header("etag")
    return told is None or known is None or told.removeprefix("W/") == known.removeprefix("W/")


def freshened(kept: Fields, told: Fields) -> Fields:
    """The fields of a kept answer after a 304 (RFC 9111, 3.2)."""
    fresh = [field for field in told if field[0].lower() not in _OF_THE_BODY]
    replaced = {name.lower() for name, _ in fresh} | {"age"}
    return (*(field for field in kept if field[0].lower() not in replaced), *fresh)


def asks_otherwise(fields: Iterable[tuple[str, str]]) -> bool:
    """Whether a request has conditions of its own, wants a part, or no cache: then it is sent as it is."""
    for name, value in fields:
        lower = name.lower()
        if lower in CONDITIONS or lower in ("range", "pragma"):
            return True
        if lower == "cache-control" and {"no-store", "no-cache"} & directives(value).keys():
            return True
    return False
