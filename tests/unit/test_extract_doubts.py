"""A file that does not hold of the answers is doubted, once; what cannot be told from an empty answer is not."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from whole_page import extract

from scrapeq.expression import compile_template as template
from scrapeq.extract.config_warnings import (
    missing_key_warning,
    missing_parent_field_warning,
    missing_records_warning,
)
from scrapeq.extract.extractor import PageExtractor
from scrapeq.page import Page
from scrapeq.plan import Client, Endpoint, Parent, Plan, Resource
from scrapeq.task import Group


@pytest.mark.parametrize(
    ("selector", "body", "warning"),
    [
        ("records", {"rows": [{"id": 1}], "next": None}, "records stand at rows"),
        ("items", {"message": {"next-items": [{"id": 1}]}}, 'records stand at message."next-items"'),
        ("data", {"count": 0, "results": []}, "it has count, results"),
        ("data", [{"id": 1}], "records stand at @"),
        ("data", [], "it is a list"),
    ],
)
def test_a_selector_that_leads_nowhere(selector: str, body: Any, warning: str) -> None:
    """Where records may be, else what there is."""
    assert (
        missing_records_warning(selector, body)
        == f"data_selector {selector} leads nowhere in an answer; {warning}"
    )


@pytest.mark.parametrize(
    ("selector", "body"),
    [
        ("rows", {"rows": []}),
        ("", {"a": 1}),
        ("$.rows[*]", {"a": 1}),
        ("rows[?id > `3`]", {"rows": [{"id": 1}]}),
    ],
)
def test_an_empty_answer_is_no_doubt(selector: str, body: Any) -> None:
    """Nothing selected is not the same as nowhere."""
    assert missing_records_warning(selector, body) is None


def test_a_key_that_no_record_has() -> None:
    """What it has instead, up to a few names."""
    warning = missing_key_warning(("sku",), {f"field{n}": n for n in range(10)})
    assert warning.startswith("primary_key sku is not in a record")
    assert warning.endswith(
        "it has field0, field1, field2, field3, field4, field5, field6, field7 and 2 more"
    )


def events(resource: Resource, *bodies: Any, more: tuple[Resource, ...] = ()) -> list[str]:
    """What is said of answers that come one after the other."""
    plan = Plan("t", "t.yaml", client=Client(base_url="https://a.test"), resources=(resource, *more))
    extractor = PageExtractor(plan, lambda *_: Group("g"))
    payload = {"v": 1, "resource": "r", "method": "GET", "url": "https://a.test/", "seed": {}, "depth": 0}
    headers = (("content-type", "application/json"),)
    found = []
    for body in bodies:
        page = Page("https://a.test/", 200, headers, orjson.dumps(body))
        found += extract(extractor, payload, 1.0, page).events
    return found


def test_each_doubt_is_said_once_and_none_after_records_came() -> None:
    """Two lines of four pages; nothing of a walk whose end lacks its list."""
    wrong = Resource("r", Endpoint(data_selector="rows"), primary_key=("id",))
    empty, full = {"ok": True}, {"rows": [{"a": 1}]}
    assert [line.split()[2] for line in events(wrong, empty, empty, full, full)] == [
        "data_selector",
        "primary_key",
    ]
    assert events(Resource("r", Endpoint(data_selector="rows")), full, empty) == []


def test_an_address_that_asks_for_what_no_record_has() -> None:
    """Named once, with what there is; a member that is there and null is meant."""
    asked = {("parent", "number"), ("seed", "repo")}
    assert missing_parent_field_warning(asked, {"id": 1, "nr": 2}) == (
        "nothing is asked for, since parent.number is not in a record; it has id, nr"
    )
    assert missing_parent_field_warning(asked, {"id": 1, "number": None}) is None
    assert missing_parent_field_warning(asked, 7) is None


def test_a_child_without_an_address_is_said_once() -> None:
    """The line names the child; its records that lack the member are left out, as before."""
    child = Resource("c", Endpoint(path=template("c/${parent.nr}")), parents=(Parent("r"),))
    parent = Resource("r", Endpoint(path=template("r")))
    found = events(parent, [{"id": 1}, {"id": 2}], [{"id": 3}], more=(child,))
    assert found == ["check  c: nothing is asked for, since parent.nr is not in a record; it has id"]
    assert events(parent, [{"nr": 1}, {"nr": None}], more=(child,)) == []
