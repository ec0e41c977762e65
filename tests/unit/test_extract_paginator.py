"""Paginators: the request for the next page, and the end of the pagination."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from paged_server import BASE, Server

from scrapeq.errors import ExtractError
from scrapeq.expression import compile_expression as expression
from scrapeq.plan import Paginator


def test_links_are_requested_as_they_are() -> None:
    """Links may be relative; the configured parameters are not added, the rest of the request stays."""
    server = Server(Paginator("header_link"), params={"limit": 5}, headers={"A": "b"})
    server.respond({"data": [1]}, ("Link", '<https://api.test/v1/x?page_info=abc>; rel="next"'))
    assert server.payload["url"] == "https://api.test/v1/x?page_info=abc"
    assert (server.payload["headers"], server.payload["page"]) == ({"A": "b"}, 2)
    server.respond({"data": [1]}, ("link", '</y>; rel="prev"'), ("link", '<?page_info=def>; rel="next"'))
    assert server.payload["url"] == "https://api.test/v1/x?page_info=def"
    assert server.respond({"data": [1]}, ("Link", '<?page=0>; rel="first"')).follow_ups == []


def test_link_header_names_another_header() -> None:
    """The header holds the URL; without it the pagination ends."""
    server = Server(Paginator("header_link", link_header="Next-Page"))
    server.respond({"data": [1]}, ("next-page", "https://api.test/v1/x?_token=a"))
    assert server.payload["url"] == "https://api.test/v1/x?_token=a"
    assert server.respond({"data": [1]}, ("Link", '<?page=0>; rel="next"')).follow_ups == []


@pytest.mark.parametrize("target", ["javascript:alert(1)", "ftp://a.test/", "http://[broken"])
def test_an_invalid_link_is_skipped(target: str) -> None:
    """The items of the page are still extracted."""
    extraction = Server(Paginator("header_link")).respond({"data": [1]}, ("Link", f'<{target}>; rel="next"'))
    assert (len(extraction.items), extraction.follow_ups, extraction.skipped) == (1, [], 1)


@pytest.mark.parametrize("target", ["", "#top", "https://API.test:443/v1/x", "/v1/x"])
def test_a_page_that_links_to_itself_is_the_last(target: str) -> None:
    """The server may spell the URL differently."""
    extraction = Server(Paginator("header_link")).respond({"data": [1]}, ("Link", f'<{target}>; rel="next"'))
    assert (extraction.follow_ups, extraction.skipped) == ([], 0)


def test_page_numbers_end_with_an_empty_page() -> None:
    """By default, an empty page is the end of numbered pages; the other parameters stay."""
    server = Server(Paginator("page_number"), params={"q": "a b"})
    assert server.requested_urls({"data": [1]}, {"data": [2]}, {"data": []}) == [
        "?q=a%20b&page=1",
        "?q=a%20b&page=2",
        "?q=a%20b&page=3",
    ]


def test_page_numbers_continue_from_the_requested_one() -> None:
    """If the first request has page 7, the next one has page 8."""
    server = Server(Paginator("page_number", page_param="p"), params={"p": 7, "z": 1})
    assert server.requested_urls({"data": [1]}, {"data": []}) == ["?p=7&z=1", "?p=8&z=1"]


@pytest.mark.parametrize(
    ("paginator", "body", "pages"),
    [
        (Paginator("page_number", total_path="meta.pages"), {"meta": {"pages": 3}}, 3),
        (Paginator("page_number", total_path="meta.pages", base_page=0), {"meta": {"pages": "3"}}, 3),
        (Paginator("page_number", maximum_page=2), {}, 2),
        (Paginator("page_number", max_pages=4), {}, 4),
        (Paginator("page_number", stop_when=expression("page == 3")), {}, 3),
        (Paginator("page_number", stop_when=expression("length(records) < 2")), {}, 1),
        (Paginator("page_number", stop_when=expression("body.meta.last")), {"meta": {"last": True}}, 1),
        (Paginator("page_number", has_more_path="more"), {"more": False}, 1),
        (Paginator("page_number", has_more_path="more"), {"more": "false"}, 1),
        (Paginator("page_number", has_more_path="more"), {"more": True}, 6),
        (Paginator("page_number", has_more_path="more"), {"more": None}, 6),
        (Paginator("single_page"), {}, 1),
    ],
)
def test_pagination_ends_where_configured(paginator: Paginator, body: dict[str, Any], pages: int) -> None:
    """Covers totals, limits, conditions and `has_more`; a null flag is ignored."""
    assert (
        len(Server(paginator).requested_urls(*[{"data": [number], **body} for number in range(6)])) == pages
    )


@pytest.mark.parametrize(("stops", "pages"), [(None, 3), (True, 2), (False, 3)])
def test_an_empty_page_does_not_end_cursors_by_default(stops: bool | None, pages: int) -> None:
    """Filters make empty pages in the middle; the cursor marks the end."""
    paginator = Paginator("cursor", cursor_path="next", stop_after_empty_page=stops)
    assert (
        len(
            Server(paginator).requested_urls(
                {"data": [1], "next": "a"}, {"data": [], "next": "b"}, {"data": [1]}
            )
        )
        == pages
    )


def test_stop_after_empty_page_false_applies_to_page_numbers() -> None:
    """The option applies to page numbers as it does to cursors."""
    paginator = Paginator("page_number", stop_after_empty_page=False, max_pages=3)
    assert len(Server(paginator).requested_urls(*[{"data": []}] * 5)) == 3


@pytest.mark.parametrize("end", [None, "", 0, False, {}, []])
def test_a_cursor_replaces_its_parameter_until_it_is_empty(end: Any) -> None:
    """The first request may have a first cursor; null, an empty text, 0 and false are the end."""
    paginator = Paginator("cursor", cursor_path="meta.next", cursor_param="cursor")
    server = Server(paginator, params={"cursor": "*", "n": 1})
    responses = [{"data": [1], "meta": {"next": value}} for value in ("a+b/c=", 17, end)]
    assert server.requested_urls(*responses, {"data": []}) == [
        "?cursor=%2A&n=1",
        "?cursor=a%2Bb%2Fc%3D&n=1",
        "?cursor=17&n=1",
    ]


def test_a_cursor_may_be_the_id_of_the_last_record() -> None:
    """Any path into the body can be the cursor."""
    paginator = Paginator("cursor", cursor_path="data[-1].id", cursor_param="after", has_more_path="more")
    server = Server(paginator)
    page = {"data": [{"id": 1}, {"id": 2}], "more": True}
    assert server.requested_urls(page, {"data": [{"id": 3}], "more": False}) == ["", "?after=2"]


def test_the_members_of_a_cursor_become_parameters_of_the_first_request() -> None:
    """A parameter from the last page that this cursor lacks is removed."""
    server = Server(Paginator("cursor", cursor_path="continue"), params={"action": "query", "a": "0"})
    responses = [
        {"data": [1], "continue": {"a": "1", "continue": "-||"}},
        {"data": [1], "continue": {"b": "2", "continue": "||x"}},
        {"data": [1]},
    ]
    assert server.requested_urls(*responses) == [
        "?action=query&a=0",
        "?action=query&a=1&continue=-%7C%7C",
        "?action=query&a=0&b=2&continue=%7C%7Cx",
    ]


@pytest.mark.parametrize("cursor", [True, ["a"]])
def test_an_invalid_cursor_raises_a_named_error(cursor: Any) -> None:
    """So the user notices a wrong cursor_path."""
    with pytest.raises(
        ExtractError, match=r"cursor_path: 'next' selects .*, which cannot be sent as a cursor"
    ):
        Server(Paginator("cursor", cursor_path="next")).respond({"data": [1], "next": cursor})


def test_a_repeated_cursor_ends_the_pagination() -> None:
    """A server that ignores the parameter, or repeats its last cursor, is not requested forever."""
    server = Server(Paginator("cursor", cursor_path="next"))
    assert len(server.requested_urls(*[{"data": [1], "next": "same"}] * 5)) == 2


@pytest.mark.parametrize(
    ("own", "records", "priority"),
    [
        (None, [{"rank": 9}, {"rank": 4}, None], 4.0),
        (None, [{"rank": "2025-01-01T00:00:00Z"}], 1735689600.0),
        (None, [{"rank": 9}, {"rank": None}], 1000.0),
        (None, [{"rank": "no number"}], 1000.0),
        ("-page", [{"rank": 9}], -1.0),
        ("body.none", [{"rank": 9}], 9.0),
    ],
)
def test_the_next_page_has_the_priority_of_the_last_record(
    own: str | None, records: list[Any], priority: float
) -> None:
    """The paginator's priority applies, else the resource's for the last record, else that of this page."""
    paginator = Paginator("page_number", priority=expression(own) if own else None)
    (task,) = Server(paginator).respond({"data": records}).follow_ups
    assert task.priority == priority


@pytest.mark.parametrize(
    ("link", "url"),
    [
        ("https://api.test/v1/x?page_info=abc", "https://api.test/v1/x?page_info=abc"),
        ("/v1/x?c=a%2Bb", "https://api.test/v1/x?c=a%2Bb"),
        ("?page=2", "https://api.test/v1/x?page=2"),
        ("//b.test/y", "https://b.test/y"),
        ({"href": "/z", "method": "GET"}, "https://api.test/z"),
    ],
)
def test_a_link_in_the_body_is_resolved(link: Any, url: str) -> None:
    """The link is a URL, relative to the page, or an object with a URL; the configured parameters are not added."""
    server = Server(Paginator("json_link", next_url_path="links.next"), params={"limit": 5})
    server.respond({"data": [1], "links": {"next": link}})
    assert server.payload["url"] == url


@pytest.mark.parametrize("end", [None, "", False, {}, " ", {"href": None}])
def test_an_empty_link_ends_the_pagination(end: Any) -> None:
    """Covers null, an empty string and an object without a URL."""
    server = Server(Paginator("json_link", next_url_path="next"))
    assert server.respond({"data": [1], "next": end}).follow_ups == []


def test_an_invalid_link_in_the_body_raises_a_named_error() -> None:
    """So the user notices a wrong next_url_path."""
    with pytest.raises(ExtractError, match=r"next_url_path: 'next' selects 7, which is not a link"):
        Server(Paginator("json_link", next_url_path="next")).respond({"data": [1], "next": 7})


def sent(server: Server) -> dict[str, Any]:
    """Return the JSON body of the current request."""
    body: dict[str, Any] = orjson.loads(server.payload["body"])
    return body


def test_a_cursor_goes_to_its_configured_position() -> None:
    """It comes from a body or a header and goes into a parameter, a header, a JSON body at any depth, or a form."""
    server = Server(Paginator("header_cursor", cursor_key="X-Next"))
    server.respond({"data": [1]}, ("x-next", "a b"))
    assert server.payload["url"] == f"{BASE}/x?cursor=a%20b"
    assert server.respond({"data": [1]}, ("X-Next", "")).follow_ups == []
    server = Server(
        Paginator("cursor", cursor_path="next", cursor_header="X-Cursor"), headers={"x-cursor": "*"}
    )
    server.respond({"data": [1], "next": 5})
    assert server.payload["headers"] == {"X-Cursor": "5"}
    paginator = Paginator("cursor", cursor_path="next", cursor_body_path="query.after.0")
    server = Server(paginator, method="POST", json={"query": {"after": [None], "n": 1}})
    server.respond({"data": [1], "next": {"id": 3}})
    assert sent(server) == {"query": {"after": [{"id": 3}], "n": 1}}
    server = Server(Paginator("cursor", cursor_path="next", cursor_body_path="a.b"), method="POST")
    server.respond({"data": [1], "next": [1, "x"]})
    assert (sent(server), server.payload["headers"]) == (
        {"a": {"b": [1, "x"]}},
        {"Content-Type": "application/json"},
    )
    server = Server(
        Paginator("cursor", cursor_path="next", cursor_body_path="c"), method="POST", data={"q": "ü", "c": ""}
    )
    server.respond({"data": [1], "next": "&1"})
    assert server.payload["body"] == "q=%C3%BC&c=%261"


@pytest.mark.parametrize("path", ["list.7", "text.a", "list.x.y"])
def test_a_missing_position_in_the_body_skips_the_next_page(path: str) -> None:
    """The current page is extracted; the next page is counted as skipped."""
    paginator = Paginator("cursor", cursor_path="next", cursor_body_path=path)
    server = Server(paginator, method="POST", json={"list": [1], "text": "t"})
    extraction = server.respond({"data": [1], "next": "c"})
    assert (len(extraction.items), extraction.follow_ups, extraction.skipped) == (1, [], 1)


def test_pages_that_differ_only_in_a_header_or_body_have_different_keys() -> None:
    """The key of a task includes the cursor wherever it is; other headers are not part of it."""
    keys = set()
    for paginator in (
        Paginator("cursor", cursor_path="next", cursor_header="c"),
        Paginator("cursor", cursor_path="next", cursor_body_path="c"),
        Paginator("cursor", cursor_path="next", cursor_param="c"),
    ):
        server = Server(paginator, method="POST", json={"q": 1})
        for cursor in ("a", "b"):
            (task,) = server.respond({"data": [1], "next": cursor}).follow_ups
            keys.add(task.key)
    assert len(keys) == 6


def test_a_header_with_a_line_break_is_never_sent() -> None:
    """The cursor comes from a response, so it may contain line breaks."""
    extraction = Server(Paginator("cursor", cursor_path="next", cursor_header="X")).respond(
        {"data": [1], "next": "a\nB: c"}
    )
    assert (extraction.follow_ups, extraction.skipped) == ([], 1)


@pytest.mark.parametrize(
    ("paginator", "params", "responses", "urls"),
    [
        (
            Paginator("offset", limit=2),
            {},
            [2, 2, 0],
            ["?offset=0&limit=2", "?offset=2&limit=2", "?offset=4&limit=2"],
        ),
        (Paginator("offset"), {"n": 2}, [2, 1, 0], ["?n=2&offset=0", "?n=2&offset=2", "?n=2&offset=3"]),
        (
            Paginator("offset", limit=9),
            {},
            [4, 3, 0],
            ["?offset=0&limit=9", "?offset=4&limit=9", "?offset=7&limit=9"],
        ),
        (
            Paginator("offset", limit=2, maximum_offset=2),
            {},
            [2, 2],
            ["?offset=0&limit=2", "?offset=2&limit=2"],
        ),
        (
            Paginator("offset", offset=1, limit=2, total_path="n"),
            {},
            [2, 2, 1],
            ["?offset=1&limit=2", "?offset=3&limit=2", "?offset=5&limit=2"],
        ),
        (
            Paginator("offset", limit=2, offset_param="skip", limit_param="take"),
            {"skip": 6},
            [2, 0],
            ["?skip=6&take=2", "?skip=8&take=2"],
        ),
        (
            Paginator("offset", limit=2, stop_after_empty_page=False, max_pages=2),
            {},
            [0, 0],
            ["?offset=0&limit=2", "?offset=2&limit=2"],
        ),
    ],
)
def test_offsets_count_records(
    paginator: Paginator, params: dict[str, Any], responses: list[int], urls: list[str]
) -> None:
    """The first request has them; nothing is lost if the server sends fewer records than requested."""
    bodies = [{"data": [[at, one] for one in range(count)], "n": 5} for at, count in enumerate(responses)]
    assert Server(paginator, params=params).requested_urls(*bodies, {"data": [1]}) == urls


def test_a_total_ends_offsets_without_an_extra_request() -> None:
    """The total may be a string."""
    server = Server(Paginator("offset", limit=2, total_path="meta.total"))
    assert len(server.requested_urls(*[{"data": [at, 1], "meta": {"total": "4"}} for at in range(5)])) == 2


def test_numbers_may_be_in_headers_and_bodies() -> None:
    """The first request contains them, too, unless the resource sets other ones."""
    paginator = Paginator("page_number", page_body_path="page.number", base_page=0)
    server = Server(paginator, method="POST", json={"q": 1})
    assert sent(server) == {"q": 1, "page": {"number": 0}}
    server.respond({"data": [1]})
    assert sent(server) == {"q": 1, "page": {"number": 1}}
    server = Server(Paginator("page_number", page_header="X-Page"), headers={"x-page": "4"})
    server.respond({"data": [1]})
    assert server.payload["headers"] == {"X-Page": "5"}
    paginator = Paginator("offset", limit=2, offset_body_path="from", limit_body_path="size")
    server = Server(paginator, method="POST")
    assert sent(server) == {"from": 0, "size": 2}
    server.respond({"data": [1, 2]})
    assert sent(server) == {"from": 2, "size": 2}


def test_the_page_number_in_the_response_counts() -> None:
    """If a response lacks it, the number in the request is increased."""
    server = Server(Paginator("page_number", page_path="meta.page"))
    assert server.requested_urls({"data": [1], "meta": {"page": 6}}, {"data": [2]}, {"data": []}) == [
        "?page=1",
        "?page=7",
        "?page=8",
    ]


def test_an_empty_page_without_the_flag_is_the_last() -> None:
    """If `has_more` is missing and the page is empty, the pagination ends."""
    paginator = Paginator("cursor", cursor_path="next", has_more_path="more")
    server = Server(paginator)
    assert (
        len(server.requested_urls({"data": [1], "next": "a"}, {"data": [], "next": "b"}, {"data": [1]})) == 2
    )


@pytest.mark.parametrize(
    ("paginator", "is_guess"),
    [
        (Paginator("page_number", page_param="page"), True),
        (Paginator("offset", limit=1, offset_param="from"), True),
        (Paginator("page_number", page_param="page", total_path="pages"), False),
        (Paginator("header_link"), False),
    ],
)
def test_a_page_that_may_be_past_the_end_is_a_guess(paginator: Paginator, is_guess: bool) -> None:
    """Its payload says so, since a 404 ends such a pagination; with a known count or a link it is not a guess."""
    server = Server(paginator)
    server.respond({"data": [1], "pages": 3}, ("Link", '<https://api.test/v1/x?page=2>; rel="next"'))
    assert bool(server.payload["walk"].get("guess")) is is_guess
