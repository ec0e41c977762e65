"""Where the next page is, and where the walk ends."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from scrapeq.errors import ExtractError
from scrapeq.expression import compile_expression as expression
from scrapeq.expression import compile_template as template
from scrapeq.extract import PageExtractor
from scrapeq.page import Page
from scrapeq.plan import Client, Endpoint, Paginator, Plan, Resource
from scrapeq.protocols import Extraction
from scrapeq.resource import first_tasks
from scrapeq.task import Group

BASE = "https://api.test/v1"


class Server:
    """A plan of one resource, and the answers it gets: one after the other along the walk."""

    def __init__(self, paginator: Paginator, **endpoint: Any) -> None:
        resource = Resource(
            "r",
            Endpoint(path=template("x"), data_selector="data", paginator=paginator, **endpoint),
            priority=expression("record.rank"),
        )
        plan = Plan("t", "t.yaml", client=Client(base_url=BASE), resources=(resource,))
        self.extractor = PageExtractor(plan, lambda *_: Group())
        (first,) = first_tasks(plan, lambda *_: Group(), 1000.0)
        self.payload, self.priority = first.payload, first.priority

    def answer(self, body: Any, *headers: tuple[str, str]) -> Extraction:
        """Extract the answer of the current page, and go on to the next page if there is one."""
        page = Page(self.payload["url"], 200, headers, orjson.dumps(body))
        found = self.extractor.extract(self.payload, self.priority, page)
        for task in found.follow_ups:
            self.payload, self.priority = task.payload, task.priority
        return found

    def walk(self, *bodies: Any) -> list[str]:
        """What stands behind base and path of each page's address, as long as there is a next one."""
        seen = []
        for body in bodies:
            seen.append(self.payload["url"].removeprefix(BASE + "/x"))
            if not self.answer(body).follow_ups:
                break
        return seen


def test_links_are_taken_as_they_are() -> None:
    """Whole or relative, without a parameter of ours; the rest of the request stays."""
    server = Server(Paginator("header_link"), params={"limit": 5}, headers={"A": "b"})
    server.answer({"data": [1]}, ("Link", '<https://api.test/v1/x?page_info=abc>; rel="next"'))
    assert server.payload["url"] == "https://api.test/v1/x?page_info=abc"
    assert (server.payload["headers"], server.payload["page"]) == ({"A": "b"}, 2)
    server.answer({"data": [1]}, ("link", '</y>; rel="prev"'), ("link", '<?page_info=def>; rel="next"'))
    assert server.payload["url"] == "https://api.test/v1/x?page_info=def"
    assert server.answer({"data": [1]}, ("Link", '<?page=0>; rel="first"')).follow_ups == []


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
