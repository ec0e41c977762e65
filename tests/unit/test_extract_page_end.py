"""The ways in which servers state the end of their pages, wherever a next link or cursor stands beside them."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import orjson
import pytest
from paged_server import BASE, Server

from scrapeq.plan import Paginator
from scrapeq.protocols import Extraction

LINK = Paginator("json_link", next_url_path="next")
CURSOR = Paginator("cursor", cursor_path="next")
MOST = 40

Respond = Callable[[int], dict[str, Any]]
"""The number of a page, from 1 -> its body."""


def read_all(server: Server, respond: Respond) -> tuple[int, Extraction]:
    """Request pages while there is a next one; return their number and the last extraction."""
    for number in range(1, MOST + 1):
        extraction = server.respond(respond(number))
        if not extraction.follow_ups:
            return number, extraction
    pytest.fail(f"{MOST} pages did not end")


def page_of(number: int, pages: int = 3, **members: Any) -> dict[str, Any]:
    """Return a page of two records that always names a next one; from page `pages` on there is no full page."""
    rows = [{"id": number * 2}, {"id": number * 2 + 1}] if number < pages else []
    rows = [{"id": number * 2}] if number == pages else rows
    return {"data": rows, "next": f"?p={number + 1}", **members}


@pytest.mark.parametrize("paginator", [LINK, CURSOR], ids=["link", "cursor"])
@pytest.mark.parametrize(
    "end",
    [
        {"has_more": False},
        {"hasMore": "N"},
        {"meta": {"has_next": 0}},
        {"pagination": {"has_more_pages": "no"}},
        {"last": True},
        {"meta": {"is_last_page": "true"}},
        {"eof": True},
        {"isLastPage": 1},
        {"paging": {"end_reached": "yes"}},
        {"total": 5},
        {"meta": {"total_count": 5}},
        {"page": 3, "total_pages": 3},
        {"meta": {"current_page": 3, "last_page": 3}},
        {"remaining": 0},
        {"links": {"next": None}},
        {"next_cursor": ""},
    ],
    ids=str,
)
def test_a_stated_end_is_complete_at_the_first_empty_page(paginator: Paginator, end: dict[str, Any]) -> None:
    """The short last page states it, the empty one after it need not; at most one request is in vain."""
    number, last = read_all(Server(paginator), lambda n: page_of(n, **(end if n == 3 else {})))
    assert number == 4
    assert (last.incomplete, last.events) == ("", [])


def test_a_total_counts_the_records_of_all_pages() -> None:
    """It is reported on every page, and the pages divide it evenly."""
    number, last = read_all(Server(LINK), lambda n: page_of(n if n < 3 else 9, total=4))
    assert (number, last.incomplete) == (3, "")


def test_pages_of_a_total_for_this_page_only_are_followed() -> None:
    """`total: 2` beside two records may be the number of this page's records."""
    number, last = read_all(Server(LINK), lambda n: page_of(n, total=2) | ({"next": None} if n == 3 else {}))
    assert (number, last.incomplete) == (3, "")


@pytest.mark.parametrize(
    "value", [None, "", "null", "None", "NULL", "undefined", "-1", -1, 0, "0", False, "EOF", {}]
)
@pytest.mark.parametrize("paginator", [LINK, CURSOR], ids=["link", "cursor"])
def test_values_that_mean_nothing_follows(paginator: Paginator, value: Any) -> None:
    """They end the pagination at once."""
    server = Server(paginator)
    assert server.respond(page_of(1)).follow_ups
    extraction = server.respond({"data": [{"id": 9}], "next": value})
    assert (extraction.follow_ups, extraction.incomplete) == ([], "")


@pytest.mark.parametrize(
    "link", ["/x?cursor=null", "?after=&limit=2", "/x?page=undefined", "?page_token=None&q=a"]
)
def test_links_that_name_no_page(link: str) -> None:
    """Requesting them would return the first page again."""
    server = Server(LINK)
    assert server.respond(page_of(1)).follow_ups
    extraction = server.respond({"data": [{"id": 9}], "next": link})
    assert (extraction.follow_ups, extraction.incomplete) == ([], "")
    links = Server(Paginator("header_link"))
    assert links.respond({"data": [{"id": 9}]}, ("Link", f'<{link}>; rel="next"')).follow_ups == []


