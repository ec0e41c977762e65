"""`auto`: the right paginator on the first answer, or why there is none. Shapes are those of well-known APIs."""

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
from scrapeq.plan import Client, Endpoint, Paginator, Plan, Resource
from scrapeq.protocols import Extraction
from scrapeq.resource import first_tasks
from scrapeq.task import Group, NewTask

BASE = "https://api.test"
ROWS = [{"id": 1}, {"id": 2}]


class Auto:
    """A resource that says nothing of its pages."""

    def __init__(self, path: str = "x", selector: str = "", **endpoint: Any) -> None:
        paginator = Paginator("auto", fan_out=endpoint.pop("fan_out", False))
        resource = Resource(
            "r",
            Endpoint(path=template(path), data_selector=selector, paginator=paginator, **endpoint),
        )
        plan = Plan("t", "t.yaml", client=Client(base_url=BASE), resources=(resource,))
        self.extractor = PageExtractor(plan, lambda *_: Group())
        (self.task,) = first_tasks(plan, lambda *_: Group(), 1.0)
        self.found = Extraction()

    def answer(self, body: Any, headers: dict[str, str] | None = None) -> str | None:
        """The next page's address without the host, after this answer; None at the end."""
        payload = orjson.loads(orjson.dumps(self.task.payload))
        page = Page(payload["url"], 200, tuple((headers or {}).items()), orjson.dumps(body))
        self.found = extract(self.extractor, payload, 1.0, page)
        follow: list[NewTask] = self.found.follow_ups
        if not follow:
            return None
        self.task = follow[0]
        url: str = self.task.payload["url"]
        return url.removeprefix(BASE)


SHAPES: dict[str, list[dict[str, Any]]] = yaml.safe_load(
    (Path(__file__).parents[1] / "data" / "next_pages.yaml").read_text()
)


def shapes(kind: str) -> pytest.MarkDecorator:
    """The answers of this kind, by name."""
    return pytest.mark.parametrize("shape", SHAPES[kind], ids=[shape["name"] for shape in SHAPES[kind]])


def body_of(shape: dict[str, Any], rows: list[Any] | None = None) -> Any:
    """Its body with records in it."""
    text = orjson.dumps(shape.get("body"))
    return orjson.loads(text.replace(b'"*"', orjson.dumps(rows or ROWS)))


@shapes("links")
def test_links_are_found(shape: dict[str, Any]) -> None:
    """Wherever APIs put the next page's address; said once, and remembered."""
    auto, body, headers = Auto(selector=shape.get("selector", "")), body_of(shape), shape.get("headers")
    assert auto.answer(body, headers) == shape["next"]
    assert [event for event in auto.found.events if "the next page is found by" in event] != []
    assert auto.task.payload["walk"]["auto"]["type"] in ("header_link", "json_link")
    auto.answer(body, headers)
    assert not any(event.startswith("auto") for event in auto.found.events)


@shapes("cursors")
def test_cursors_are_sent_back_as_the_api_takes_them(shape: dict[str, Any]) -> None:
    """With the parameter that belongs to each name, or the one that the request has."""
    auto = Auto(selector=shape.get("selector", ""), params=shape.get("params", {}))
    assert auto.answer(body_of(shape), shape.get("headers")) == shape["next"]


@shapes("numbers")
def test_numbers_go_on_to_the_last_page(shape: dict[str, Any]) -> None:
    """By page or by offset, from 0 or 1, to the end that is told."""
    auto = Auto(selector=shape.get("selector", ""), params=shape.get("params", {}))
    seen: list[str | None] = []
    for number in range(len(shape["pages"])):
        answered = body_of(shape, [{"id": number}, {"id": -number}])
        for node in (answered, answered.get("pagination", {})) if isinstance(answered, dict) else ():
            for own in {"page", "current_page", "number"} & node.keys():
                node[own] += number
        seen.append(auto.answer(answered, shape.get("headers")))
    assert seen == shape["pages"]


@shapes("whole")
def test_a_whole_answer_is_left_alone(shape: dict[str, Any]) -> None:
    """No next page, and not a word."""
    auto = Auto(params=shape.get("params", {}))
    assert auto.answer(body_of(shape), shape.get("headers")) is None
    assert auto.found.events == []


@pytest.mark.parametrize(
    ("body", "headers", "why"),
    [
        ({"total": 50, "items": ROWS}, {}, "the answer speaks of 50 records and has 2"),
        ({"count": 50, "items": ROWS}, {}, "the answer speaks of 50 records and has 2"),
        (ROWS, {"X-Total-Count": "50"}, "the answer speaks of 50 records and has 2"),
        ({"items": ROWS, "has_more": True}, {}, "has_more says that there is more"),
        ({"items": ROWS, "meta": {"isLast": False}}, {}, "meta.isLast says that there is more"),
        ({"items": ROWS, "nextKey": "abc"}, {}, "nextKey seems to lead on"),
        ({"items": ROWS, "next": "abc", "total": 2}, {}, "next seems to lead on"),
    ],
)
def test_an_answer_that_looks_incomplete_is_told(body: Any, headers: dict[str, str], why: str) -> None:
    """Where the next page cannot be known, a line says why; it is no guess."""
    auto = Auto()
    assert auto.answer(body, headers) is None
    assert auto.found.events == [f"auto   r: {why}, but not how to ask for it; name a paginator"]


