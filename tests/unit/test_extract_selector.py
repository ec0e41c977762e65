"""Paths: JMESPath, JSONPath, and the usual places of records without a path."""

from __future__ import annotations

from typing import Any

import pytest

from scrapeq.errors import ExtractError, UsageError
from scrapeq.extract.selector import compile_path, compile_records

BODY = {"data": {"items": [{"id": 1, "tags": ["a"]}, {"id": 2, "tags": []}]}, "next-page": "x", "n": 2}


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("@", BODY),
        ("n", 2),
        ("data.items[-1].id", 2),
        ("data.nothing.deeper", None),
        ("n.deeper", None),
        ('"next-page"', "x"),
        ("data.items[].tags[]", ["a"]),
        ("$.n", 2),
        ("$['next-page']", "x"),
        ("$.data.items[0].id", 1),
        ("$.data.items[*].id", [1, 2]),
        ("$.nothing", None),
    ],
)
def test_a_path_selects_a_value(path: str, value: Any) -> None:
    """Covers JMESPath and JSONPath: a missing value is null; a JSONPath that may match several nodes gives a list."""
    assert compile_path(path)(BODY) == value


@pytest.mark.parametrize(
    ("selector", "records"),
    [
        ("data.items", [{"id": 1, "tags": ["a"]}, {"id": 2, "tags": []}]),
        ("data.items[?id > `1`]", [{"id": 2, "tags": []}]),
        ("data.items[0]", [{"id": 1, "tags": ["a"]}]),
        ("data.nothing", []),
        ("n", [2]),
        ("$.data.items", [{"id": 1, "tags": ["a"]}, {"id": 2, "tags": []}]),
        ("$.data.items[*].tags", [["a"], []]),
        ("$.data.items[?@.id > 1]", [{"id": 2, "tags": []}]),
        ("$.nothing[*]", []),
    ],
)
def test_a_selector_selects_records(selector: str, records: list[Any]) -> None:
    """A list gives its elements, another value one record, null none."""
    assert compile_records(selector)(BODY) == records


@pytest.mark.parametrize(
    ("body", "primary_key", "records"),
    [
        ([1, None], (), [1, None]),
        (None, (), []),
        (5, (), [5]),
        ({"total": 2, "users": [{"a": 1}]}, (), [{"a": 1}]),
        ({"total": 0, "users": []}, (), []),
        ({"errors": [{}], "items": [{"a": 1}], "users": [{}]}, (), [{"a": 1}]),
        ({"results": [1], "data": [2]}, (), [2]),
        ({"id": 1, "items": [{"a": 1}]}, ("id",), [{"id": 1, "items": [{"a": 1}]}]),
        ({"by": "x", "kids": [1, 2]}, (), [{"by": "x", "kids": [1, 2]}]),
        ({"a": [{}], "b": [{}]}, (), [{"a": [{}], "b": [{}]}]),
        ({"data": {"a": 1}}, (), [{"data": {"a": 1}}]),
        (
            {"continue": {"apcontinue": "B"}, "query": {"allpages": [{"pageid": 1}]}},
            ("pageid",),
            [{"pageid": 1}],
        ),
        ({}, (), []),
        ({}, ("id",), []),
        ({"nextPageToken": "x"}, ("id",), []),
        ({"nextPageToken": "x", "user": {"a": 1}}, (), [{"nextPageToken": "x", "user": {"a": 1}}]),
        ({"data": {"users": {"pageInfo": {}, "nodes": [{"id": 1}]}}}, ("id",), [{"id": 1}]),
        ({"data": {"r": {"users": {"edges": [{"cursor": "c", "node": {"id": 1}}]}}}}, (), [{"id": 1}]),
        ({"data": {"users": {"edges": []}}, "extensions": {"cost": 1}}, ("id",), []),
        (
            {"data": {"a": {"nodes": []}, "b": {"nodes": []}}},
            (),
            [{"data": {"a": {"nodes": []}, "b": {"nodes": []}}}],
        ),
    ],
)
def test_records_are_found_without_a_selector(
    body: Any, primary_key: tuple[str, ...], records: list[Any]
) -> None:
    """Records are a list, a record with its key, a well-known name, the only list of maps, or the map itself."""
    assert compile_records("", primary_key)(body) == records


@pytest.mark.parametrize("path", ["message.next-items", "a[", "$[", "$.a[?", "a b"])
def test_an_invalid_path_is_reported_when_compiled(path: str) -> None:
    """The error is one line and names the field."""
    with pytest.raises(UsageError, match=r"^data_selector: .+") as caught:
        compile_records(path)
    assert "\n" not in str(caught.value)


def test_a_path_that_does_not_fit_the_response_raises_a_named_error() -> None:
    """Example: a function call on a value of the wrong type."""
    with pytest.raises(ExtractError, match=r"data_selector: 'sort\(n\)' does not fit the response"):
        compile_records("sort(n)")(BODY)


@pytest.mark.parametrize("body", [None, "[1]", '{"a": 1}', 3, [], True])
def test_other_types_of_bodies_select_nothing(body: Any) -> None:
    """Text is not parsed as a document, and scalars do not have members."""
    for path in ("a", "a.b[0]", "$.a", "$.a[*]"):
        assert compile_path(path)(body) in (None, [])