@pytest.mark.parametrize("value", ["null", "None", "", "0", "-1"])
def test_headers_that_mean_nothing_follows(value: str) -> None:
    """A locator in a header has no null."""
    for paginator in (
        Paginator("header_cursor", cursor_key="Sforce-Locator", cursor_param="locator"),
        Paginator("header_link", link_header="X-Next"),
    ):
        header = paginator.cursor_key or paginator.link_header
        server = Server(paginator)
        assert server.respond({"data": [{"id": 1}]}, (header, f"{BASE}/x?p=2")).follow_ups
        assert server.respond({"data": [{"id": 2}]}, (header, value)).follow_ups == []


@pytest.mark.parametrize("most", [1, 3, 6])
@pytest.mark.parametrize("paginator", ["json_link", "cursor", "header_cursor"])
def test_empty_pages_in_a_row_end_a_pagination_that_nothing_else_ends(paginator: str, most: int) -> None:
    """It is not known to be complete, and the line says so."""
    keys = {
        "json_link": {"next_url_path": "next"},
        "cursor": {"cursor_path": "next"},
        "header_cursor": {"cursor_key": "C"},
    }
    server = Server(Paginator(paginator, max_empty_pages=most, **keys[paginator]))  # type: ignore[arg-type]
    for number in range(1, MOST):
        body = page_of(number)
        last = server.respond(body, ("C", str(number)))
        if not last.follow_ups:
            break
    assert number == 3 + most
    assert "had no new record but a next page" in last.incomplete
    assert "max_empty_pages" in last.incomplete
    assert [event.split(":")[0] for event in last.events] == ["loop   r"]


@pytest.mark.parametrize("member", ["total", "count"])
def test_the_number_of_records_of_a_page_is_not_a_total(member: str) -> None:
    """It is 0 on an empty page, and small on a short one; more pages follow both."""
    sizes = [3, 1, 0, 3, 0, 2]

    def respond(number: int) -> dict[str, Any]:
        size = sizes[number - 1]
        rows = [{"id": number * 10 + row} for row in range(size)]
        return {"data": rows, member: size, "next": f"?p={number + 1}" if number < 6 else None}

    number, last = read_all(Server(LINK), respond)
    assert (number, last.incomplete) == (6, "")


def test_gaps_of_empty_pages_are_followed() -> None:
    """A page with records resets the count."""
    full = {1, 4, 7}
    number, last = read_all(
        Server(LINK),
        lambda n: {"data": [{"id": n}] if n in full else [], "next": f"?p={n + 1}" if n < 9 else None},
    )
    assert (number, last.incomplete) == (9, "")


@pytest.mark.parametrize("cycle", [1, 2, 5, 20, 31])
def test_pages_without_a_new_record_end_the_pagination(cycle: int) -> None:
    """Cursors are new each time, but the same pages return."""
    server = Server(CURSOR)
    for number in range(1, 200):
        last = server.respond(
            {"data": [{"id": number % cycle}, {"id": -(number % cycle)}], "next": f"c{number}"}
        )
        if not last.follow_ups:
            break
    assert number == cycle + 3
    assert "had no new record" in last.incomplete


def test_a_long_cycle_of_pages_is_found() -> None:
    """It is longer than the pages that the payload remembers."""
    server, cycle = Server(CURSOR), 100
    for number in range(1, 1000):
        last = server.respond({"data": [{"id": number % cycle}], "next": f"c{number}"})
        if not last.follow_ups:
            break
    assert number <= 3 * cycle
    assert "had no new record" in last.incomplete
    assert len(orjson.dumps(server.payload)) < 1000


def test_a_last_page_that_repeats_is_complete_if_it_is_stated() -> None:
    """The server answers every number beyond the end with its last page."""
    number, last = read_all(
        Server(LINK), lambda n: page_of(min(n, 3), has_more=n < 3) | {"next": f"?p={n + 1}"}
    )
    assert (number, last.incomplete, last.events) == (3, "", [])


def test_a_flag_that_changes_ends_the_pages_at_once() -> None:
    """It is about the pages then; a next link beside it may lead to an error, or to the first page again."""
    for flags in (("has_more", True, False), ("is_last", "N", "Y"), ("hasNext", 1, 0)):
        server = Server(CURSOR)
        assert server.respond({"data": [{"id": 1}], "next": "a", "meta": {flags[0]: flags[1]}}).follow_ups
        last = server.respond({"data": [{"id": 2}], "next": "b", "meta": {flags[0]: flags[2]}})
        assert (last.follow_ups, last.incomplete, last.events) == ([], "", [])


