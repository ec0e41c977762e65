"""Where the next page is, and where the walk ends."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from walked_server import BASE, Server

from scrapeq.errors import ExtractError
from scrapeq.expression import compile_expression as expression
from scrapeq.plan import Paginator


def test_links_are_taken_as_they_are() -> None:
    """Whole or relative, without a parameter of ours; the rest of the request stays."""
    server = Server(Paginator("header_link"), params={"limit": 5}, headers={"A": "b"})
    server.answer({"data": [1]}, ("Link", '<https://api.test/v1/x?page_info=abc>; rel="next"'))
    assert server.payload["url"] == "https://api.test/v1/x?page_info=abc"
    assert (server.payload["headers"], server.payload["page"]) == ({"A": "b"}, 2)
    server.answer({"data": [1]}, ("link", '</y>; rel="prev"'), ("link", '<?page_info=def>; rel="next"'))
    assert server.payload["url"] == "https://api.test/v1/x?page_info=def"
    assert server.answer({"data": [1]}, ("Link", '<?page=0>; rel="first"')).follow_ups == []


def test_another_header_is_the_link_itself() -> None:
    """A header that is named holds the address; without it the walk ends."""
    server = Server(Paginator("header_link", link_header="Next-Page"))
    server.answer({"data": [1]}, ("next-page", "https://api.test/v1/x?_token=a"))
    assert server.payload["url"] == "https://api.test/v1/x?_token=a"
    assert server.answer({"data": [1]}, ("Link", '<?page=0>; rel="next"')).follow_ups == []


@pytest.mark.parametrize("target", ["javascript:alert(1)", "ftp://a.test/", "http://[broken"])
def test_a_link_that_is_no_address_is_counted_not_followed(target: str) -> None:
    """The page's items stay."""
    found = Server(Paginator("header_link")).answer({"data": [1]}, ("Link", f'<{target}>; rel="next"'))
    assert (len(found.items), found.follow_ups, found.skipped) == (1, [], 1)


@pytest.mark.parametrize("target", ["", "#top", "https://API.test:443/v1/x", "/v1/x"])
def test_a_page_that_names_itself_ends_the_walk(target: str) -> None:
    """However the server spells it."""
    found = Server(Paginator("header_link")).answer({"data": [1]}, ("Link", f'<{target}>; rel="next"'))
    assert (found.follow_ups, found.skipped) == ([], 0)


def test_numbers_go_on_to_the_empty_page() -> None:
    """Without any other sign an empty page ends a numbered walk; the other parameters stay."""
    server = Server(Paginator("page_number"), params={"q": "a b"})
    assert server.walk({"data": [1]}, {"data": [2]}, {"data": []}) == [
        "?q=a%20b&page=1",
        "?q=a%20b&page=2",
        "?q=a%20b&page=3",
    ]


def test_numbers_go_on_from_the_number_that_was_asked_for() -> None:
    """Whoever begins at page 7 goes on with 8."""
    server = Server(Paginator("page_number", page_param="p"), params={"p": 7, "z": 1})
    assert server.walk({"data": [1]}, {"data": []}) == ["?p=7&z=1", "?p=8&z=1"]


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
def test_a_walk_ends_where_it_is_said(paginator: Paginator, body: dict[str, Any], pages: int) -> None:
    """Totals, bounds, conditions and `has_more`; null says nothing."""
    assert len(Server(paginator).walk(*[{"data": [number], **body} for number in range(6)])) == pages


@pytest.mark.parametrize(("stops", "pages"), [(None, 3), (True, 2), (False, 3)])
def test_an_empty_page_behind_a_cursor_is_no_end_unless_said(stops: bool | None, pages: int) -> None:
    """Filters make empty pages in the middle; the cursor tells the end."""
    paginator = Paginator("cursor", cursor_path="next", stop_after_empty_page=stops)
    assert (
        len(Server(paginator).walk({"data": [1], "next": "a"}, {"data": [], "next": "b"}, {"data": [1]}))
        == pages
    )


def test_an_empty_numbered_page_is_passed_when_that_is_said() -> None:
    """`stop_after_empty_page: false` holds for numbers, too."""
    paginator = Paginator("page_number", stop_after_empty_page=False, max_pages=3)
    assert len(Server(paginator).walk(*[{"data": []}] * 5)) == 3


@pytest.mark.parametrize("end", [None, "", 0, False, {}, []])
def test_a_cursor_replaces_its_parameter_until_it_is_nothing(end: Any) -> None:
    """The first request may hold a first cursor; null, an empty text, 0 and false end the walk."""
    paginator = Paginator("cursor", cursor_path="meta.next", cursor_param="cursor")
    server = Server(paginator, params={"cursor": "*", "n": 1})
    answers = [{"data": [1], "meta": {"next": value}} for value in ("a+b/c=", 17, end)]
    assert server.walk(*answers, {"data": []}) == [
        "?cursor=%2A&n=1",
        "?cursor=a%2Bb%2Fc%3D&n=1",
        "?cursor=17&n=1",
    ]