def test_a_full_page_that_says_nothing_is_told() -> None:
    """As many records as were asked for, and not a sign of more: a person must say what it is."""
    auto = Auto(params={"_limit": 2})
    assert auto.answer({"data": ROWS}) is None
    (line,) = auto.found.events
    assert line.startswith("auto   r: the answer has as many records as were asked for (2), and does not say")


def test_a_request_that_asks_for_a_page_is_numbered_until_one_is_empty() -> None:
    """Nothing but the parameter speaks of pages; a page that comes twice ends it, too."""
    auto = Auto(params={"page": 1, "per_page": 2})
    assert auto.answer(ROWS) == "/x?page=2&per_page=2"
    assert auto.answer([{"id": 3}]) == "/x?page=3&per_page=2"
    assert auto.answer([]) is None
    deaf = Auto(params={"page": 1})
    assert deaf.answer(ROWS) == "/x?page=2"
    assert deaf.answer(ROWS) is None
    assert deaf.found.events == ["loop   r: page 2 is the page before it once more; the walk ends there"]


def test_a_guess_that_the_server_does_not_know_ends_at_once() -> None:
    """Whatever total it tells: the same page once more is the end, and a line says so."""
    auto = Auto(params={"limit": 2})
    assert auto.answer({"total": 500, "items": ROWS}) == "/x?limit=2&offset=2"
    assert auto.answer({"total": 500, "items": ROWS}) is None
    assert auto.found.events == ["loop   r: page 2 is the page before it once more; the walk ends there"]


def test_a_second_page_that_is_empty_against_the_total_is_told() -> None:
    """A server that takes the guessed parameter for a filter finds nothing; that is no end of a list."""
    auto = Auto(params={"limit": 2})
    assert auto.answer({"total": 500, "items": ROWS}) == "/x?limit=2&offset=2"
    assert auto.answer({"total": 0, "items": []}) is None
    assert auto.found.events == [
        "auto   r: page 2 is empty, though the first answer told of more; name a paginator"
    ]


def test_a_cursor_goes_into_the_body_of_a_post() -> None:
    """A JSON body's own member, a form's field, a variable of a GraphQL query."""
    auto = Auto(method="POST", json={"page_size": 2})
    auto.answer({"object": "list", "results": ROWS, "next_cursor": "C", "has_more": True})
    assert orjson.loads(auto.task.payload["body"]) == {"page_size": 2, "start_cursor": "C"}
    auto = Auto(method="POST", data={"limit": 2})
    auto.answer({"items": ROWS, "nextPageToken": "T+"})
    assert auto.task.payload["body"] == "limit=2&pageToken=T%2B"
    query = "query($n: Int, $cursor: String) { users(first: $n, after: $cursor) { nodes { id } } }"
    auto = Auto(method="POST", json={"query": query, "variables": {"n": 2}}, selector="data.users.nodes")
    users = {"nodes": ROWS, "pageInfo": {"hasNextPage": True, "endCursor": "E"}}
    auto.answer({"data": {"users": users}})
    assert orjson.loads(auto.task.payload["body"])["variables"] == {"n": 2, "cursor": "E"}
    users["pageInfo"] = {"hasNextPage": False, "endCursor": "F"}
    before = auto.task
    auto.answer({"data": {"users": users}})
    assert auto.task is before


def test_a_graphql_connection_is_found_where_nobody_said_where() -> None:
    """Its nodes are the records, by `nodes` or by `edges`, also a level deeper; the cursor is the variable's."""
    query = (
        "query($cursor: String) { repository { issues(first: 2, after: $cursor) { edges { node { id } } } } }"
    )
    auto = Auto(method="POST", json={"query": query})
    issues = {"edges": [{"node": row} for row in ROWS], "pageInfo": {"hasNextPage": True, "endCursor": "E"}}
    auto.answer({"data": {"repository": {"issues": issues}}})
    assert [item.record for item in auto.found.items] == ROWS
    assert orjson.loads(auto.task.payload["body"])["variables"] == {"cursor": "E"}


def test_the_suffix_of_the_request_stays() -> None:
    """A site whose API is its pages with `.json` behind them names the pages in its links."""
    auto = Auto(path="latest.json", selector="topic_list.topics")
    body = {"topic_list": {"more_topics_url": "/latest?no_definitions=true&page=1", "topics": ROWS}}
    assert auto.answer(body) == "/latest.json?no_definitions=true&page=1"


def test_pages_are_asked_for_at_once_where_their_count_was_found() -> None:
    """`fan_out` works with what `auto` finds."""
    auto = Auto(fan_out=True)
    auto.answer({"page": 1, "total_pages": 4, "items": ROWS})
    urls = [task.payload["url"] for task in auto.found.follow_ups]
    assert urls == [f"{BASE}/x?page={number}" for number in (2, 3, 4)]
