"""Extraction of a page into items and follow-ups."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson
import pytest
from whole_page import extract

from scrapeq.errors import UsageError
from scrapeq.expression import compile_expression as expression
from scrapeq.expression import compile_template as template
from scrapeq.extract import PageExtractor
from scrapeq.page import Page
from scrapeq.plan import Client, Endpoint, Parent, Plan, Resource
from scrapeq.protocols import Extraction
from scrapeq.resource import TaskBuilder
from scrapeq.task import Group, NewTask

ISSUE = {"id": 7, "number": 3, "comments": 2, "at": "2025-01-02T00:00:00Z", "labels": [{"name": "bug"}, None]}


def group_of(resource: str, method: str, url: str, seed: Mapping[str, Any], parent: Any) -> Group:
    """Return one group per resource."""
    return Group(resource)


class Scrape:
    """A plan, and one task of one of its resources."""

    def __init__(self, *resources: Resource, seed: Mapping[str, Any] | None = None) -> None:
        self.plan = Plan("t", "t.yaml", client=Client(base_url="https://api.test"), resources=resources)
        self.extractor = PageExtractor(self.plan, group_of)
        builder = TaskBuilder(self.plan, group_of)
        self.task = builder.from_url(resources[0], "https://api.test/x", 50.0, 0.0, seed or {"s": 1})

    def respond(self, body: Any, task: NewTask | None = None, kind: str = "application/json") -> Extraction:
        """Return the extraction of a response to the task; a body of bytes is used unchanged."""
        task = task or self.task
        raw = body if isinstance(body, bytes) else orjson.dumps(body)
        page = Page(task.payload["url"], 200, (("Content-Type", kind), ("X-Id", "h")), raw)
        return extract(self.extractor, orjson.loads(orjson.dumps(task.payload)), task.priority, page)


def issues(**more: Any) -> Resource:
    """Return the first resource of most tests."""
    return Resource("issues", Endpoint(path=template("x")), **more)


def urls(extraction: Extraction) -> list[str]:
    """Return the URLs of the follow-ups, without the host."""
    return [task.payload["url"].removeprefix("https://api.test") for task in extraction.follow_ups]


def test_records_become_items_in_their_order() -> None:
    """Nulls are skipped, scalars are written as a value."""
    extraction = Scrape(issues(primary_key=("id",))).respond([{"id": 2}, None, {"id": "x"}, 5])
    assert [(item.resource, item.record) for item in extraction.items] == [
        ("issues", {"id": 2}),
        ("issues", {"id": "x"}),
        ("issues", {"value": 5}),
    ]
    assert [item.key for item in extraction.items][:2] == ["2", "x"]


def test_fields_are_paths_or_expressions() -> None:
    """A path that selects nothing is null; an expression reads record, parent, seed, headers and the page."""
    fields: dict[str, Any] = {
        "number": "number",
        "label": "labels[0].name",
        "names": "$.labels[*].name",
        "none": "a.b",
        "day": expression("date(record.at, '%Y-%m-%d')"),
        "all": expression("[seed.s, header('x-id'), length(records), depth, page, resource, status]"),
        "huge": expression("record.id * 100000000000000000000"),
        "head": expression("header"),
    }
    (item,) = Scrape(issues(fields=fields)).respond([ISSUE]).items
    assert item.record == {
        "number": 3,
        "label": "bug",
        "names": ["bug"],
        "none": None,
        "day": "2025-01-02",
        "all": [1, "h", 1, 0, 1, "issues", 200],
        "huge": "700000000000000000000",
        "head": None,
    }
    assert orjson.loads(orjson.dumps(item.record)) == item.record


def test_a_filter_drops_the_record_and_what_follows_from_it() -> None:
    """The record is neither written nor followed."""
    child = Resource("c", Endpoint(path=template("c/${parent.id}")), parents=(Parent("issues"),))
    extraction = Scrape(issues(record_filter=expression("not record.locked")), child).respond(
        [{"id": 1, "locked": True}, {"id": 2}]
    )
    assert ([item.record for item in extraction.items], urls(extraction)) == ([{"id": 2}], ["/c/2"])


@pytest.mark.parametrize(
    ("primary_key", "record", "key"),
    [
        (("id",), {"id": 1}, "1"),
        (("id",), {"id": "a b"}, "a b"),
        (("id",), {"id": False}, "false"),
        (("id",), {"id": {"b": 1, "a": 2}}, '{"b":1,"a":2}'),
        (("a", "b"), {"a": 1, "b": "x"}, '[1,"x"]'),
        (("a", "b"), {"b": "x"}, '[null,"x"]'),
        (("user.id",), {"user": {"id": 4}}, "4"),
        (("user.id",), {"user.id": 5, "user": {"id": 4}}, "5"),
        (("x-id",), {"x-id": 6}, "6"),
    ],
)
def test_the_primary_key_is_the_items_identity(primary_key: tuple[str, ...], record: Any, key: str) -> None:
    """It is a field or a path; several values are joined as a JSON list, so different keys are never equal as text."""
    (item,) = Scrape(issues(primary_key=primary_key)).respond([record]).items
    assert item.key == key


def test_without_a_primary_key_the_content_is_the_identity() -> None:
    """The order of members is irrelevant, values are not; a null key counts as missing."""
    first, second, third = (
        Scrape(issues()).respond([{"a": 1, "b": 2}, {"b": 2, "a": 1}, {"a": 1, "b": 3}]).items
    )
    assert second.key == f"{first.key} #2"  # equal lines of one page are two records
    assert third.key[:32] != first.key
    (keyless,) = Scrape(issues(primary_key=("id",))).respond([{"id": None, "a": 1, "b": 2}]).items
    assert len(keyless.key) == len(first.key) == 32


def test_a_primary_key_may_be_an_unwritten_field_or_one_of_the_parent() -> None:
    """The record's fields and the included ones count as well as the written ones."""
    inside = Resource(
        "labels",
        None,
        parents=(Parent("issues", each="labels"),),
        fields={"n": "name"},
        include_from_parent=("number", "none"),
        primary_key=("_issues_number", "name"),
    )
    _, label = Scrape(issues(), inside).respond([ISSUE]).items
    assert (label.record, label.key) == ({"n": "bug", "_issues_number": 3, "_issues_none": None}, '[3,"bug"]')