def test_a_later_page_without_a_list_is_empty() -> None:
    """It is not a record, although a first page without a list would be one."""
    server = Server(LINK, data_selector="")
    assert server.respond({"items": [{"id": 1}, {"id": 2}], "next": "?p=2"}).follow_ups
    for number in range(3, 6):
        last = server.respond({"items": None, "next": f"?p={number}"})
        assert last.items == []
    assert "3 pages in a row" in last.incomplete


def test_an_unchanged_cursor_of_an_empty_page_is_the_end() -> None:
    """Solr repeats the cursor mark that was sent."""
    server = Server(Paginator("cursor", cursor_path="nextCursorMark", cursor_param="cursorMark"))
    assert server.respond({"data": [{"id": 1}], "nextCursorMark": "A"}).follow_ups
    last = server.respond({"data": [], "nextCursorMark": "A"})
    assert (last.follow_ups, last.incomplete) == ([], "")


def test_an_empty_page_of_a_known_number_of_pages_is_followed() -> None:
    """The records of one page may be hidden from this user."""
    server = Server(Paginator("page_number", total_path="pages"))
    urls = server.requested_urls(*[{"data": [{"id": n}] if n != 2 else [], "pages": 4} for n in range(1, 9)])
    assert len(urls) == 4


def test_an_exclusive_cursor_goes_alone() -> None:
    """Only the cursor and the parameters to keep are sent; the rest of the address stays."""
    server = Server(
        Paginator("cursor", cursor_path="next", cursor_param="resumptionToken", exclusive=True),
        params={"verb": "ListRecords", "metadataPrefix": "oai_dc", "set": "a b"},
    )
    urls = server.requested_urls(
        *[{"data": [{"id": n}], "next": f"t{n}" if n < 3 else ""} for n in (1, 2, 3)]
    )
    assert urls == [
        "?verb=ListRecords&metadataPrefix=oai_dc&set=a%20b",
        "?verb=ListRecords&resumptionToken=t1",
        "?verb=ListRecords&resumptionToken=t2",
    ]


def test_a_link_with_a_body_changes_the_body() -> None:
    """STAC describes the whole next request."""
    server = Server(LINK, method="POST", json={"limit": 2})
    link = {"method": "POST", "href": f"{BASE}/x", "body": {"limit": 2, "token": "next:2"}}
    (task,) = server.respond({"data": [{"id": 1}], "next": link}).follow_ups
    assert orjson.loads(task.payload["body"]) == {"limit": 2, "token": "next:2"}


def test_a_link_with_another_method_is_followed() -> None:
    """A page of a GET may describe a POST, which has a body then, and the other way round."""
    server = Server(LINK)
    link = {"method": "POST", "href": f"{BASE}/y", "body": {"a": 1}}
    (task,) = server.respond({"data": [{"id": 1}], "next": link}).follow_ups
    assert (task.payload["method"], task.payload["url"], task.payload["body"]) == (
        "POST",
        f"{BASE}/y",
        '{"a":1}',
    )
    link = {"method": "get", "url": "/v1/z", "params": {"t": "2"}}
    (task,) = server.respond({"data": [{"id": 2}], "next": link}).follow_ups
    assert (task.payload["method"], task.payload["url"], task.payload["body"]) == (
        "GET",
        f"{BASE}/z?t=2",
        None,
    )


def test_a_link_never_changes_anything() -> None:
    """No server makes a scraper delete what it reads."""
    extraction = Server(LINK).respond({"data": [{"id": 1}], "next": {"method": "DELETE", "href": "/v1/x"}})
    assert extraction.follow_ups == []
    assert "describes a DELETE request" in extraction.incomplete


def test_a_body_replaces_the_one_before() -> None:
    """Only a link with `merge: true` adds to it."""
    for merge, body in ((False, {"token": "a"}), (True, {"q": 1, "token": "a"})):
        server = Server(LINK, method="POST", json={"q": 1})
        link = {"href": f"{BASE}/x", "body": {"token": "a"}, "merge": merge}
        (task,) = server.respond({"data": [{"id": 1}], "next": link}).follow_ups
        assert orjson.loads(task.payload["body"]) == body


