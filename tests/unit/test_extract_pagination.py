"""Paginations with loops, fan-out, and paginators of other packages."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from paged_server import BASE, Server

from scrapeq import plugins
from scrapeq.errors import ExtractError
from scrapeq.expression import compile_expression as expression
from scrapeq.extract.seen_records import SAMPLE_SIZE
from scrapeq.page import Page
from scrapeq.plan import Paginator
from scrapeq.protocols import Change, PageRequest


@pytest.mark.parametrize("length", [1, 2, 3, 7, 64])
@pytest.mark.parametrize("kind", ["json_link", "cursor", "cursor in a header", "cursor in the body"])
def test_loops_of_any_length_end_with_an_event(kind: str, length: int) -> None:
    """Pages may precede the loop; the payload has a bounded sample of the records."""
    paginator = {
        "json_link": Paginator("json_link", next_url_path="next"),
        "cursor": Paginator("cursor", cursor_path="next"),
        "cursor in a header": Paginator("cursor", cursor_path="next", cursor_header="C"),
        "cursor in the body": Paginator("cursor", cursor_path="next", cursor_body_path="c"),
    }[kind]
    server = Server(paginator, method="POST" if "body" in kind else "GET")
    sizes, tail = [], 5
    for number in range(1, 1000):
        at = number if number < tail else tail + (number - tail) % length
        # The records are new each time, so only the requests show the loop.
        extraction = server.respond({"data": [number], "next": f"?p={at:06}"})
        sizes.append(len(orjson.dumps(server.payload)))
        if not extraction.follow_ups:
            break
    assert number <= 3 * (tail + length) + 2
    assert [event.split(": page")[0] for event in extraction.events] == ["loop   r"]
    assert max(sizes) - sizes[0] < 400 + 6 * min(number, SAMPLE_SIZE)


def test_pagination_stops_if_the_server_ignores_the_page_number() -> None:
    """If only an empty page ends the pagination, a page with the same records is a repetition."""
    for paginator in (Paginator("page_number"), Paginator("offset", limit=1)):
        server = Server(paginator)
        assert len(server.requested_urls(*[{"data": [{"id": 1}]}] * 9)) == 2


def test_fan_out_requests_all_pages_at_once() -> None:
    """Each page has its own priority; the last one continues if more pages were added."""
    paginator = Paginator("page_number", total_path="pages", fan_out=True, priority=expression("100 - page"))
    server = Server(paginator)
    extraction = server.respond({"data": [1], "pages": 4})
    assert [task.payload["url"] for task in extraction.follow_ups] == [
        f"{BASE}/x?page={n}" for n in (2, 3, 4)
    ]
    assert [task.priority for task in extraction.follow_ups] == [98.0, 97.0, 96.0]
    assert [task.payload["page"] for task in extraction.follow_ups] == [2, 3, 4]
    server.payload = extraction.follow_ups[0].payload
    assert server.respond({"data": [1], "pages": 4}).follow_ups == []
    server.payload = extraction.follow_ups[2].payload
    (more,) = server.respond({"data": [1], "pages": 5}).follow_ups
    assert more.payload["url"] == f"{BASE}/x?page=5"


@pytest.mark.parametrize(
    ("paginator", "headers", "urls"),
    [
        (
            Paginator("offset", limit=2, total_path="n", fan_out=True),
            [],
            ["?offset=2&limit=2", "?offset=4&limit=2"],
        ),
        (
            Paginator("offset", limit=9, total_path="n", fan_out=True),
            [],
            ["?offset=2&limit=9", "?offset=4&limit=9"],
        ),
        (Paginator("page_number", total_path="n", maximum_page=3, fan_out=True), [], ["?page=2", "?page=3"]),
        (Paginator("page_number", total_path="n", max_pages=2, fan_out=True), [], ["?page=2"]),
        (
            Paginator("header_link", fan_out=True),
            [("Link", '</v1/x?a=1&page=2>; rel="next", </v1/x?a=1&page=4>; rel="last"')],
            ["?a=1&page=2", "?a=1&page=3", "?a=1&page=4"],
        ),
        (
            Paginator("header_link", fan_out=True),
            [("Link", '</v1/x?_limit=2&_page=2>; rel="next", </v1/x?_limit=2&_page=3>; rel="last"')],
            ["?_limit=2&_page=2", "?_limit=2&_page=3"],
        ),
    ],
)
def test_fan_out_counts_pages_by_records_or_links(
    paginator: Paginator, headers: Any, urls: list[str]
) -> None:
    """The count is total / page size, or the page number of the last link; limits apply."""
    extraction = Server(paginator).respond({"data": [1, 2], "n": 5}, *headers)
    assert [task.payload["url"].removeprefix(f"{BASE}/x") for task in extraction.follow_ups] == urls


@pytest.mark.parametrize(
    ("paginator", "headers"),
    [
        (Paginator("page_number", total_path="none", fan_out=True), []),
        (Paginator("cursor", cursor_path="c", fan_out=True), []),
        (Paginator("header_link", fan_out=True), [("Link", '<?c=a>; rel="next", <?c=z>; rel="last"')]),
        (Paginator("page_number", total_path="huge", fan_out=True), []),
    ],
)
def test_fan_out_without_a_count_requests_one_page_at_a_time(paginator: Paginator, headers: Any) -> None:
    """An event says so."""
    extraction = Server(paginator).respond({"data": [1], "c": "a", "huge": 10**9}, *headers)
    assert len(extraction.follow_ups) == 1
    assert ["fan_out" in event for event in extraction.events] == [True]


def test_a_paginator_of_another_package_is_called(monkeypatch: pytest.MonkeyPatch) -> None:
    """The paginator receives the page, its state is stored, and its errors have its name."""
    calls: list[Any] = []

    def paginate(page: Page, body: Any, records: Any, request: PageRequest, options: Any) -> Any:
        calls.append((page.status, list(records), request.number, dict(request.remembered), dict(options)))
        if body.get("fault"):
            raise KeyError("x")
        if body.get("none"):
            return "?"
        return Change(params={"t": body["t"]}, remember={"n": request.number}) if body.get("t") else None

    monkeypatch.setattr(plugins, "load", lambda group, name: {"ours": paginate}[name])
    server = Server(Paginator("ours", options={"a": 1}))
    server.respond({"data": [1], "t": "x"})
    assert server.payload["url"] == f"{BASE}/x?t=x"
    with pytest.raises(ExtractError, match="paginator ours: KeyError: 'x'"):
        server.respond({"data": [], "fault": True})
    with pytest.raises(ExtractError, match="paginator ours returned str"):
        server.respond({"data": [], "none": True})
    assert server.respond({"data": [1]}).follow_ups == []
    assert calls[:2] == [(200, [1], 1, {}, {"a": 1}), (200, [], 2, {"n": 1}, {"a": 1})]


def test_a_huge_last_page_number_is_ignored() -> None:
    """Python refuses to parse thousands of digits; the pages follow one another instead."""
    server = Server(Paginator("header_link", fan_out=True))
    links = f'<{BASE}/x?page=2>; rel="next", <{BASE}/x?page={"9" * 5_000}>; rel="last"'
    extraction = server.respond({"data": [1]}, ("Link", links))
    assert [task.payload["url"] for task in extraction.follow_ups] == [f"{BASE}/x?page=2"]
