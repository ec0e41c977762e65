"""URLs: joining, parameters, and the key that identifies equal requests."""

from __future__ import annotations

from urllib.parse import urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scrapeq.errors import UsageError
from scrapeq.resource import address, canonical, task_key
from scrapeq.resource.address import (
    clean,
    get_param,
    join,
    resolve,
    set_params,
    with_params,
    without_downgrade,
)
from scrapeq.responses.match import host_matches, host_of


@pytest.mark.parametrize(
    ("base", "path", "joined"),
    [
        ("https://a.test/v1", "items", "https://a.test/v1/items"),
        ("https://a.test/v1/", "/items", "https://a.test/v1/items"),
        ("https://a.test", "items/", "https://a.test/items/"),
        ("https://a.test/v1/", "", "https://a.test/v1/"),
    ],
)
def test_base_and_path_are_joined_with_one_slash(base: str, path: str, joined: str) -> None:
    """Base and path may have slashes."""
    assert join(base, path) == joined


@pytest.mark.parametrize(
    "same",
    [
        "HTTPS://API.test/a?x=1&y=2",
        "https://api.test:443/a?y=2&x=1",
        "https://api.test/a?x=1&y=2#part",
        "https://api.test/a?&x=1&&y=2",
    ],
)
def test_spellings_of_one_url_have_one_key(same: str) -> None:
    """Case of the host, default port, order of parameters and fragment are irrelevant."""
    assert task_key("GET", same, None) == task_key("GET", "https://api.test/a?x=1&y=2", None)


@pytest.mark.parametrize(
    ("spelling", "same"),
    [
        ("http://[0:0:0:0:0:0:0:1]:8080/a", "http://[::1]:8080/a"),
        ("http://[FD00::7]:80/a", "http://[fd00::7]/a"),
        ("http://user@[::1]/a", "http://user@[::1]/a"),
        ("https://Bücher.example/ä", "https://xn--bcher-kva.example/%C3%A4"),
        ("https://faß.de/", "https://xn--fa-hia.de/"),
        ("https://例え。テスト/", "https://xn--r8jz45g.xn--zckzah/"),
        ("https://☃.net/", "https://xn--n3h.net/"),
    ],
)
def test_hosts_have_one_spelling(spelling: str, same: str) -> None:
    """IPv6 addresses are compressed, internationalized names in Punycode, in what is sent and in the key."""
    assert canonical(clean(spelling)) == canonical(same)
    assert host_of(spelling) == host_of(clean(spelling)) == host_of(same)
    assert clean(spelling).isascii()


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("http://[fe80::1%25eth0]/", "zone"),
        ("http://[::1%lo]/", "zone"),
        ("http://[::g]/", "IPv6|valid"),
        ("http://a\u200db.example/", "valid host name"),
        (f"http://{'ä' * 70}.example/", "longer|valid"),
    ],
)
def test_invalid_hosts_are_refused_with_a_reason(url: str, reason: str) -> None:
    """A zone of an IPv6 address names an interface of one machine."""
    with pytest.raises(UsageError, match=reason):
        clean(url)


@pytest.mark.parametrize(
    ("pattern", "host", "matches"),
    [
        ("[::1]", "[::1]:8080", True),
        ("::1", "[::1]", True),
        ("[0:0::1]:8080", "[::1]:8080", True),
        ("[::1]:81", "[::1]:8080", False),
        ("[::2]", "[::1]", False),
        ("bücher.example", "xn--bcher-kva.example:81", True),
        ("*.bücher.example", "a.xn--bcher-kva.example", True),
        ("A.test:81", "a.test:81", True),
        ("a.test:81", "a.test", False),
        ("a.*", "a.test:81", True),
        ("re:^\\[::1\\]", "[::1]:8080", True),
    ],
)
def test_patterns_match_every_spelling_of_a_host(pattern: str, host: str, matches: bool) -> None:
    """A pattern without a port matches every port."""
    assert host_matches(pattern, host) is matches


@pytest.mark.parametrize(
    ("base", "link", "followed"),
    [
        ("https://a.test/x", "http://a.test/y?p=2", "https://a.test/y?p=2"),
        ("https://a.test/x", "http://A.test:80/y", "https://a.test/y"),
        ("https://a.test:8443/x", "http://a.test:8443/y", "https://a.test:8443/y"),
        ("https://[::1]:8443/x", "http://[0::1]:8443/y", "https://[::1]:8443/y"),
        ("https://a.test/x", "http://a.test:8080/y", "http://a.test:8080/y"),
        ("https://a.test/x", "http://b.test/y", "http://b.test/y"),
        ("http://a.test/x", "http://a.test/y", "http://a.test/y"),
        ("http://a.test/x", "https://a.test/y", "https://a.test/y"),
    ],
)
def test_links_do_not_lead_from_https_to_http_of_the_same_host(base: str, link: str, followed: str) -> None:
    """Another host or port is another server, whose scheme stays."""
    assert without_downgrade(base, resolve(base, link)) == followed


