"""Responses that are paginated without a configured paginator."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from whole_page import extract

from scrapeq import config
from scrapeq.extract import PageExtractor
from scrapeq.page import Page
from scrapeq.protocols import Extraction
from scrapeq.resource import first_tasks
from scrapeq.task import Group

FILE = """
version: 1
name: implied
client: {base_url: "https://api.test"}
resources: [{name: items, endpoint: {path: items%s}%s}]
"""
LINK = ("Link", '<https://api.test/items?page=2>; rel="next"')


def group_of(*_: Any) -> Group:
    """Return the same group for all requests."""
    return Group()


def extracted(body: Any, *headers: tuple[str, str], endpoint: str = "", more: str = "") -> Extraction:
    """Return the extraction of a first page."""
    plan = config.load("implied.yaml", text=FILE % (endpoint, more), env={})
    (task,) = first_tasks(plan, group_of, 0.0)
    kind = ("Content-Type", "application/json")
    page = Page(task.payload["url"], 200, (kind, *headers), orjson.dumps(body))
    return extract(PageExtractor(plan, group_of), task.payload, 1.0, page)


@pytest.mark.parametrize(
    ("body", "headers", "next_url"),
    [
        ([{"id": 1}], [LINK], "https://api.test/items?page=2"),
        ({"data": [{"id": 1}], "next": "/items?after=1"}, [], "https://api.test/items?after=1"),
        ({"data": [{"id": 1}], "next_cursor": "x"}, [], "https://api.test/items?cursor=x"),
        ({"data": [{"id": 1}], "page": 1, "total_pages": 3}, [], "https://api.test/items?page=2"),
    ],
)
def test_a_list_that_reports_more_is_paginated(body: Any, headers: Any, next_url: str) -> None:
    """An event names the paginator."""
    extraction = extracted(body, *headers)
    assert [task.payload["url"] for task in extraction.follow_ups] == [next_url]
    assert extraction.events[0].startswith("auto   items: detected pagination by")


@pytest.mark.parametrize(
    ("body", "endpoint", "more"),
    [
        ({"id": 1, "title": "a post", "next": "/items/2"}, "", ""),  # the next post is not a page of this one
        ([{"id": 1}, {"id": 2}], ", params: {limit: 2}", ""),  # two were requested, and two came
        ([{"id": 1}], ", params: {page: 4}", ""),  # the fourth page was requested
        ([{"id": 1}], ", paginator: single_page", ""),
        ([{"id": 1}], ", decoder: jsonl", ""),
    ],
)
def test_other_responses_are_not_paginated(body: Any, endpoint: str, more: str) -> None:
    """One request is sent."""
    headers = [] if "id" in body else [LINK] if "page: single" in endpoint or "jsonl" in endpoint else []
    assert extracted(body, *headers, endpoint=endpoint, more=more).follow_ups == []


def test_no_paginator_is_implied_beside_a_handler() -> None:
    """A handler yields the next page itself."""
    plan = config.load("implied.yaml", text=FILE % ("", ", handler: 'a.b:c'"), env={})
    endpoint = plan.resources[0].endpoint
    assert endpoint is not None
    assert endpoint.paginator.type == "single_page"
