"""Addresses: joining, parameters, and what makes two requests the same."""

from __future__ import annotations

from urllib.parse import urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scrapeq.errors import UsageError
from scrapeq.resource import address, canonical, task_key
from scrapeq.resource.address import clean, get_param, join, resolve, set_params, with_params


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
    """However the two are written, exactly one slash stands between them."""
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
def test_spellings_of_one_address_are_one_task(same: str) -> None:
    """Case of the host, default port, order of parameters and fragment make no difference."""
    assert task_key("GET", same, None) == task_key("GET", "https://api.test/a?x=1&y=2", None)


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
def test_another_address_is_another_task(other: str) -> None:
    """Scheme, port, path, values, repeated parameters and the user do make a difference."""
    assert task_key("GET", other, None) != task_key("GET", "https://api.test/a?x=1&y=2", None)


def test_method_and_body_belong_to_the_identity() -> None:
    """A POST is no GET, and two bodies are two requests."""
    url = "https://api.test/graphql"
    keys = {
        task_key("GET", url, None),
        task_key("POST", url, None),
        task_key("POST", url, ""),
        task_key("POST", url, "a"),
    }
    assert len(keys) == 4


def test_values_of_one_name_keep_their_order() -> None:
    """Only the names are sorted: the order of a repeated parameter may mean something."""
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
def test_what_is_no_http_address_is_refused(bad: str) -> None:
    """One named error, whatever is wrong with it."""
    with pytest.raises(UsageError, match="no http"):
        clean(bad)


def test_what_may_not_stand_in_an_address_is_encoded_once() -> None:
    """Blanks, letters beyond ASCII and line breaks are encoded; what is encoded already stays."""
    assert (
        clean(" https://a.test/ü b%20c?q=ä%C3%A4 x#top ")
        == "https://a.test/%C3%BC%20b%20c?q=%C3%A4%C3%A4%20x"
    )
    assert "\n" not in clean("https://a.test/a\nb?c=\r\nd")


def test_parameters_keep_their_spelling_and_place() -> None:
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


def test_references_are_resolved_where_they_were_found() -> None:
    """Relative links count from the page that holds them."""
    assert resolve("https://a.test/v1/items?page=1", "?page=2") == "https://a.test/v1/items?page=2"
    assert resolve("https://a.test/v1/items", "/other") == "https://a.test/other"
    assert resolve("https://a.test/v1/items", "//b.test/x") == "https://b.test/x"
    with pytest.raises(UsageError):
        resolve("https://a.test/", "http://[broken")


@given(st.text(alphabet="ab.:/?&=%#@[]-_~A0 9;,|!é+", min_size=1, max_size=16))
def test_an_address_that_is_clean_takes_no_other_way(rest: str) -> None:
    """What is passed on as it is would have come out of the long way unchanged."""
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
                wanted = f"{scheme}{host}{parts.path or '/'}{'?' if query else ''}{query}"
                assert address.canonical(url) == wanted
