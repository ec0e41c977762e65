"""Which answers may be kept, how long they are fresh, and how they are asked for again (RFC 9111; RFC 9110, 13)."""

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
    """An answer with these fields."""
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
def test_how_long_an_answer_is_fresh(headers: tuple[tuple[str, str], ...], seconds: float) -> None:
    """max-age, else Expires; what is no number is stale; a shared cache's words are not for us; nothing is guessed."""
    assert lifetime_s(page(*headers), NOW) == seconds


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ((), 2 + 100),  # the request took 2 s, it has been kept for 100 s
        ((DATE,), 2 + 100),
        ((("Age", "50"),), 52 + 100),
        ((("Age", "fifty"),), 2 + 100),
        ((("Date", EARLIER),), 3600 + 100),
        ((("Age", "99999999999999"),), 2**31 + 102),
    ],
)
def test_how_old_an_answer_is(headers: tuple[tuple[str, str], ...], seconds: float) -> None:
    """The older of what its Date and its Age say, and the time that it has been here."""
    assert age_s(page(*headers), NOW - 2, NOW, NOW + 100) == seconds


@pytest.mark.parametrize(
    ("answer", "is_kept", "is_kept_if_only_fresh"),
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
def test_what_may_be_kept(answer: Page, is_kept: bool, is_kept_if_only_fresh: bool) -> None:
    """What can be used later, unless its server forbids it."""
    assert is_storable(answer, NOW, revalidate=True) is is_kept
    assert is_storable(answer, NOW, revalidate=False) is is_kept_if_only_fresh


def test_a_request_is_made_conditional_by_both_validators() -> None:
    """The entity tag as it was, weak or not; a date only if it is one."""
    both = page(("ETag", 'W/"a"'), ("Last-Modified", EARLIER))
    assert conditions(both) == [("If-None-Match", 'W/"a"'), ("If-Modified-Since", EARLIER)]
    assert conditions(page(("Last-Modified", "yesterday"))) == []


def test_a_304_renews_the_fields_but_not_those_of_the_body() -> None:
    """Its Date, Cache-Control and the rest replace what was kept; lengths and types stay; an old Age goes."""
    kept = (("Content-Type", "text/plain"), ("ETag", '"a"'), ("Age", "9"), ("Date", EARLIER), ("X-Kept", "1"))
    reported = (DATE, ("Content-Length", "0"), ("Content-Type", "text/html"), ("cache-control", "max-age=5"))
    assert freshened(kept, reported) == (
        ("Content-Type", "text/plain"),
        ("ETag", '"a"'),
        ("X-Kept", "1"),
        DATE,
        ("cache-control", "max-age=5"),
    )


def test_a_304_is_of_the_answer_whose_tag_it_names() -> None:
    """Weakly compared; one that names none is of what was asked for."""
    kept = page(("ETag", '"a"'))
    assert is_validated_by(kept, page(status=304))
    assert is_validated_by(kept, page(("ETag", 'W/"a"'), status=304))
    assert not is_validated_by(kept, page(("ETag", '"b"'), status=304))


@pytest.mark.parametrize(
    ("field", "otherwise"),
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
def test_a_request_with_a_will_of_its_own_is_sent_as_it_is(field: tuple[str, str], otherwise: bool) -> None:
    """Conditions, ranges and a wish for no cache are the user's."""
    assert bypasses_cache([field]) is otherwise


def test_cache_control_is_read_with_its_quotes() -> None:
    """A comma inside quotes ends nothing; a field list makes no-cache no less a no-cache."""
    assert directives('no-cache="Set-Cookie, X-A", MAX-AGE=5 , foo') == {
        "no-cache": ["Set-Cookie, X-A"],
        "max-age": ["5"],
        "foo": [""],
    }
    assert directives(None) == {}
