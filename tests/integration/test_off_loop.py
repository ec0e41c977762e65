"""The work on data never holds the event loop, and only the page that costs too much is given up."""

from __future__ import annotations

import asyncio
import gc
import gzip
import time
from contextlib import aclosing
from pathlib import Path
from typing import Any

import orjson
import pytest
from whole_page import extract

from scrapeq.errors import BrokenBody, ExtractError
from scrapeq.expression import compile_template as template
from scrapeq.extract import PageExtractor
from scrapeq.page import Page
from scrapeq.plan import Client, Endpoint, Field, Incremental, Paginator, Parent, Plan, Resource
from scrapeq.protocols import Extraction
from scrapeq.resource import first_tasks
from scrapeq.task import Group
from scrapeq.testing import FakeClock
from scrapeq.worker.off_loop import OffLoopExtractor
from scrapeq.worker.part_frames import FRAME_BYTES

SLOW = "(?:a|aa)+$"
SLOW_TEXT = "a" * 60 + "b"


def plan_of(
    *children: Resource, max_body_size: int = 64_000_000, extract_timeout_s: float = 30.0, **of: Any
) -> Plan:
    """Return a plan with one paginated resource."""
    endpoint = Endpoint(path=template("r"), paginator=Paginator("json_link", next_url_path="next"))
    client = Client(
        base_url="https://api.test", max_body_size=max_body_size, extract_timeout_s=extract_timeout_s
    )
    parent = Resource("r", endpoint, primary_key=("id",), **of)
    return Plan("t", "t.yaml", client=client, resources=(parent, *children))


def page_of(body: bytes, kind: str = "application/json") -> Page:
    """Return a response."""
    return Page("https://api.test/r", 200, (("Content-Type", kind),), body)


def records(count: int, **more: Any) -> bytes:
    """Return a page of so many records."""
    rows = [{"id": number, "text": "lorem ipsum " * 9, **more} for number in range(count)]
    return orjson.dumps({"items": rows, "next": "/r?page=2"})


async def read(extractor: OffLoopExtractor, plan: Plan, page: Page) -> list[Extraction]:
    """Return all chunks of the page."""
    (task,) = first_tasks(plan, lambda *_: Group(), 1.0)
    return [chunk async for chunk in extractor.chunks(task.payload, 1.0, page)]


def inline(plan: Plan) -> PageExtractor:
    """Return an extractor that reads pages where it is called."""
    return PageExtractor(plan, lambda *_: Group(), clock=FakeClock())


def off_loop(plan: Plan) -> OffLoopExtractor:
    """Return the extractor of fetchers."""
    return OffLoopExtractor(inline(plan), plan)


CHILDREN = (
    Resource("c", Endpoint(path=template("c/${parent.id}")), parents=(Parent("r"),)),
    Resource(
        "i",
        Endpoint(path=template("i/${parent.id}"), incremental=Incremental(cursor_path="at")),
        parents=(Parent("r"),),
    ),
)


async def test_a_large_page_gives_the_same_in_its_own_process() -> None:
    """Items, requests, incremental starts and the next page arrive in order and once, in parts of bounded size."""
    plan = plan_of(*CHILDREN)
    body = records(9_000)
    (task,) = first_tasks(plan, lambda *_: Group(), 1.0)
    expected = extract(inline(plan), task.payload, 1.0, page_of(body))
    chunks = await read(off_loop(plan), plan, page_of(body))
    assert len(body) > FRAME_BYTES
    assert [item for chunk in chunks for item in chunk.items] == expected.items
    tasks = [
        one
        for chunk in chunks
        for one in (*chunk.follow_ups, *([chunk.next_page] if chunk.next_page else []))
    ]
    assert tasks == expected.follow_ups
    starts = [start for chunk in chunks for start in chunk.starts]
    assert [one.state_key for one in starts] == [one.state_key for one in expected.starts]
    for one, other in ((starts[0], expected.starts[0]), (starts[-1], expected.starts[-1])):
        assert one.build({"cursor": 5}) == other.build({"cursor": 5})
    assert [chunk.next_page is not None for chunk in chunks] == [False] * (len(chunks) - 1) + [True]


async def test_one_large_record_is_not_divided() -> None:
    """A record may be larger than a frame."""
    plan = plan_of()
    chunks = await read(off_loop(plan), plan, page_of(records(2, large="x" * 3_000_000)))
    assert [len(item.record["large"]) for chunk in chunks for item in chunk.items] == [3_000_000] * 2


