"""A page is extracted in chunks: the number of its items has little effect on memory."""

from __future__ import annotations

import subprocess
import sys

import orjson
import pytest

from scrapeq.expression import compile_template as template
from scrapeq.extract import PageExtractor
from scrapeq.extract.extractor import CHUNK_SIZE
from scrapeq.page import Page
from scrapeq.plan import Client, Decoder, Endpoint, Paginator, Parent, Plan, Resource
from scrapeq.protocols import Extraction
from scrapeq.resource import first_tasks
from scrapeq.task import Group

CHILDREN = 100_000
MIB = 1 << 20


async def chunks_of(body: bytes, *resources: Resource) -> list[Extraction]:
    """Return each chunk of the first resource's page, with only the first element of each list, to save memory."""
    plan = Plan("t", "t.yaml", client=Client(base_url="https://api.test"), resources=resources)
    (task,) = first_tasks(plan, lambda *_: Group(), 1.0)
    page = Page(task.payload["url"], 200, (), body)
    chunks = []
    async for chunk in PageExtractor(plan, lambda *_: Group()).chunks(task.payload, 1.0, page):
        assert len(chunk.items) + len(chunk.follow_ups) <= CHUNK_SIZE + 1
        del chunk.items[1:], chunk.follow_ups[1:]
        chunks.append(chunk)
    return chunks


def large_resource(decoder: Decoder | None = None, paginator: Paginator | None = None) -> Resource:
    """Return the resource whose page is large."""
    endpoint = Endpoint(path=template("r"), decoder=decoder or Decoder(), paginator=paginator or Paginator())
    return Resource("r", endpoint, primary_key=("id",))


BODIES = {
    "requests": b'[{"id":1,"kids":[%s]}]',
    "nested": b'[{"id":1,"kids":[%s]}]',
    "csv": b"id,text\n%s",
    "jsonl": b"%s",
}


async def memory_growth_mib(kind: str) -> int:
    """Return how much the peak memory of this process grows while the page is read, after its JSON was decoded once."""
    import resource

    child = Resource(
        "c",
        Endpoint(path=template("c/${parent.id}")) if kind == "requests" else None,
        parents=(Parent("r", each="kids"),),
        include_from_parent=("id",),
    )
    resources: tuple[Resource, ...] = (large_resource(), child)
    if kind in ("requests", "nested"):
        rows = b",".join(b'{"id":%d,"text":"%s"}' % (at, b"x" * 80) for at in range(CHILDREN))
    elif kind == "jsonl":
        rows = b"".join(b'{"id":%d,"text":"%s"}\n' % (at, b"x" * 80) for at in range(CHILDREN))
    else:
        rows = b"".join(b"%d,%s\n" % (at, b"x" * 80) for at in range(CHILDREN))
    body = BODIES[kind] % rows
    if kind in ("requests", "nested"):
        # The first extraction imports modules, whose memory must not be measured.
        await chunks_of(BODIES[kind] % rows[: rows.find(b"}") + 1], large_resource(), child)
        decoded = orjson.loads(body)
        del decoded
    else:
        decoder = Decoder("jsonl" if kind == "jsonl" else "csv")
        resources = (large_resource(decoder, Paginator("page_number")),)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    chunks = await chunks_of(body, *resources)
    growth = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert len(chunks) == CHILDREN // CHUNK_SIZE + 1
    if kind in ("csv", "jsonl"):
        assert [chunk.next_page is not None for chunk in chunks] == [False] * (len(chunks) - 1) + [True]
    return growth // 1024


@pytest.mark.parametrize("kind", BODIES)
def test_100_000_children_of_one_page_take_little_memory(kind: str) -> None:
    """A separate process measures requests, nested records and rows; the memory beside the decoded body is small."""
    call = "print(asyncio.run(memory_growth_mib(sys.argv[1])))"
    script = f"import asyncio, sys; from test_extract_chunks import memory_growth_mib; {call}"
    done = subprocess.run(
        [sys.executable, "-c", script, kind],
        capture_output=True,
        text=True,
        timeout=60,
        env={"PYTHONPATH": ":".join(sys.path)},
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 16


async def test_a_fan_out_comes_in_chunks() -> None:
    """2,500 pages that are requested at once are three chunks."""
    chunks = await chunks_of(
        b'{"n": 2501, "items": [1]}',
        large_resource(paginator=Paginator("page_number", total_path="n", fan_out=True)),
    )
    assert len(chunks) == 3
    assert chunks[1].follow_ups[0].payload["url"] == "https://api.test/r?page=1002"
