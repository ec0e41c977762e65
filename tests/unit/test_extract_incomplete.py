"""A page sequence that ends before its end is known to be reached is incomplete, and says why."""

from __future__ import annotations

from typing import Any

import pytest
from paged_server import Server

from scrapeq.expression import compile_expression as expression
from scrapeq.plan import Incremental, Paginator
from scrapeq.resource.next_request import payload_key
from scrapeq.resource.payload import Payload, check_payload

ROWS = [{"id": 1}, {"id": 2}]
LINKS = '<?page=2&size=1>; rel="next", <?page=4&size=1>; rel="last"'
FULL: dict[str, Any] = {"data": ROWS, "n": 9, "next": "?p=2"}


@pytest.mark.parametrize(
    ("paginator", "bodies", "expected"),
    [
        (Paginator("json_link", next_url_path="next", max_pages=1), [FULL], "max_pages (1) ended"),
        (Paginator("json_link", next_url_path="next", max_pages=1), [{"data": ROWS}], ""),
        (Paginator("page_number", max_pages=2), [FULL, FULL], "max_pages (2) ended"),
        (Paginator("page_number", max_pages=2), [FULL, {"data": []}], ""),
        (Paginator("page_number", maximum_page=2), [FULL, {"data": [{"id": 3}]}], "maximum_page (2) ended"),
        (Paginator("page_number", maximum_page=2), [FULL, {"data": []}], ""),
        (Paginator("page_number", maximum_page=2, total_path="n"), [{**FULL, "n": 2}, {**FULL, "n": 2}], ""),
        (Paginator("page_number", maximum_page=1, max_pages=1), [FULL], "max_pages (1) ended"),
        (Paginator("offset", maximum_offset=2), [FULL, {"data": [{"id": 3}]}], "maximum_offset (2) ended"),
        (Paginator("offset", maximum_offset=2, total_path="n"), [{**FULL, "n": 2}], ""),
        (Paginator("offset", maximum_offset=1, total_path="n"), [FULL], "maximum_offset (1) ended"),
        (Paginator("page_number", maximum_page=1, total_path="n", fan_out=True), [FULL], "maximum_page (1)"),
        (Paginator("page_number", max_pages=1, total_path="n", fan_out=True), [FULL], "max_pages (1)"),
        (Paginator("json_link", stop_when=expression("page >= 1")), [FULL], ""),
        (Paginator("json_link"), [{"data": ROWS, "next": "ftp://x.test/"}], "the next page cannot be"),
        (Paginator("auto"), [{"data": ROWS, "has_more": True}], "has_more reports more records, but it is"),
        (Paginator("auto"), [{"data": ROWS, "has_more": False}], ""),
    ],
)
def test_what_ends_a_page_sequence_too_early(paginator: Paginator, bodies: list[Any], expected: str) -> None:
    """A bound counts only where more may follow; what the user declares as the end is the end."""
    server = Server(paginator)
    for body in bodies[:-1]:
        assert not server.respond(body).incomplete
    last = server.respond(bodies[-1])
    assert last.next_page is None
    assert last.incomplete.startswith(expected)
    assert bool(last.incomplete) == bool(expected)
    assert any(last.incomplete in event for event in last.events) or not expected


def test_an_incomplete_page_sequence_stores_no_state() -> None:
    """Its last page has a state to store only when the end was reached."""
    incremental = Incremental(cursor_path="id", initial_value=0)
    for paginator, is_complete in (
        (Paginator("json_link", max_pages=1), False),
        (Paginator("json_link"), True),
    ):
        server = Server(paginator, incremental=incremental)
        last = server.respond(FULL if not is_complete else {"data": ROWS})
        assert (last.cursor_state is not None) == is_complete
        assert bool(last.incomplete) != is_complete
        assert last.incomplete.endswith("so the next run requests its pages again") != is_complete


@pytest.mark.parametrize(
    ("paginator", "headers", "expected"),
    [
        (Paginator("page_number", total_path="n"), (), ["?page=3", "?page=4", "?page=5"]),
        (Paginator("page_number", total_path="n", max_pages=4), (), ["?page=3", "?page=4"]),
        (Paginator("offset", total_path="n", limit=1), (), ["?offset=2&limit=1", "?offset=3&limit=1"]),
        (Paginator("page_number"), (), []),
        (Paginator("json_link", next_url_path="next"), (), []),
        (Paginator("header_link"), (("Link", LINKS),), ["?page=3&size=1", "?page=4&size=1"]),
    ],
)
def test_pages_that_are_known_to_follow_a_dead_one(
    paginator: Paginator, headers: tuple[tuple[str, str], ...], expected: list[str]
) -> None:
    """If page 2 and all after it die, the rest is still requested one by one, as an incomplete page sequence."""
    server = Server(paginator)
    total = 4 if paginator.type == "offset" else 5
    assert server.respond({"data": [{"id": 1}], "n": total, "next": "?p=2"}, *headers).follow_ups
    keys, urls = set(), []
    payload: Payload = check_payload(server.payload)
    while task := server.builder.after_dead_page(payload, 1.0):
        payload = check_payload(task.payload)
        assert payload["walk"]["incomplete"]
        urls.append(payload["url"].partition("/x")[2])
        keys.add(task.key)
        again: Payload = {**payload, "walk": {}}
        assert task.key != payload_key(again), "a redrive requests the same page again"
    assert urls == expected
    assert len(keys) == len(urls)


def test_a_page_after_a_dead_one_continues_to_the_end() -> None:
    """The last page stores no state, because the dead one is missing."""
    server = Server(Paginator("page_number", total_path="n"), incremental=Incremental(cursor_path="id"))
    server.respond({"data": [{"id": 1}], "n": 4})
    task = server.builder.after_dead_page(server.payload, 1.0)
    assert task is not None
    server.payload = check_payload(task.payload)
    assert server.respond({"data": [{"id": 3}], "n": 4}).follow_ups
    last = server.respond({"data": [{"id": 4}], "n": 4})
    assert last.next_page is None
    assert last.cursor_state is None
