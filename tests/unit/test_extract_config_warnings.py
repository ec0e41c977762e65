"""A configuration that does not fit the responses gives a warning, once; an empty response gives none."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from whole_page import extract

from scrapeq.expression import compile_template as template
from scrapeq.extract import PageExtractor
from scrapeq.extract.config_warnings import (
    missing_key_warning,
    missing_parent_field_warning,
    missing_records_warning,
)
from scrapeq.page import Page
from scrapeq.plan import Client, Endpoint, Parent, Plan, Resource
from scrapeq.task import Group


@pytest.mark.parametrize(
    ("selector", "body", "warning"),
    [
        ("records", {"rows": [{"id": 1}], "next": None}, "the response has records at rows"),
        (
            "items",
            {"message": {"next-items": [{"id": 1}]}},
            'the response has records at message."next-items"',
        ),
        ("data", {"count": 0, "results": []}, "the response has count, results"),
        ("data", [{"id": 1}], "the response has records at @"),
        ("data", [], "the response is a list"),
    ],
)
def test_a_selector_that_matches_nothing_is_reported(selector: str, body: Any, warning: str) -> None:
    """The warning suggests a selector, or says what the body contains."""
    assert missing_records_warning(selector, body) == f"data_selector {selector} matches nothing; {warning}"


@pytest.mark.parametrize(
    ("selector", "body"),
    [
        ("rows", {"rows": []}),
        ("", {"a": 1}),
        ("$.rows[*]", {"a": 1}),
        ("rows[?id > `3`]", {"rows": [{"id": 1}]}),
    ],
)
def test_an_empty_list_gives_no_warning(selector: str, body: Any) -> None:
    """An empty selection is not a wrong selector."""
    assert missing_records_warning(selector, body) is None


def test_a_missing_primary_key_is_reported() -> None:
    """The warning lists some fields of the record instead."""
    warning = missing_key_warning(("sku",), {f"field{n}": n for n in range(10)})
    assert warning.startswith("primary_key sku is missing, so records are identified by their full content;")
    assert warning.endswith(
        "the record has field0, field1, field2, field3, field4, field5, field6, field7 and 2 more"
    )


def events(resource: Resource, *bodies: Any, more: tuple[Resource, ...] = ()) -> list[str]:
    """Return the events of responses that come one after the other."""
    plan = Plan("t", "t.yaml", client=Client(base_url="https://a.test"), resources=(resource, *more))
    extractor = PageExtractor(plan, lambda *_: Group("g"))
    payload = {"v": 1, "resource": "r", "method": "GET", "url": "https://a.test/", "seed": {}, "depth": 0}
    headers = (("content-type", "application/json"),)
    found = []
    for body in bodies:
        page = Page("https://a.test/", 200, headers, orjson.dumps(body))
        found += extract(extractor, payload, 1.0, page).events
    return found


def test_each_warning_is_given_once_and_none_after_the_first_records() -> None:
    """Four pages give two warnings; a last page without its list gives none."""
    wrong = Resource("r", Endpoint(data_selector="rows"), primary_key=("id",))
    empty, full = {"ok": True}, {"rows": [{"a": 1}]}
    assert [line.split()[2] for line in events(wrong, empty, empty, full, full)] == [
        "data_selector",
        "primary_key",
    ]
    assert events(Resource("r", Endpoint(data_selector="rows")), full, empty) == []


def test_a_missing_parent_field_is_reported() -> None:
    """The warning lists the fields of the record; a field that is null is intended."""
    read = {("parent", "number"), ("seed", "repo")}
    assert missing_parent_field_warning(read, {"id": 1, "nr": 2}) == (
        "not requested, because its URL needs parent.number; the record has id, nr"
    )
    assert missing_parent_field_warning(read, {"id": 1, "number": None}) is None
    assert missing_parent_field_warning(read, 7) is None


def test_a_child_without_a_url_is_reported_once() -> None:
    """The event names the child; children of records without the field are skipped."""
    child = Resource("c", Endpoint(path=template("c/${parent.nr}")), parents=(Parent("r"),))
    parent = Resource("r", Endpoint(path=template("r")))
    found = events(parent, [{"id": 1}, {"id": 2}], [{"id": 3}], more=(child,))
    assert found == ["check  c: not requested, because its URL needs parent.nr; the record has id"]
    assert events(parent, [{"nr": 1}, {"nr": None}], more=(child,)) == []
