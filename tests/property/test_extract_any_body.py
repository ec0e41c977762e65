"""Extraction of an arbitrary response ends with a result or a ScrapeqError."""

from __future__ import annotations

import gzip
from typing import Any

import orjson
from hypothesis import given, settings
from hypothesis import strategies as st
from whole_page import extract

from scrapeq.errors import ScrapeqError
from scrapeq.expression import compile_expression as expression
from scrapeq.expression import compile_template as template
from scrapeq.extract import PageExtractor
from scrapeq.page import Page
from scrapeq.plan import PAGINATORS, Client, Decoder, Endpoint, Field, Paginator, Parent, Plan, Resource
from scrapeq.resource import first_tasks
from scrapeq.task import Group

NAMES = st.sampled_from(
    [
        "id",
        "items",
        "data",
        "next",
        "more",
        "total",
        "kids",
        "link",
        "at",
        "links",
        "meta",
        "page",
        "offset",
        "next_cursor",
        "has_more",
        "total_pages",
        "nextPageToken",
        "rel",
        "href",
        "continue",
        "count",
        "limit",
    ]
)
SCALARS = st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.text(max_size=20)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(NAMES, inner, max_size=5),
    max_leaves=20,
)
JSON_BODIES = VALUES.map(orjson.dumps) | st.lists(VALUES, max_size=4).map(orjson.dumps)
CSV_BODIES = st.text('a,;\t"\n\r\ufeffü1', max_size=60).map(str.encode)
XML_BODIES = st.text('<a>/="&; xmlns:b!?[]', max_size=60).map(lambda text: f"<a>{text}</a>".encode())
PLAIN_BODIES = st.binary(max_size=200) | JSON_BODIES | CSV_BODIES | XML_BODIES
BODIES = (
    PLAIN_BODIES
    | PLAIN_BODIES.map(gzip.compress)
    | st.binary(max_size=60).map(lambda tail: b"PK\x03\x04" + tail)
)
TYPES = st.text(max_size=30) | st.sampled_from(
    [
        *(
            "application/json",
            "application/x-ndjson",
            "text/csv",
            "text/tab-separated-values",
            "application/xml",
        ),
        *("application/gzip", "text/html", "text/plain", "", "x; charset=utf-16", "text/csv; charset=utf-7"),
    ]
)
HEADERS = st.dictionaries(
    st.sampled_from(["X-Next-Page", "X-Total-Count", "X-WP-TotalPages", "X-Next-Cursor", "Content-Range"]),
    st.text(max_size=12),
    max_size=2,
)
LINKS = st.text(max_size=60) | st.text(max_size=40).map(lambda target: f'<{target}>; rel="next"')
SELECTORS = ["", "data", "data[].items", "$.data", "$..id", "sort(items)", "@"]


def extractor(
    kind: str, selector: str, decoder: Decoder, position: str
) -> tuple[PageExtractor, dict[str, Any]]:
    """Return an extractor and a payload; the plan uses every feature, with cursors and numbers at this position."""
    name = (
        {} if position == "param" else {f"{part}_{position}": "A.b" for part in ("cursor", "page", "offset")}
    )
    positions: dict[str, Any] = {key.replace("body", "body_path"): value for key, value in name.items()}
    paginator = Paginator(
        kind,
        cursor_path="next",
        cursor_key="X-Next-Cursor",
        next_url_path="next",
        has_more_path="more",
        total_path="total",
        page_path="page",
        stop_when=expression("body.stop"),
        fan_out=position == "param",
        max_pages=50,
        **positions,
    )
    fields: dict[str, Any] = {
        "id": "id",
        "text": expression("text"),
        "at": expression("date(record.at)"),
        "when": Field(path="at", type="time", default=Field(path="total", type="int", default=0)),
        "all": Field(path="$..id", regex="[a1]", all=True, type="json"),
        "more": Field(value=expression("record.more"), type="bool"),
        "link": Field(path="link", type="text", required=selector == "data"),
    }
    resources = (
        Resource(
            "r",
            Endpoint(
                path=template("r"),
                method="POST" if position == "body" else "GET",
                json={"a": 1} if position == "body" else None,
                decoder=decoder,
                data_selector=selector,
                paginator=paginator,
            ),
            primary_key=("id",),
            fields=fields,
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


DECODERS = [
    *(Decoder(kind) for kind in ("auto", "json", "jsonl", "csv", "xml", "text")),
    Decoder("csv", delimiter=";", encoding="utf-16"),
    *(Decoder("auto", compression=packed) for packed in ("gzip", "zip", "bz2", "xz", "zstd")),
]
EXTRACTORS = [
    extractor(kind, selector, decoder, position)
    for kind in PAGINATORS
    for selector in SELECTORS
    for decoder in DECODERS
    for position in ("param", "header", "body")
]


@settings(max_examples=400, deadline=None)
@given(pair=st.sampled_from(EXTRACTORS), body=BODIES, kind=TYPES, link=LINKS, headers=HEADERS)
def test_any_response_gives_a_result_or_a_named_error(
    pair: tuple[PageExtractor, dict[str, Any]], body: bytes, kind: str, link: str, headers: dict[str, str]
) -> None:
    """Only ScrapeqError is raised, and every result can be written and queued."""
    pages, payload = pair
    page = Page("https://api.test/r", 200, (("Content-Type", kind), ("Link", link), *headers.items()), body)
    try:
        extraction = extract(pages, payload, 1.0, page)
    except ScrapeqError:
        return
    for item in extraction.items:
        assert item.key
        orjson.dumps(item.record)
    for task in extraction.follow_ups:
        orjson.dumps(task.payload)
        assert task.payload["url"].startswith(("http://", "https://"))