def test_a_cursor_may_be_the_last_records_id() -> None:
    """Any path into the body will do."""
    paginator = Paginator("cursor", cursor_path="data[-1].id", cursor_param="after", has_more_path="more")
    server = Server(paginator)
    page = {"data": [{"id": 1}, {"id": 2}], "more": True}
    assert server.walk(page, {"data": [{"id": 3}], "more": False}) == ["", "?after=2"]


def test_the_members_of_a_cursor_become_parameters_of_the_first_request() -> None:
    """A member that the last page set and this one lacks is gone again."""
    server = Server(Paginator("cursor", cursor_path="continue"), params={"action": "query", "a": "0"})
    answers = [
        {"data": [1], "continue": {"a": "1", "continue": "-||"}},
        {"data": [1], "continue": {"b": "2", "continue": "||x"}},
        {"data": [1]},
    ]
    assert server.walk(*answers) == [
        "?action=query&a=0",
        "?action=query&a=1&continue=-%7C%7C",
        "?action=query&a=0&b=2&continue=%7C%7Cx",
    ]


@pytest.mark.parametrize("cursor", [True, ["a"]])
def test_a_cursor_that_cannot_be_sent_is_named(cursor: Any) -> None:
    """A wrong cursor_path shows itself."""
    with pytest.raises(ExtractError, match=r"cursor_path: 'next' gives .*, no cursor"):
        Server(Paginator("cursor", cursor_path="next")).answer({"data": [1], "next": cursor})


def test_a_cursor_that_does_not_move_ends_the_walk() -> None:
    """A server that ignores the parameter, or repeats its last cursor, is not asked for ever."""
    server = Server(Paginator("cursor", cursor_path="next"))
    assert len(server.walk(*[{"data": [1], "next": "same"}] * 5)) == 2


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
def test_the_next_page_ranks_by_the_last_record(own: str | None, records: list[Any], priority: float) -> None:
    """The paginator's own priority, else the resource's on the last record, else what this page had."""
    paginator = Paginator("page_number", priority=expression(own) if own else None)
    (task,) = Server(paginator).answer({"data": records}).follow_ups
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
def test_a_link_in_the_body_is_resolved_and_taken_as_it_is(link: Any, url: str) -> None:
    """Absolute, relative to the page, or an object with the address; none of our parameters is added."""
    server = Server(Paginator("json_link", next_url_path="links.next"), params={"limit": 5})
    server.answer({"data": [1], "links": {"next": link}})
    assert server.payload["url"] == url


@pytest.mark.parametrize("end", [None, "", False, {}, " ", {"href": None}])
def test_a_link_that_is_nothing_ends_the_walk(end: Any) -> None:
    """Null, an empty text, an object without an address."""
    server = Server(Paginator("json_link", next_url_path="next"))
    assert server.answer({"data": [1], "next": end}).follow_ups == []


def test_a_link_that_is_none_is_named() -> None:
    """A wrong next_url_path shows itself."""
    with pytest.raises(ExtractError, match=r"next_url_path: 'next' gives 7, no link"):
        Server(Paginator("json_link", next_url_path="next")).answer({"data": [1], "next": 7})


def sent(server: Server) -> dict[str, Any]:
    """The JSON body of the current request."""
    body: dict[str, Any] = orjson.loads(server.payload["body"])
    return body


def test_a_cursor_goes_where_it_is_said() -> None:
    """From a body or a header, into a parameter, a header, a JSON body at any depth, or a form."""
    server = Server(Paginator("header_cursor", cursor_key="X-Next"))
    server.answer({"data": [1]}, ("x-next", "a b"))
    assert server.payload["url"] == f"{BASE}/x?cursor=a%20b"
    assert server.answer({"data": [1]}, ("X-Next", "")).follow_ups == []
    server = Server(
        Paginator("cursor", cursor_path="next", cursor_header="X-Cursor"), headers={"x-cursor": "*"}
    )
    server.answer({"data": [1], "next": 5})
    assert server.payload["headers"] == {"X-Cursor": "5"}
    paginator = Paginator("cursor", cursor_path="next", cursor_body_path="query.after.0")
    server = Server(paginator, method="POST", json={"query": {"after": [None], "n": 1}})
    server.answer({"data": [1], "next": {"id": 3}})
    assert sent(server) == {"query": {"after": [{"id": 3}], "n": 1}}
    server = Server(Paginator("cursor", cursor_path="next", cursor_body_path="a.b"), method="POST")
    server.answer({"data": [1], "next": [1, "x"]})
    assert (sent(server), server.payload["headers"]) == (
        {"a": {"b": [1, "x"]}},
        {"Content-Type": "application/json"},
    )
    server = Server(
        Paginator("cursor", cursor_path="next", cursor_body_path="c"), method="POST", data={"q": "ü", "c": ""}
    )
    server.answer({"data": [1], "next": "&1"})
    assert server.payload["body"] == "q=%C3%BC&c=%261"


