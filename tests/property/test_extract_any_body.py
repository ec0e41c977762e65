"""Whatever a server sends, extraction ends in a result or a named error."""

from __future__ import annotations

from typing import Any, get_args

import orjson
from hypothesis import given, settings
from hypothesis import strategies as st

from scrapeq.errors import ScrapeqError
from scrapeq.expression import compile_expression as expression
from scrapeq.expression import compile_template as template
from scrapeq.extract import PageExtractor
from scrapeq.extract.decode import Decoder
from scrapeq.page import Page
from scrapeq.plan import Client, Endpoint, Paginator, PaginatorType, Parent, Plan, Resource
from scrapeq.resource import first_tasks
from scrapeq.task import Group

NAMES = st.sampled_from(["id", "items", "data", "next", "more", "total", "kids", "link", "at"])
SCALARS = st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.text(max_size=20)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(NAMES, inner, max_size=5),
    max_leaves=20,
)
BODIES = st.binary(max_size=200) | VALUES.map(orjson.dumps) | st.lists(VALUES, max_size=4).map(orjson.dumps)
TYPES = st.sampled_from(
    ["application/json", "text/html", "application/x-ndjson", "text/plain", "", "x; charset=utf-16"]
) | st.text(max_size=30)
LINKS = st.text(max_size=60) | st.text(max_size=40).map(lambda target: f'<{target}>; rel="next"')
SELECTORS = ["", "data", "data[].items", "$.data", "$..id", "sort(items)", "@"]


def extractor(kind: PaginatorType, selector: str, decoder: Decoder) -> tuple[PageExtractor, dict[str, Any]]:
    """A plan that asks for everything at once."""
    paginator = Paginator(
        kind, cursor_path="next", has_more_path="more", total_path="total", stop_when=expression("body.stop")
    )
    resources = (
        Resource(
            "r",
            Endpoint(path=template("r"), decoder=decoder, data_selector=selector, paginator=paginator),
            primary_key=("id",),
            fields={"id": "id", "text": expression("text"), "at": expression("date(record.at)")},
            priority=expression("record.at"),
        ),
        Resource("nested", None, parents=(Parent("r", each="kids"), Parent("nested", each="kids"))),
        Resource(
            "c",
            Endpoint(path=template("c/${parent.id}"), headers={"X": template("${parent.next}")}),
            parents=(Parent("r", when=expression("parent.more"), priority=expression("parent.total")),),
            include_from_parent=("data",),
        ),
        Resource("u", Endpoint(url=template("${parent.link}")), parents=(Parent("nested", each="items"),)),
    )
    plan = Plan("t", "t.yaml", client=Client(base_url="https://api.test"), resources=resources)
    (task,) = first_tasks(plan, lambda *_: Group(), 1.0)
    return PageExtractor(plan, lambda *_: Group()), task.payload


EXTRACTORS = [
    extractor(kind, selector, decoder)
    for kind in get_args(PaginatorType)
    for selector in SELECTORS
    for decoder in get_args(Decoder)
]


@settings(max_examples=400, deadline=None)
@given(pair=st.sampled_from(EXTRACTORS), body=BODIES, kind=TYPES, link=LINKS)
def test_any_answer_is_a_result_or_a_named_error(
    pair: tuple[PageExtractor, dict[str, Any]], body: bytes, kind: str, link: str
) -> None:
    """Nothing but ScrapeqError is raised, and whatever comes out can be written and queued."""
    pages, payload = pair
    page = Page("https://api.test/r", 200, (("Content-Type", kind), ("Link", link)), body)
    try:
        found = pages.extract(payload, 1.0, page)
    except ScrapeqError:
        return
    for item in found.items:
        assert item.key
        orjson.dumps(item.record)
    for task in found.follow_ups:
        orjson.dumps(task.payload)
        assert task.payload["url"].startswith(("http://", "https://"))