@pytest.mark.parametrize(
    "other",
    [
        "http://api.test/a?x=1&y=2",
        "https://api.test:8443/a?x=1&y=2",
        "https://api.test/A?x=1&y=2",
        "https://api.test/a?x=2&y=1",
        "https://api.test/a?x=1&y=2&y=3",
        "https://user@api.test/a?x=1&y=2",
    ],
)
def test_different_urls_have_different_keys(other: str) -> None:
    """Scheme, port, path, values, repeated parameters and the user are relevant."""
    assert task_key("GET", other, None) != task_key("GET", "https://api.test/a?x=1&y=2", None)


def test_method_and_body_are_part_of_the_key() -> None:
    """An empty body differs from none."""
    url = "https://api.test/graphql"
    keys = {
        task_key("GET", url, None),
        task_key("POST", url, None),
        task_key("POST", url, ""),
        task_key("POST", url, "a"),
    }
    assert len(keys) == 4


def test_repeated_parameters_keep_their_order() -> None:
    """Only the names are sorted: the order of a repeated parameter may be significant."""
    assert canonical("https://a.test/?b=2&a=9&b=1") == "https://a.test/?a=9&b=2&b=1"


@pytest.mark.parametrize(
    "bad",
    [
        "",
        "/issues",
        "ftp://a.test/x",
        "javascript:alert(1)",
        "https://",
        "http://[::1",
        "http://a.test:port/",
        "http://a.test:99999/",
        "http://a b.test/",
        "mailto:a@b.test",
        "http://\udcff.test/",
    ],
)
def test_invalid_urls_are_refused(bad: str) -> None:
    """All invalid URLs raise the same type of error."""
    with pytest.raises(UsageError, match=r"not an http\(s\) URL"):
        clean(bad)


def test_invalid_characters_are_encoded_once() -> None:
    """Blanks, non-ASCII letters and line breaks are encoded; encoded characters stay."""
    assert (
        clean(" https://a.test/ü b%20c?q=ä%C3%A4 x#top ")
        == "https://a.test/%C3%BC%20b%20c?q=%C3%A4%C3%A4%20x"
    )
    assert "\n" not in clean("https://a.test/a\nb?c=\r\nd")


def test_parameters_keep_their_spelling_and_position() -> None:
    """A changed parameter stays where it was, the others stay byte for byte."""
    url = with_params("https://a.test/x?sort=a+b", [("created[gte]", "1"), ("tag", "ü&"), ("tag", "z")])
    assert url == "https://a.test/x?sort=a+b&created%5Bgte%5D=1&tag=%C3%BC%26&tag=z"
    assert get_param(url, "created[gte]") == "1"
    assert (
        set_params(url, {"created[gte]": "2", "tag": None}) == "https://a.test/x?sort=a+b&created%5Bgte%5D=2"
    )
    assert (
        set_params("https://a.test/x?p=1&p=2&q=#f", {"p": "3", "new": "n"}) == "https://a.test/x?p=3&q=&new=n"
    )


def test_references_are_resolved_against_their_page() -> None:
    """Relative links refer to the page that holds them."""
    assert resolve("https://a.test/v1/items?page=1", "?page=2") == "https://a.test/v1/items?page=2"
    assert resolve("https://a.test/v1/items", "/other") == "https://a.test/other"
    assert resolve("https://a.test/v1/items", "//b.test/x") == "https://b.test/x"
    with pytest.raises(UsageError):
        resolve("https://a.test/", "http://[broken")


@given(st.text(alphabet="ab.:/?&=%#@[]-_~A0 9;,|!é+", min_size=1, max_size=16))
def test_the_fast_path_for_clean_urls_gives_the_same_result(rest: str) -> None:
    """A clean URL, parsed and rebuilt, would be the same."""
    for scheme in ("http://", "https://"):
        url = scheme + rest
        if address._CLEAN_URL.fullmatch(url):
            parts = urlsplit(url)
            port = parts.port
            assert parts.hostname and (port is None or port <= 65_535)
            assert address.clean(url) == url == address.clean(url + "#fragment")
            host = parts.hostname + (
                f":{port}" if port not in (None, address.DEFAULT_PORTS[parts.scheme]) else ""
            )
            query = "&".join(sorted(filter(None, parts.query.split("&")), key=lambda p: p.partition("=")[0]))
            if "%" not in query and "+" not in query:
                expected = f"{scheme}{host}{parts.path or '/'}{'?' if query else ''}{query}"
                assert address.canonical(url) == expected
