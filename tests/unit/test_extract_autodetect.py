"""`paginator: auto` detects the paginator of the first response. The shapes are those of well-known APIs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson
import pytest
import yaml
from whole_page import extract

from scrapeq.expression import compile_template as template
from scrapeq.extract import PageExtractor
from scrapeq.page import Page
from scrapeq.plan import Client, Decoder, Endpoint, Paginator, Plan, Resource
from scrapeq.protocols import Extraction
from scrapeq.resource import first_tasks
from scrapeq.task import Group, NewTask

BASE = "https://api.test"
ROWS = [{"id": 1}, {"id": 2}]


class AutoServer:
    """A resource with `paginator: auto`, and the responses to it."""

    def __init__(self, path: str = "x", selector: str = "", **endpoint: Any) -> None:
        paginator = Paginator("auto", fan_out=endpoint.pop("fan_out", False))
        resource = Resource(
            "r",
            Endpoint(path=template(path), data_selector=selector, paginator=paginator, **endpoint),
        )
        plan = Plan("t", "t.yaml", client=Client(base_url=BASE), resources=(resource,))
        self.extractor = PageExtractor(plan, lambda *_: Group())
        (self.task,) = first_tasks(plan, lambda *_: Group(), 1.0)
        self.extraction = Extraction()

    def respond(self, body: Any, headers: dict[str, str] | None = None) -> str | None:
        """Return the URL of the next page without the host, after this response; None at the end."""
        payload = orjson.loads(orjson.dumps(self.task.payload))
        page = Page(payload["url"], 200, tuple((headers or {}).items()), orjson.dumps(body))
        self.extraction = extract(self.extractor, payload, 1.0, page)
        follow: list[NewTask] = self.extraction.follow_ups
        if not follow:
            return None
        self.task = follow[0]
        url: str = self.task.payload["url"]
        return url.removeprefix(BASE)


SHAPES: dict[str, list[dict[str, Any]]] = yaml.safe_load(
    (Path(__file__).parents[1] / "data" / "next_pages.yaml").read_text()
)


def shapes(kind: str) -> pytest.MarkDecorator:
    """Parametrize by the responses of this kind."""
    return pytest.mark.parametrize("shape", SHAPES[kind], ids=[shape["name"] for shape in SHAPES[kind]])


def body_of(shape: dict[str, Any], rows: list[Any] | None = None) -> Any:
    """Return the body of a shape, with records in it."""
    text = orjson.dumps(shape.get("body"))
    return orjson.loads(text.replace(b'"*"', orjson.dumps(rows or ROWS)))


@shapes("links")
def test_links_are_found(shape: dict[str, Any]) -> None:
    """The URL of the next page is found wherever APIs put it, reported once, and remembered."""
    server, body, headers = (
        AutoServer(selector=shape.get("selector", "")),
        body_of(shape),
        shape.get("headers"),
    )
    assert server.respond(body, headers) == shape["next"]
    assert [event for event in server.extraction.events if "detected pagination by" in event] != []
    assert server.task.payload["walk"]["auto"]["type"] in ("header_link", "json_link")
    server.respond(body, headers)
    assert not any(event.startswith("auto") for event in server.extraction.events)


@shapes("cursors")
def test_cursors_go_into_the_parameter_that_the_api_expects(shape: dict[str, Any]) -> None:
    """The parameter belongs to the name of the cursor, or is already in the request."""
    server = AutoServer(selector=shape.get("selector", ""), params=shape.get("params", {}))
    assert server.respond(body_of(shape), shape.get("headers")) == shape["next"]


@shapes("numbers")
def test_numbered_pages_end_with_the_last_one(shape: dict[str, Any]) -> None:
    """Pages are numbered, or offsets counted, from 0 or 1 to the reported end."""
    server = AutoServer(selector=shape.get("selector", ""), params=shape.get("params", {}))
    urls: list[str | None] = []
    for number in range(len(shape["pages"])):
        body = body_of(shape, [{"id": number}, {"id": -number}])
        for node in (body, body.get("pagination", {})) if isinstance(body, dict) else ():
            for own in {"page", "current_page", "number"} & node.keys():
                node[own] += number
        urls.append(server.respond(body, shape.get("headers")))
    assert urls == shape["pages"]


@shapes("whole")
def test_a_complete_response_has_no_next_page(shape: dict[str, Any]) -> None:
    """An event is not reported, either."""
    server = AutoServer(params=shape.get("params", {}))
    assert server.respond(body_of(shape), shape.get("headers")) is None
    assert server.extraction.events == []


@pytest.mark.parametrize(
    ("body", "headers", "why"),
    [
        ({"total": 50, "items": ROWS}, {}, "the response reports 50 records but has 2"),
        ({"count": 50, "items": ROWS}, {}, "the response reports 50 records but has 2"),
        (ROWS, {"X-Total-Count": "50"}, "the response reports 50 records but has 2"),
        ({"items": ROWS, "has_more": True}, {}, "has_more reports more records"),
        ({"items": ROWS, "meta": {"isLast": False}}, {}, "meta.isLast reports more records"),
        ({"items": ROWS, "nextKey": "abc"}, {}, "nextKey may point to a next page"),
        ({"items": ROWS, "next": "abc", "total": 2}, {}, "next may point to a next page"),
        ({"items": ROWS, "next": {"at": {"id": 2}}}, {}, "next may point to a next page"),
        ({"items": ROWS, "next": [1, 2]}, {}, "next may point to a next page"),
        ({"items": ROWS, "nextKey": {"id": 2}}, {}, "nextKey may point to a next page"),
        (
            {"Items": ROWS, "LastEvaluatedKey": {"id": {"S": "2"}}},
            {},
            "LastEvaluatedKey may point to a next page",
        ),
        ({"_scroll_id": "abc", "hits": ROWS}, {}, "_scroll_id may point to a next page"),
        ({"items": ROWS, "more": "yes"}, {}, "more reports more records"),
        ({"items": ROWS, "next": True}, {}, "next reports more records"),
    ],
)
def test_an_incomplete_response_is_reported(body: Any, headers: dict[str, str], why: str) -> None:
    """An event gives the reason; nothing is guessed."""
    server = AutoServer()
    assert server.respond(body, headers) is None
    event = f"auto   r: {why}, but it is unknown how to request the next page; set `paginator`"
    assert server.extraction.events == [event]


def test_a_full_page_without_signals_is_reported() -> None:
    """The page has as many records as requested and no sign of more: the user must configure it."""
    server = AutoServer(params={"_limit": 2})
    assert server.respond({"data": ROWS}) is None
    (line,) = server.extraction.events
    assert line.startswith("auto   r: the response has as many records as requested (2) and does not report")


@pytest.mark.parametrize(
    "endpoint",
    [
        {"json": {"page": {"size": 2}}},
        {"json": {"query": "{a}", "variables": {"first": 2}}},
        {"data": {"limit": "2"}},
    ],
    ids=str,
)
def test_a_full_page_whose_size_is_in_the_body_is_reported(endpoint: dict[str, Any]) -> None:
    """As one whose size is a parameter."""
    server = AutoServer(method="POST", **endpoint)
    assert server.respond({"rows": ROWS}) is None
    assert "the response has as many records as requested (2)" in server.extraction.incomplete


@pytest.mark.parametrize(
    ("sizes", "incomplete"), [((2, 2), True), ((2, 2, 1), False), ((2, 2, 2), False), ((2, 1), True)]
)
def test_a_total_that_is_not_reached_is_reported(sizes: tuple[int, ...], incomplete: bool) -> None:
    """A missing page is; one record that is missing at a stated end may have been deleted."""
    server = AutoServer()
    for number, size in enumerate(sizes, 1):
        link = f"{BASE}/x?page={number + 1}" if number < len(sizes) else None
        rows = [{"id": 10 * number + index} for index in range(size)]
        server.respond({"total": 6, "items": rows, "next": link})
    reason = f"the response reports 6 records, but the pages had {sum(sizes)}"
    assert (reason in server.extraction.incomplete) == incomplete
    assert bool(server.extraction.incomplete) == incomplete


def test_a_total_that_is_not_reached_counts_every_record_if_no_end_is_stated() -> None:
    """The link is just missing."""
    server = AutoServer()
    assert server.respond({"total": 3, "items": ROWS[:1], "next": f"{BASE}/x?page=2"})
    assert server.respond({"total": 3, "items": ROWS[1:]}) is None
    assert "the response reports 3 records, but the pages had 2" in server.extraction.incomplete


def test_a_key_that_is_an_object_goes_into_a_json_body() -> None:
    """DynamoDB."""
    server = AutoServer("x", "Items", method="POST", json={"TableName": "t"})
    key = {"id": {"S": "2"}}
    assert server.respond({"Items": ROWS, "LastEvaluatedKey": key}) == "/x"
    assert orjson.loads(server.task.payload["body"]) == {"TableName": "t", "ExclusiveStartKey": key}


ATOM = b"""<feed xmlns="http://www.w3.org/2005/Atom"><link rel="self" href="/x"/>
<link rel="next" href="https://api.test/x?p=2"/><entry><id>1</id></entry><entry><id>2</id></entry></feed>"""
RSS = b"""<rss xmlns:atom="http://www.w3.org/2005/Atom"><channel><atom:link rel="next" href="https://api.test/x?p=2"/>
<item><id>1</id></item><item><id>2</id></item></channel></rss>"""
OAI = b"""<OAI-PMH><ListRecords><record><id>1</id></record><record><id>2</id></record>
<resumptionToken completeListSize="4" cursor="0">t1</resumptionToken></ListRecords></OAI-PMH>"""
PLAIN = b"<response><items><item>1</item><item>2</item></items><next>https://api.test/x?p=2</next></response>"


@pytest.mark.parametrize(
    ("body", "selector", "url"),
    [
        (ATOM, "feed.entry", "/x?p=2"),
        (RSS, "rss.channel.item", "/x?p=2"),
        (PLAIN, "response.items.item", "/x?p=2"),
        (OAI, '"OAI-PMH".ListRecords.record', "/x?verb=ListRecords&resumptionToken=t1"),
    ],
    ids=["Atom", "RSS", "an element", "OAI-PMH"],
)
def test_links_and_tokens_in_xml_are_found(body: bytes, selector: str, url: str) -> None:
    """The token of OAI-PMH excludes all other parameters but the verb."""
    server = AutoServer("x", selector, decoder=Decoder("xml"), params={"verb": "ListRecords", "prefix": "p"})
    page = Page(server.task.payload["url"], 200, (("Content-Type", "text/xml"),), body)
    (task,) = extract(server.extractor, server.task.payload, 1.0, page).follow_ups
    assert task.payload["url"].removeprefix(BASE) == url


def test_a_page_number_in_the_request_is_increased_until_a_page_is_empty() -> None:
    """Only the parameter shows that there are pages; a repeated page ends the pagination, too."""
    server = AutoServer(params={"page": 1, "per_page": 2})
    assert server.respond(ROWS) == "/x?page=2&per_page=2"
    assert server.respond([{"id": 3}]) == "/x?page=3&per_page=2"
    assert server.respond([]) is None
    ignoring_server = AutoServer(params={"page": 1})
    assert ignoring_server.respond(ROWS) == "/x?page=2"
    assert ignoring_server.respond(ROWS) is None
    (event,) = ignoring_server.extraction.events
    assert event.startswith("loop   r: page 2 repeats the records of the page before; pagination stopped")
    assert ignoring_server.extraction.incomplete in event


def test_pagination_stops_if_the_server_ignores_a_guessed_parameter() -> None:
    """A repeated page is the end whatever total the server reports, and an event says so."""
    server = AutoServer(params={"limit": 2})
    assert server.respond({"total": 500, "items": ROWS}) == "/x?limit=2&offset=2"
    assert server.respond({"total": 500, "items": ROWS}) is None
    (event,) = server.extraction.events
    assert event.startswith("loop   r: page 2 repeats the records of the page before; pagination stopped")
    assert server.extraction.incomplete in event


def test_an_empty_second_page_that_contradicts_the_total_is_reported() -> None:
    """A server that takes the guessed parameter for a filter finds nothing."""
    server = AutoServer(params={"limit": 2})
    assert server.respond({"total": 500, "items": ROWS}) == "/x?limit=2&offset=2"
    assert server.respond({"total": 0, "items": []}) is None
    assert server.extraction.events == [
        "auto   r: page 2 is empty, but page 1 reported more records; set `paginator`"
    ]


def test_a_cursor_goes_into_the_body_of_a_post() -> None:
    """It becomes a member of a JSON body, a field of a form, or a variable of a GraphQL query."""
    server = AutoServer(method="POST", json={"page_size": 2})
    server.respond({"object": "list", "results": ROWS, "next_cursor": "C", "has_more": True})
    assert orjson.loads(server.task.payload["body"]) == {"page_size": 2, "start_cursor": "C"}
    server = AutoServer(method="POST", data={"limit": 2})
    server.respond({"items": ROWS, "nextPageToken": "T+"})
    assert server.task.payload["body"] == "limit=2&pageToken=T%2B"
    query = "query($n: Int, $cursor: String) { users(first: $n, after: $cursor) { nodes { id } } }"
    server = AutoServer(
        method="POST", json={"query": query, "variables": {"n": 2}}, selector="data.users.nodes"
    )
    users = {"nodes": ROWS, "pageInfo": {"hasNextPage": True, "endCursor": "E"}}
    server.respond({"data": {"users": users}})
    assert orjson.loads(server.task.payload["body"])["variables"] == {"n": 2, "cursor": "E"}
    users["pageInfo"] = {"hasNextPage": False, "endCursor": "F"}
    before = server.task
    server.respond({"data": {"users": users}})
    assert server.task is before


def test_a_graphql_connection_is_found_without_a_selector() -> None:
    """Its nodes are the records, under `nodes` or `edges`, also a level deeper; the query declares the cursor."""
    query = (
        "query($cursor: String) { repository { issues(first: 2, after: $cursor) { edges { node { id } } } } }"
    )
    server = AutoServer(method="POST", json={"query": query})
    issues = {"edges": [{"node": row} for row in ROWS], "pageInfo": {"hasNextPage": True, "endCursor": "E"}}
    server.respond({"data": {"repository": {"issues": issues}}})
    assert [item.record for item in server.extraction.items] == ROWS
    assert orjson.loads(server.task.payload["body"])["variables"] == {"cursor": "E"}


def test_links_keep_the_json_suffix_of_the_request() -> None:
    """Discourse serves its API under the URLs of its pages with `.json`, but links to the pages."""
    server = AutoServer(path="latest.json", selector="topic_list.topics")
    body = {"topic_list": {"more_topics_url": "/latest?no_definitions=true&page=1", "topics": ROWS}}
    assert server.respond(body) == "/latest.json?no_definitions=true&page=1"


def test_fan_out_uses_the_detected_page_count() -> None:
    """`fan_out` works with what `auto` finds."""
    server = AutoServer(fan_out=True)
    server.respond({"page": 1, "total_pages": 4, "items": ROWS})
    urls = [task.payload["url"] for task in server.extraction.follow_ups]
    assert urls == [f"{BASE}/x?page={number}" for number in (2, 3, 4)]


def test_object_cursors_go_into_the_body_of_a_post() -> None:
    """Sort values of a search, and the members of an object; members that only one page had do not stay."""
    server = AutoServer(selector="hits.hits", method="POST", json={"size": 2, "sort": [{"day": "asc"}]})
    hits = [{"_id": "1", "sort": [1, "a"]}, {"_id": "2", "sort": [2, "b"]}]
    server.respond({"took": 1, "hits": {"total": {"value": 10_000, "relation": "gte"}, "hits": hits}})
    assert orjson.loads(server.task.payload["body"])["search_after"] == [2, "b"]
    server = AutoServer(method="POST", json={"size": 2})
    server.respond({"items": ROWS, "next_search_after": [7]})
    assert orjson.loads(server.task.payload["body"]) == {"size": 2, "search_after": [7]}
    server = AutoServer(method="POST", json={"limit": 2})
    server.respond({"items": ROWS, "next": {"page": 2, "key": "k"}})
    assert orjson.loads(server.task.payload["body"]) == {"limit": 2, "page": 2, "key": "k"}
    server.respond({"items": [{"id": 3}], "next": {"page": 3}})
    assert orjson.loads(server.task.payload["body"]) == {"limit": 2, "page": 3}


@pytest.mark.parametrize(
    "more",
    [
        {"next": {"a": {"b": 1}}},
        {"paging": {"cursor": {"k": 1}}},
        {"search_after": [1, 2]},
        {"pageToken": "t"},
        {"LastEvaluatedKey": {"id": {"S": "2"}}},
        {"meta": {"links": [{"self": "/x"}, {"next": "/x?p=2"}]}},
    ],
)
def test_a_next_page_in_an_unknown_form_is_reported(more: Any) -> None:
    """A GET cannot take the value, or the place of the link may differ on the next page."""
    server = AutoServer()
    assert server.respond({"items": ROWS, **more}) is None
    assert "may point to a next page" in server.extraction.incomplete


def test_a_link_header_that_cannot_be_read_is_reported() -> None:
    """Its relation is known, but its target is not."""
    server = AutoServer()
    assert server.respond(ROWS, {"Link": "{next-page}; rel=next"}) is None
    assert "the Link header names a next page" in server.extraction.incomplete


@pytest.mark.parametrize(
    ("xml", "following"),
    [
        ("<f:feed xmlns:f='a'><f:link rel='next' href='/x?p=2'/><f:entry/><f:entry/></f:feed>", "/x?p=2"),
        ("<r><next>/x?p=2</next><item><id>1</id></item></r>", "/x?p=2"),
        ("<r><page>1</page><total_pages>3</total_pages><item><id>1</id></item></r>", "/x?page=2"),
        (
            "<ListBucketResult><IsTruncated>true</IsTruncated><NextContinuationToken>t</NextContinuationToken>"
            "<Contents/><Contents/></ListBucketResult>",
            "/x?continuation-token=t",
        ),
        (
            "<o:L xmlns:o='q'><o:rec/><o:rec/><o:resumptionToken>t</o:resumptionToken></o:L>",
            "/x?resumptionToken=t",
        ),
    ],
)
def test_next_pages_in_xml_are_followed(xml: str, following: str) -> None:
    """In elements and attributes, with and without a prefix."""
    selectors = {"f:": '"f:feed"."f:entry"', "o:": '"o:L"."o:rec"', "Li": "ListBucketResult.Contents"}
    server = AutoServer(selector=selectors.get(xml[1:3], "r.item"))
    page = Page(f"{BASE}/x", 200, (("Content-Type", "text/xml"),), xml.encode())
    extraction = extract(server.extractor, server.task.payload, 1.0, page)
    assert [task.payload["url"] for task in extraction.follow_ups] == [BASE + following]
