"""A page is read in parts: as many items as it has, and hardly more memory than its body."""

from __future__ import annotations

import tracemalloc
from typing import Any

import orjson
import pytest

from scrapeq.expression import compile_template as template
from scrapeq.extract import PageExtractor
from scrapeq.extract.extractor import PART_SIZE
from scrapeq.page import Page
from scrapeq.plan import Client, Decoder, Endpoint, Paginator, Parent, Plan, Resource
from scrapeq.protocols import Extraction
from scrapeq.resource import first_tasks
from scrapeq.task import Group

CHILDREN = 100_000


class Reading:
    """A plan whose first resource's page is read in parts."""

    def __init__(self, *resources: Resource) -> None:
        plan = Plan("t", "t.yaml", client=Client(base_url="https://api.test"), resources=resources)
        self.pages = PageExtractor(plan, lambda *_: Group())
        (task,) = first_tasks(plan, lambda *_: Group(), 1.0)
        self.payload = task.payload

    async def parts(self, body: bytes) -> tuple[list[Extraction], int]:
        """Each part without what it holds, counted; and the most memory that there was beside the body, in bytes."""
        page = Page(self.payload["url"], 200, (), body)
        seen = []
        tracemalloc.start()
        async for part in self.pages.chunks(self.payload, 1.0, page):
            seen.append(part)
            assert len(part.items) <= PART_SIZE
            assert len(part.follow_ups) <= PART_SIZE
            part.items[:] = part.items[:1]
            part.follow_ups[:] = part.follow_ups[:1]
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return seen, peak


def big(decoder: Decoder | None = None, paginator: Paginator | None = None) -> Resource:
    """The resource whose page is large."""
    return Resource(
        "r",
        Endpoint(path=template("r"), decoder=decoder or Decoder(), paginator=paginator or Paginator()),
        primary_key=("id",),
    )


@pytest.mark.parametrize("nested", [False, True])
async def test_a_record_with_100_000_children_costs_little_more_than_its_body(nested: bool) -> None:
    """Requests, or records inside the record."""
    child = Resource(
        "c",
        None if nested else Endpoint(path=template("c/${parent.id}")),
        parents=(Parent("r", each="kids"),),
    )
    body = orjson.dumps([{"id": 1, "kids": [{"id": number, "text": "x" * 80} for number in range(CHILDREN)]}])
    reading = Reading(big(), child)
    decoded_peak = _peak_of_loads(body)
    parts, peak = await reading.parts(body)
    assert len(parts) == CHILDREN // PART_SIZE + (2 if nested else 1)
    assert peak < decoded_peak + 8_000_000


def _peak_of_loads(body: bytes) -> int:
    tracemalloc.start()
    value = orjson.loads(body)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert value
    return peak


@pytest.mark.parametrize("kind", ["csv", "jsonl"])
async def test_rows_are_read_one_by_one(kind: Any) -> None:
    """100,000 rows are never in memory together; the next page comes with the last part."""
    if kind == "csv":
        body = b"id,text\n" + b"".join(b"%d,%s\n" % (number, b"x" * 80) for number in range(CHILDREN))
    else:
        body = b"".join(b'{"id":%d,"text":"%s"}\n' % (number, b"x" * 80) for number in range(CHILDREN))
    reading = Reading(big(Decoder(kind), Paginator("page_number")))
    parts, peak = await reading.parts(body)
    assert len(parts) == CHILDREN // PART_SIZE + 1
    assert peak < len(body) * 1.1 + 4_000_000
    assert [part.next_page is not None for part in parts] == [False] * (len(parts) - 1) + [True]
    assert parts[0].items[0].key == "0"


async def test_a_fan_out_comes_in_parts() -> None:
    """10,000 pages at once are ten parts."""
    reading = Reading(big(paginator=Paginator("page_number", total_path="n", fan_out=True)))
    parts, _ = await reading.parts(b'{"n": 10001, "items": [1]}')
    assert len(parts) == 11
    assert parts[9].follow_ups[0].payload["url"] == "https://api.test/r?page=9002"
