"""Storing, freshness and revalidation of cached responses (RFC 9111; RFC 9110, 13)."""

from __future__ import annotations

import pytest

from scrapeq.fetch.freshness import (
    age_s,
    bypasses_cache,
    conditions,
    directives,
    freshened,
    is_storable,
    is_validated_by,
    lifetime_s,
)
from scrapeq.page import Page

NOW = 1795500000.0
DATE = ("Date", "Tue, 24 Nov 2026 06:00:00 GMT")  # NOW
LATER = "Tue, 24 Nov 2026 06:10:00 GMT"
EARLIER = "Tue, 24 Nov 2026 05:00:00 GMT"


def page(*headers: tuple[str, str], status: int = 200, method: str = "GET") -> Page:
    """Return a response with these headers."""
    return Page("https://api.example/a", status, headers, b"", method=method)


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ((), 0),
        ((("Cache-Control", "max-age=60"),), 60),
        ((("cache-control", 'private, max-age="60"'),), 60),
        ((("Cache-Control", "max-age=60, max-age=5"),), 5),
        ((("Cache-Control", "public"), ("Cache-Control", "max-age=7")), 7),
        ((("Cache-Control", "max-age=soon"),), 0),
        ((("Cache-Control", "max-age=-1"),), 0),
        ((("Cache-Control", "max-age"),), 0),
        ((("Cache-Control", "no-cache, max-age=60"),), 0),
        ((("Cache-Control", "s-maxage=60"),), 0),
        ((("Cache-Control", "s-maxage=60, max-age=3"),), 3),
        ((DATE, ("Expires", LATER)), 600),
        ((("Expires", LATER),), 600),
        ((DATE, ("Expires", LATER), ("Cache-Control", "max-age=1")), 1),
        ((DATE, ("Expires", EARLIER)), 0),
        ((DATE, ("Expires", "0")), 0),
        ((DATE, ("Last-Modified", "Tue, 24 Nov 2020 06:00:00 GMT")), 0),
    ],
)
def test_freshness_lifetime(headers: tuple[tuple[str, str], ...], seconds: float) -> None:
    """The lifetime is max-age, else Expires; a malformed value means stale; s-maxage is ignored."""
    assert lifetime_s(page(*headers), NOW) == seconds


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ((), 2 + 100),  # the request took 2 s, it was stored for 100 s
        ((DATE,), 2 + 100),
        ((("Age", "50"),), 52 + 100),
        ((("Age", "fifty"),), 2 + 100),
        ((("Date", EARLIER),), 3600 + 100),
        ((("Age", "99999999999999"),), 2**31 + 102),
    ],
)
def test_current_age(headers: tuple[tuple[str, str], ...], seconds: float) -> None:
    """The age is the larger one of Age and the time since Date, plus the time since the response was received."""
    assert age_s(page(*headers), NOW - 2, NOW, NOW + 100) == seconds


@pytest.mark.parametrize(
    ("response", "is_stored", "is_stored_without_revalidation"),
    [
        (page(("ETag", '"a"')), True, False),
        (page(("Last-Modified", EARLIER)), True, False),
        (page(("Last-Modified", "yesterday")), False, False),
        (page(("Cache-Control", "max-age=5")), True, True),
        (page(), False, False),
        (page(("ETag", '"a"'), ("Cache-Control", "no-store")), False, False),
        (page(("ETag", '"a"'), ("Cache-Control", "no-cache")), True, False),
        (page(("ETag", '"a"'), ("Cache-Control", "private, max-age=9")), True, True),
        (page(("ETag", '"a"'), ("Vary", "*")), False, False),
        (page(("ETag", '"a"'), ("Vary", "Accept")), True, False),
        (page(("ETag", '"a"'), status=404), False, False),
        (page(("ETag", '"a"'), status=206), False, False),
        (page(("ETag", '"a"'), method="POST"), False, False),
    ],
)
def test_storable_responses(response: Page, is_stored: bool, is_stored_without_revalidation: bool) -> None:
    """Any response that can be used later is stored, unless the server forbids it."""
    assert is_storable(response, NOW, revalidate=True) is is_stored
    assert is_storable(response, NOW, revalidate=False) is is_stored_without_revalidation


def test_a_request_is_made_conditional_by_both_validators() -> None:
    """The entity tag is sent unchanged, weak or not; a date is sent only if it is valid."""
    both = page(("ETag", 'W/"a"'), ("Last-Modified", EARLIER))
    assert conditions(both) == [("If-None-Match", 'W/"a"'), ("If-Modified-Since", EARLIER)]
    assert conditions(page(("Last-Modified", "yesterday"))) == []


def test_a_304_updates_all_headers_except_those_of_the_body() -> None:
    """Date, Cache-Control and the rest are replaced; lengths and types stay; the old Age is removed."""
    stored = (
        ("Content-Type", "text/plain"),
        ("ETag", '"a"'),
        ("Age", "9"),
        ("Date", EARLIER),
        ("X-Kept", "1"),
    )
    reported = (DATE, ("Content-Length", "0"), ("Content-Type", "text/html"), ("cache-control", "max-age=5"))
    assert freshened(stored, reported) == (
        ("Content-Type", "text/plain"),
        ("ETag", '"a"'),
        ("X-Kept", "1"),
        DATE,
        ("cache-control", "max-age=5"),
    )


def test_a_304_validates_the_response_with_its_entity_tag() -> None:
    """Tags are compared weakly; a 304 without a tag validates the requested response."""
    stored = page(("ETag", '"a"'))
    assert is_validated_by(stored, page(status=304))
    assert is_validated_by(stored, page(("ETag", 'W/"a"'), status=304))
    assert not is_validated_by(stored, page(("ETag", '"b"'), status=304))


@pytest.mark.parametrize(
    ("field", "bypasses"),
    [
        (("If-None-Match", '"x"'), True),
        (("if-modified-since", EARLIER), True),
        (("Range", "bytes=0-1"), True),
        (("Pragma", "no-cache"), True),
        (("Cache-Control", "no-store"), True),
        (("Cache-Control", "max-age=0, no-cache"), True),
        (("Cache-Control", "max-stale"), False),
        (("Accept", "text/html"), False),
    ],
)
def test_requests_with_own_cache_headers_bypass_the_cache(field: tuple[str, str], bypasses: bool) -> None:
    """Covers conditions, ranges and no-cache."""
    assert bypasses_cache([field]) is bypasses


def test_quoted_values_of_cache_control_are_parsed() -> None:
    """A comma inside quotes does not separate; no-cache with a field list is still no-cache."""
    assert directives('no-cache="Set-Cookie, X-A", MAX-AGE=5 , foo') == {
        "no-cache": ["Set-Cookie, X-A"],
        "max-age": ["5"],
        "foo": [""],
    }
    assert directives(None) == {}