@pytest.mark.parametrize("selected", [True, False])
def test_children_read_the_configured_fields(selected: bool) -> None:
    """Each level of a tree passes its path on to the next one; the server's fields have precedence."""
    entries = Resource(
        "entries",
        Endpoint(path=template("t/${segments(parent.path)}/")),
        parents=(Parent("entries", when=expression("parent.type == 'd'")),),
        fields={"path": expression("default(parent.path, 't') + '/' + record.name"), "type": "name"},
        selected=selected,
    )
    scrape = Scrape(entries)
    extraction = scrape.respond([{"name": "a b", "type": "d"}, {"name": "c", "type": "f"}])
    assert urls(extraction) == ["/t/t/a%20b/"]
    deeper = scrape.respond([{"name": "e#", "type": "d"}], extraction.follow_ups[0])
    assert urls(deeper) == ["/t/t/a%20b/e%23/"]
    assert [item.record["path"] for item in deeper.items] == ["t/a b/e#"] * selected


def test_children_follow_with_their_parent_in_order() -> None:
    """A child is requested once per record if `when` is true, with the fields of the parent that expressions read."""
    comments = Resource(
        "comments",
        Endpoint(path=template("r/${seed.s}/${parent.number}/c")),
        parents=(Parent("issues", when=expression("parent.comments > 0"), priority=expression("parent.at")),),
        include_from_parent=("number",),
    )
    scrape = Scrape(issues(selected=False), comments)
    extraction = scrape.respond([ISSUE, {"number": 4, "comments": 0}, {"number": 5, "comments": 1}])
    assert extraction.items == []
    assert urls(extraction) == ["/r/1/3/c", "/r/1/5/c"]
    assert [task.priority for task in extraction.follow_ups] == [1735776000.0, 50.0]
    assert extraction.follow_ups[0].group == Group("comments")
    extraction = scrape.respond([{"id": 1}], extraction.follow_ups[0])
    assert extraction.items[0].record == {"id": 1, "_issues_number": 3}


@pytest.mark.parametrize(
    ("edge", "resource", "priority"),
    [
        ("parent.id", "record.number", 7.0),
        ("parent.none", "record.number", 3.0),
        (None, "record.number", 3.0),
    ],
)
def test_the_priority_of_the_edge_precedes_that_of_the_resource(
    edge: str | None, resource: str, priority: float
) -> None:
    """The first of them that is a number applies."""
    parent = Parent("issues", priority=expression(edge) if edge else None)
    child = Resource("c", Endpoint(path=template("c")), parents=(parent,))
    (task,) = Scrape(issues(priority=expression(resource)), child).respond([ISSUE]).follow_ups
    assert task.priority == priority


