"""Fields with a type, a regex, a default, and required fields."""

from __future__ import annotations

import time
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
from scrapeq.plan import Client, Endpoint, Field, Parent, Plan, Resource
from scrapeq.protocols import Extraction
from scrapeq.resource import first_tasks
from scrapeq.task import Group


def extracted(resources: tuple[Resource, ...], *bodies: Any) -> Extraction:
    """Return the extraction of the last response; each response but the last leads to the next request."""
    plan = Plan("t", "t.yaml", client=Client(base_url="https://api.test"), resources=resources)
    pages = PageExtractor(plan, lambda *_: Group())
    (task,) = first_tasks(plan, lambda *_: Group(), 1.0)
    found = Extraction()
    for body in bodies:
        payload = orjson.loads(orjson.dumps(task.payload))
        found = extract(pages, payload, 1.0, Page(payload["url"], 200, (), orjson.dumps(body)))
        task = next(iter(found.follow_ups), task)
    return found


def read(field: Any, record: Any) -> Any:
    """Return the field of one record."""
    resource = Resource("r", Endpoint(path=template("r")), fields={"f": field}, primary_key=("f",))
    (item,) = extracted((resource,), [record]).items
    assert orjson.loads(orjson.dumps(item.record)) == item.record
    return item.record["f"]


@pytest.mark.parametrize(
    ("kind", "value", "expected"),
    [
        ("text", 5, "5"),
        ("text", True, "true"),
        ("text", ["a", 1], '["a",1]'),
        ("text", None, None),
        ("int", " 12 ", 12),
        ("int", "12.0", 12),
        ("int", 12.5, None),
        ("int", "1234567890123456789", 1234567890123456789),
        ("int", True, 1),
        ("int", "2024-01-01", None),
        ("int", "1e400", None),
        ("int", "", None),
        ("float", "1.50", 1.5),
        ("float", "-.5e1", -5.0),
        ("float", 3, 3.0),
        ("float", "1,5", None),
        ("float", "NaN", None),
        ("float", [1], None),
        ("bool", "Yes", True),
        ("bool", "0", False),
        ("bool", 1, True),
        ("bool", "perhaps", None),
        ("bool", {}, None),
        ("time", "2024-01-02", "2024-01-02T00:00:00Z"),
        ("time", "2024-01-02T03:04:05.250+02:00", "2024-01-02T01:04:05.25Z"),
        ("time", 1735689600, "2025-01-01T00:00:00Z"),
        ("time", "1735689600", "2025-01-01T00:00:00Z"),
        ("time", 1735689600123, "2025-01-01T00:00:00.123Z"),
        ("time", "1735689600.5", "2025-01-01T00:00:00.5Z"),
        ("time", "Wed, 01 Jan 2025 00:00:00 GMT", "2025-01-01T00:00:00Z"),
        ("time", "yesterday", None),
        ("time", 1e300, None),
        ("time", False, None),
        ("json", '{"a": [1]}', {"a": [1]}),
        ("json", "{", None),
        ("json", [1], [1]),
        ("", [1, None], [1, None]),
    ],
)
def test_a_type_converts_or_gives_null(kind: Any, value: Any, expected: Any) -> None:
    """A converted value is never incomplete, and JSON can hold it."""
    found = read(Field(path="v", type=kind), {"v": value})
    assert (found, type(found)) == (expected, type(expected))


@pytest.mark.parametrize(
    ("field", "expected"),
    [
        (Field(path="price", regex=r"([\d.]+)", type="float"), 12.5),
        (Field(path="price", regex="EUR"), "EUR"),
        (Field(path="price", regex="USD"), None),
        (Field(path="n", regex="."), "4"),
        (Field(path="tags", all=True), ["a", "b2"]),
        (Field(path="tags", all=True, regex=r"\d", type="int"), [2]),
        (Field(path="$.tags[*]", regex="[a-z]"), "a"),
        (Field(path="$.tags[*]", all=True), ["a", "b2"]),
        (Field(path="none", all=True), []),
        (Field(path="n", all=True), [42]),
        (Field(value=expression("record.n + 1"), type="text"), "43"),
        (Field(path="none", default="x"), "x"),
        (Field(path="price", type="int", default=0), 0),
        (Field(path="none", type="float", default=Field(path="price", regex="[0-9.]+")), 12.5),
        (Field(path="none", default=Field(path="none", default=Field(path="n"))), 42),
        (Field(path="none", all=True, default=["y"]), ["y"]),
    ],
)
def test_regex_all_and_default_change_the_value(field: Field, expected: Any) -> None:
    """A regex gives its first group or the match, `all` a list; a default replaces null, converted if it is a field."""
    assert read(field, {"price": "12.5 EUR", "n": 42, "tags": ["a", "b2"]}) == expected


def test_a_null_in_a_required_field_drops_the_record() -> None:
    """The record is counted and reported, without follow-ups; other records stay."""
    fields: Mapping[str, Any] = {"id": Field(path="id", type="int", required=True), "n": "n"}
    parent = Resource("r", Endpoint(path=template("r")), fields=fields)
    child = Resource("c", Endpoint(path=template("c/${parent.n}")), parents=(Parent("r"),))
    found = extracted((parent, child), [{"id": "x", "n": 1}, {"id": 2, "n": 2}, {"n": 3}])
    assert [item.record for item in found.items] == [{"id": 2, "n": 2}]
    assert [task.payload["url"] for task in found.follow_ups] == ["https://api.test/c/2"]
    assert found.skipped == 2
    assert found.events == ["dropped 2 records of r: a required field is null"]


def test_an_invalid_regex_is_reported() -> None:
    """The error is raised when the plan is compiled."""
    with pytest.raises(UsageError, match=r"fields\.f\.regex: not a valid regular expression: .* position 0"):
        read(Field(path="v", regex="("), {})


def test_grandchildren_read_fields_of_their_ancestors() -> None:
    """Expressions read `resources.NAME.field` of any ancestor, also in defaults; fields of the parent go by path."""
    resources = (
        Resource("a", Endpoint(path=template("a"))),
        Resource("b", Endpoint(path=template("a/${parent.id}/b")), parents=(Parent("a"),)),
        Resource(
            "c",
            Endpoint(path=template("b/${parent.id}/c")),
            parents=(Parent("b"),),
            include_from_parent=("id", "user.name"),
            fields={
                "id": "id",
                "a": Field(value=expression("resources.a.id"), type="text"),
                "d": Field(path="none", default=Field(value=expression("resources.a.deep.x"))),
            },
            primary_key=("a", "_b_id", "id"),
        ),
    )
    above = {"id": 1, "deep": {"x": 9}, "unused": "u"}
    (item,) = extracted(resources, [above], [{"id": 2, "user": {"name": "n"}}], [{"id": 3}]).items
    assert item.record == {"id": 3, "a": "1", "d": 9, "_b_id": 2, "_b_user.name": "n"}
    assert item.key == '["1",2,3]'


def test_a_backtracking_regex_stops_with_null() -> None:
    """Text from a server cannot block the process."""
    started_s = time.process_time()
    assert read(Field(path="text", regex=r"(a|aa|b)+c$"), {"text": "a" * 5_000}) is None
    assert read(expression(r"regex(record.text, '(.*?,){20}x')"), {"text": "1," * 5_000}) is None
    assert time.process_time() - started_s < 20


def test_deeply_nested_json_text_is_null() -> None:
    """Such a value could be read, but not written."""
    assert read(Field(path="text", type="json"), {"text": "[" * 300 + "]" * 300}) is None
    assert read(Field(path="text", type="json"), {"text": "[[1]]"}) == [[1]]
