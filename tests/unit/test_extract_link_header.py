"""The Link header (RFC 8288)."""

from __future__ import annotations

import time

import pytest

from scrapeq.extract.link_header import link_target, mentions


@pytest.mark.parametrize(
    ("header", "target"),
    [
        (
            '<https://a.test/?page=2>; rel="next", <https://a.test/?page=9>; rel="last"',
            "https://a.test/?page=2",
        ),
        (
            '<https://a.test/?page=1>; rel="prev", <https://a.test/?a,b;c>; rel="next"',
            "https://a.test/?a,b;c",
        ),
        ("</x?page=2>;rel=next", "/x?page=2"),
        ('</x> ; title="a, <b>; rel=\\"next\\"" ; REL = "last Next"', "/x"),
        ('</y>; rel="last"; rel="next", </z>; rel=next', "/z"),
        ('</y>; anchor="/other"; rel="next", </z>; rel=next', "/z"),
        ("</a>; rel=prev;, , </b>; title; rel=next", "/b"),
        ("<>; rel=next", ""),
        ('</x>; rel="prev"', None),
        ("</x>; rel=nextpage", None),
        ("</x>", None),
        ("", None),
        (
            "https://a.test/?page=1; rel=prev, https://a.test/?page=2&x=1,2; rel=next",
            "https://a.test/?page=2&x=1,2",
        ),
        ("/x?page=2; rel='prev next'", "/x?page=2"),
        ("</x>; rel='next'; title='a'", "/x"),
        ("next", None),
        ("</x; rel=next", "/x"),
        ('</x>; rel="next', "/x"),
        ("/x?ids=1;2&p=2; rel=next", "/x?ids=1;2&p=2"),
        ('</x?p=2; rel="next", </x?p=9>; rel="last"', "/x?p=2"),
        ('"https://a.test/x?p=2"; rel="next"', "https://a.test/x?p=2"),
        ('x?p=2; rel="next"', "x?p=2"),
        ('rel="next"; </x>', "/x"),
        ('</x> rel="next"', "/x"),
        ("</x>; rel: next", "/x"),
        ('</x?p=1>; rel="prev"; </x?p=3>; rel="next"', "/x?p=3"),
        ('garbage, </x>; rel="next"', "/x"),
        ('</x?a="1,2">; rel="next"', '/x?a="1,2"'),
        ("</x>; title=next; rel=last", None),
        ('</x>; title="rel=next"; rel=last', None),
    ],
)
def test_the_link_with_the_relation_is_found(header: str, target: str | None) -> None:
    """Covers commas, quotes, letter case, lists of relations, links with another context, and malformed headers."""
    assert link_target(header, "next") == target


def test_any_relation_can_be_followed() -> None:
    """The relation may be any, and its case is irrelevant."""
    assert link_target('</n>; rel=next, </o>; rel="older"', "Older") == "/o"


def test_hostile_headers_are_read_in_linear_time() -> None:
    """64 KB of incomplete links take no noticeable time."""
    started_s = time.process_time()
    for piece in ("<a>;", '<a>; x="', "<", "; ", ",", '<a>; rel="\\', "<a>; a=b; "):
        assert link_target(piece * (65_536 // len(piece)), "next") is None
    assert time.process_time() - started_s < 2.0


def test_a_relation_that_cannot_be_read_is_noticed() -> None:
    """The word must be a relation."""
    assert mentions("{next}; rel=next", "next")
    assert mentions('rel="prev next" 12', "next")
    assert not mentions("</x>; title=next; rel=last", "next")
    assert not mentions("</x>; rel=nextpage", "next")