@pytest.mark.parametrize(("path", "place"), [("list.7", "7"), ("text.a", "a"), ("list.x.y", "x")])
def test_a_place_that_the_body_has_not_is_no_request(path: str, place: str) -> None:
    """The page stays; what would follow is counted."""
    paginator = Paginator("cursor", cursor_path="next", cursor_body_path=path)
    server = Server(paginator, method="POST", json={"list": [1], "text": "t"})
    found = server.answer({"data": [1], "next": "c"})
    assert (len(found.items), found.follow_ups, found.skipped) == (1, [], 1)


def test_pages_that_differ_in_a_header_or_body_alone_are_told_apart() -> None:
    """The identity of a task knows the cursor wherever it is; other headers make no difference."""
    keys = set()
    for paginator in (
        Paginator("cursor", cursor_path="next", cursor_header="c"),
        Paginator("cursor", cursor_path="next", cursor_body_path="c"),
        Paginator("cursor", cursor_path="next", cursor_param="c"),
    ):
        server = Server(paginator, method="POST", json={"q": 1})
        for cursor in ("a", "b"):
            (task,) = server.answer({"data": [1], "next": cursor}).follow_ups
            keys.add(task.key)
    assert len(keys) == 6


def test_a_header_with_a_line_break_is_never_sent() -> None:
    """A cursor comes from data."""
    found = Server(Paginator("cursor", cursor_path="next", cursor_header="X")).answer(
        {"data": [1], "next": "a\nB: c"}
    )
    assert (found.follow_ups, found.skipped) == ([], 1)


@pytest.mark.parametrize(
    ("paginator", "params", "answers", "urls"),
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
    paginator: Paginator, params: dict[str, Any], answers: list[int], urls: list[str]
) -> None:
    """The first request has them; a server that gives fewer than it is asked for loses nothing."""
    bodies = [{"data": [[at, one] for one in range(count)], "n": 5} for at, count in enumerate(answers)]
    assert Server(paginator, params=params).walk(*bodies, {"data": [1]}) == urls


def test_a_total_ends_offsets_without_another_request() -> None:
    """Text counts as a number."""
    server = Server(Paginator("offset", limit=2, total_path="meta.total"))
    assert len(server.walk(*[{"data": [at, 1], "meta": {"total": "4"}} for at in range(5)])) == 2


def test_numbers_may_stand_in_headers_and_bodies() -> None:
    """The first request has them, too, unless the resource says another."""
    paginator = Paginator("page_number", page_body_path="page.number", base_page=0)
    server = Server(paginator, method="POST", json={"q": 1})
    assert sent(server) == {"q": 1, "page": {"number": 0}}
    server.answer({"data": [1]})
    assert sent(server) == {"q": 1, "page": {"number": 1}}
    server = Server(Paginator("page_number", page_header="X-Page"), headers={"x-page": "4"})
    server.answer({"data": [1]})
    assert server.payload["headers"] == {"X-Page": "5"}
    paginator = Paginator("offset", limit=2, offset_body_path="from", limit_body_path="size")
    server = Server(paginator, method="POST")
    assert sent(server) == {"from": 0, "size": 2}
    server.answer({"data": [1, 2]})
    assert sent(server) == {"from": 2, "size": 2}


def test_the_servers_own_number_counts() -> None:
    """Where it says which page it gave; a page without it counts on from the request."""
    server = Server(Paginator("page_number", page_path="meta.page"))
    assert server.walk({"data": [1], "meta": {"page": 6}}, {"data": [2]}, {"data": []}) == [
        "?page=1",
        "?page=7",
        "?page=8",
    ]


def test_a_flag_that_is_left_out_ends_with_an_empty_page() -> None:
    """Where `has_more` is not there and nothing came, nothing more will."""
    paginator = Paginator("cursor", cursor_path="next", has_more_path="more")
    server = Server(paginator)
    assert len(server.walk({"data": [1], "next": "a"}, {"data": [], "next": "b"}, {"data": [1]})) == 2


@pytest.mark.parametrize(
    ("paginator", "is_guess"),
    [
        (Paginator("page_number", page_param="page"), True),
        (Paginator("offset", limit=1, offset_param="from"), True),
        (Paginator("page_number", page_param="page", total_path="pages"), False),
        (Paginator("header_link"), False),
    ],
)
def test_a_page_that_may_be_behind_the_end_is_a_guess(paginator: Paginator, is_guess: bool) -> None:
    """Its payload says so, for a 404 ends such a walk; where the count is told, or a link leads there, it is none."""
    server = Server(paginator)
    server.answer({"data": [1], "pages": 3}, ("Link", '<https://api.test/v1/x?page=2>; rel="next"'))
    assert bool(server.payload["walk"].get("guess")) is is_guess