def test_an_exclusive_cursor_goes_alone_in_a_body() -> None:
    """Other members of the body, or fields of the form, are left out, and so are parameters."""
    keys: dict[str, Any] = {"exclusive": True, "keep_params": ("action",), "cursor_body_path": "token"}
    for form in ("json", "data"):
        paginator = Paginator("cursor", cursor_path="next", **keys)
        body: dict[str, Any] = {form: {"action": "list", "since": "1"}}
        server = Server(paginator, method="POST", params={"a": 1}, **body)
        (task,) = server.respond({"data": [{"id": 1}], "next": "t"}).follow_ups
        assert task.payload["url"] == f"{BASE}/x"
        expected = '{"action":"list","token":"t"}' if form == "json" else "action=list&token=t"
        assert task.payload["body"] == expected


def cycling(
    pages: list[list[Any]], *, paginator: Paginator = CURSOR, key: tuple[str, ...] = ()
) -> tuple[int, Extraction]:
    """Return how many pages are requested of a server that sends these in turn, and the last extraction."""
    server = Server(paginator, key)
    for number in range(1, 2_000):
        extraction = server.respond({"data": pages[(number - 1) % len(pages)], "next": f"c{number}"})
        assert len(orjson.dumps(server.payload)) < 2_500
        if not extraction.follow_ups:
            break
    return number, extraction


def numbered(pages: int, size: int) -> list[list[Any]]:
    """Return pages of records with consecutive IDs."""
    return [[{"id": page * size + row} for row in range(size)] for page in range(pages)]


def test_records_that_come_back_in_another_order_are_not_new() -> None:
    """Pages may be shuffled or cut elsewhere, records may change, and any type of paginator may be used."""
    few = numbered(5, 20)
    shuffled = [random.Random(page).sample(few[page % 5], 20) for page in range(1_000)]
    assert cycling(shuffled)[0] == 5 + 3
    records = [record for page in few for record in page] * 8
    assert cycling([records[at : at + 16] for at in range(0, 800, 16)])[0] == 7 + 3
    changing = [[{**record, "seen_at": page} for record in few[page % 5]] for page in range(1_000)]
    assert cycling(changing, key=("id",))[0] == 5 + 3
    requests, end = cycling(shuffled, paginator=Paginator("page_number"))
    assert (requests, "3 pages in a row had no new record" in end.incomplete) == (8, True)


@pytest.mark.parametrize(("pages", "size"), [(10, 100), (200, 50), (30, 1_000)])
def test_large_cycles_are_found_by_a_sample(pages: int, size: int) -> None:
    """At most half of the records are read again before that is certain."""
    requests, end = cycling(numbered(pages, size))
    assert pages < requests <= 2 * pages + 5
    assert end.incomplete


def test_listings_that_go_on_are_never_cut() -> None:
    """Pages overlap by a half, by all but one record, or have the equal contents of measurements without a key."""
    half = [[{"id": page * 25 + row} for row in range(50)] for page in range(1_999)]
    assert cycling(half)[0] == 1_999
    most = [[{"id": page + row} for row in range(10)] for page in range(1_999)]
    assert cycling(most)[0] == 1_999
    gaps = [page if number % 3 else [] for number, page in enumerate(numbered(1_999, 5))]
    gaps = [page if number % 3 != 1 else [] for number, page in enumerate(gaps)]
    assert cycling(gaps)[0] == 1_999
    values = random.Random(1)
    equal = [[{"on": values.random() < 0.5} for _ in range(40)] for _ in range(1_999)]
    assert cycling(equal)[0] == 1_999


def test_the_value_of_the_last_record_is_never_an_end() -> None:
    """A user may be called None, and an ID may be -1."""
    paginator = Paginator("cursor", cursor_path="data[-1].name", cursor_param="after")
    for name in ("None", "End", "0", -1):
        assert Server(paginator).respond({"data": [{"name": name}]}).follow_ups, name


def test_a_page_behind_a_stated_end_may_be_missing() -> None:
    """The next link is followed since the flag may mean something else; a 404 is then the end."""
    server = Server(LINK)
    assert server.respond(page_of(1)).follow_ups
    assert "guess" not in server.payload["walk"]
    assert server.respond(page_of(2, has_more=False)).follow_ups
    assert server.payload["walk"]["guess"] is True