async def test_a_page_that_becomes_slow_is_continued_elsewhere() -> None:
    """What was read on the loop before the slow record is not given twice, and the slow search is reported once."""
    rows = [{"id": number, "text": SLOW_TEXT if number in (2500, 2600) else "a"} for number in range(2700)]
    plan = plan_of(fields={"id": "id", "found": Field(path="text", regex=SLOW)})
    extractor = off_loop(plan)
    for times in (1, 0):
        chunks = await read(extractor, plan, page_of(orjson.dumps({"items": rows})))
        found = {item.record["id"]: item.record["found"] for chunk in chunks for item in chunk.items}
        assert sum(len(chunk.items) for chunk in chunks) == len(found) == 2700
        assert {number for number, text in found.items() if text is None} == {2500, 2600}
        events = [event for chunk in chunks for event in chunk.events]
        assert (
            len([one for one in events if "takes longer than 0.25 s in 2 values, which are null" in one])
            == times
        )


async def test_errors_of_the_page_keep_their_class() -> None:
    """A body that is cut off is retried, wherever it was read."""
    plan = plan_of()
    with pytest.raises(BrokenBody, match="not valid JSON"):
        await read(off_loop(plan), plan, page_of(records(20_000)[:-9]))


@pytest.mark.parametrize(
    ("plan", "body", "message"),
    [
        (
            plan_of(extract_timeout_s=0.4, fields={"found": Field(path="text", regex=SLOW)}),
            orjson.dumps([{"text": SLOW_TEXT}] * 400),
            "more than 0.4 s of processor time; raise client.extract_timeout",
        ),
        (
            plan_of(max_body_size=1_500_000),
            b"[" + b"[]," * 400_000 + b"[]]",
            "400,002 lists and objects take more than 12,000,000 bytes",
        ),
        (
            plan_of(),
            b'{"id": 1, "all": [' + b'{"a":1},' * 200_000 + b"1]}",
            "a single record has more than 100,000 lists and objects inside; set data_selector",
        ),
        (
            plan_of(max_body_size=12_000_000),
            b"[" + b'{"a":"xy"},' * 1_000_000 + b"{}]",
            "more than 96,000,000 bytes of memory, 8 times client.max_body_size",
        ),
    ],
)
async def test_a_page_beyond_its_budget_is_given_up(plan: Plan, body: bytes, message: str) -> None:
    """The error names the bound and the key that raises it; the next page is read as if nothing had happened."""
    extractor = off_loop(plan)
    with pytest.raises(ExtractError, match=message):
        await read(extractor, plan, page_of(body))
    assert len((await read(extractor, plan, page_of(b'[{"id":1}]')))[-1].items) == 1


async def test_a_page_that_is_not_wanted_ends_its_process() -> None:
    """A lost lease must not leave work behind."""
    plan = plan_of()
    (task,) = first_tasks(plan, lambda *_: Group(), 1.0)
    before = children()
    async with aclosing(off_loop(plan).chunks(task.payload, 1.0, page_of(records(60_000)))) as chunks:  # type: ignore[type-var]
        async for _ in chunks:
            assert children() > before
            break
    assert children() == before


def children() -> set[str]:
    """Return the processes that this one has started and not reaped; other tests may have started some."""
    own = Path("/proc/self/task")
    return {pid for thread in own.iterdir() for pid in (thread / "children").read_text().split()}


@pytest.mark.serial
@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (gzip.compress(b"[" + b"[]," * 21_000_000 + b"[]]"), "application/gzip"),
        (b"[" + b"[]," * 330_000 + b"[]]", "application/json"),
        (records(100_000), "application/json"),
        (b"<r>" + b"<a><b>1</b></a>" * 100_000 + b"</r>", "text/xml"),
        (b"id,v\n" + b"1,abc\n" * 300_000, "text/csv"),
        (orjson.dumps([{"id": 1, "text": SLOW_TEXT}] * 5), "application/json"),
    ],
    ids=["bomb", "lists", "json", "xml", "csv", "pattern"],
)
async def test_the_loop_is_never_held(body: bytes, kind: str) -> None:
    """Between two turns of the loop, its thread works for less than 50 ms, and the process stays small."""
    plan = plan_of(fields={"id": "id", "found": Field(path="text", regex=SLOW)})
    held: list[float] = []

    async def tick() -> None:
        last_s = time.thread_time()
        while True:
            await asyncio.sleep(0.001)
            now_s = time.thread_time()
            held.append(now_s - last_s)
            last_s = now_s

    gc.collect()
    gc.freeze()  # a fetcher's heap is small, that of the test runner is not
    ticking = asyncio.create_task(tick())
    await asyncio.sleep(0.01)
    held.clear()
    (task,) = first_tasks(plan, lambda *_: Group(), 1.0)
    try:
        async for _ in off_loop(plan).chunks(task.payload, 1.0, page_of(body, kind)):
            pass
    except ExtractError as error:
        assert "lists and objects take more than 512,000,000 bytes" in str(error)
    await asyncio.sleep(0.01)
    ticking.cancel()
    gc.unfreeze()
    assert max(held) < 0.05