def test_children_with_invalid_requests_are_counted_as_skipped() -> None:
    """One bad record affects neither the page nor the other records."""
    by_path = Resource("p", Endpoint(path=template("p/${parent.id}")), parents=(Parent("issues"),))
    by_url = Resource("u", Endpoint(url=template("${parent.link}")), parents=(Parent("issues"),))
    extraction = Scrape(issues(), by_path, by_url).respond(
        [{"id": None, "link": "https://b.test/1"}, {"id": 2, "link": "mailto:x"}, {"id": 3}]
    )
    assert urls(extraction) == ["https://b.test/1", "/p/2", "/p/3"]
    assert extraction.skipped == 3


def test_nested_records_need_no_request() -> None:
    """Elements of `each` at any depth; `parent` is the record around them; requests may follow from them."""
    lines = Resource(
        "lines",
        None,
        parents=(Parent("issues", each="lines", when=expression("parent.paid and record.n != 2")),),
        include_from_parent=("id",),
        fields={"n": "n", "order": expression("parent.id")},
    )
    parts = Resource("parts", None, parents=(Parent("lines", each="parts"),), include_from_parent=("n",))
    maker = Resource(
        "maker",
        Endpoint(
            path=template("maker/${parent.maker}"), params={"order": template("${resources.issues.id}")}
        ),
        parents=(Parent("parts", priority=expression("parent.rank")),),
    )
    body = [
        {
            "id": 1,
            "paid": True,
            "lines": [{"n": 1, "parts": [{"maker": "m", "rank": 8}]}, {"n": 2, "parts": [{}]}],
        },
        {"id": 2, "paid": False, "lines": [{"n": 1}]},
        {"id": 3, "paid": True},
    ]
    extraction = Scrape(issues(), lines, parts, maker).respond(body)
    assert [(item.resource, item.record) for item in extraction.items if item.resource != "issues"] == [
        ("lines", {"n": 1, "order": 1, "_issues_id": 1}),
        ("parts", {"maker": "m", "rank": 8, "_lines_n": 1}),
    ]
    assert urls(extraction) == ["/maker/m?order=1"]
    assert extraction.follow_ups[0].priority == 8.0


def test_a_tree_of_records_inside_records_is_flattened() -> None:
    """Covers replies to replies, as deeply as the response nests them."""
    replies = Resource("replies", None, parents=(Parent("issues", each="re"), Parent("replies", each="re")))
    body: dict[str, Any] = {"id": 99}
    for number in range(98, -1, -1):
        body = {"id": number, "re": [body]}
    extraction = Scrape(issues(), replies).respond([body])
    assert [item.record["id"] for item in extraction.items] == list(range(100))


def test_a_tree_of_requests_follows_list_elements() -> None:
    """A list of ids leads to items, an item to its kids; the id is the priority, and the depth is limited."""
    item = Resource(
        "item",
        Endpoint(path=template("item/${parent}.json")),
        parents=(
            Parent("stories", priority=expression("parent")),
            Parent("item", each="kids", when=expression("depth < 3"), priority=expression("parent")),
        ),
        record_filter=expression("record != null and record.type != 'job'"),
        primary_key=("id",),
    )
    scrape = Scrape(Resource("stories", Endpoint(path=template("x")), selected=False), item)
    extraction = scrape.respond([30, 20])
    assert (urls(extraction), [task.priority for task in extraction.follow_ups]) == (
        ["/item/30.json", "/item/20.json"],
        [30, 20],
    )
    deeper = scrape.respond({"id": 30, "kids": [31, 32]}, extraction.follow_ups[0])
    assert ([one.key for one in deeper.items], urls(deeper)) == (["30"], ["/item/31.json", "/item/32.json"])
    assert deeper.follow_ups[0].payload["depth"] == 2
    assert urls(scrape.respond({"id": 31, "kids": [33]}, deeper.follow_ups[0])) == []
    assert scrape.respond(None, deeper.follow_ups[1]) == Extraction()


def test_a_text_page_is_one_record() -> None:
    """A page without data is written as its text."""
    (item,) = Scrape(issues()).respond(b"hello", kind="text/plain").items
    assert item.record == {"text": "hello"}


def test_a_task_of_an_unknown_resource_is_refused() -> None:
    """Errors distinguish renamed resources, foreign payloads and bad responses."""
    scrape = Scrape(issues())
    page = Page("https://api.test/x", 200, (), b"[]")
    with pytest.raises(UsageError, match=r"'renamed'.*finish or purge"):
        extract(scrape.extractor, {**scrape.task.payload, "resource": "renamed"}, 1.0, page)
    with pytest.raises(UsageError, match="version"):
        extract(scrape.extractor, {**scrape.task.payload, "v": 9}, 1.0, page)
