"""A page is read in parts: as many items as it has, and hardly more memory than its body."""

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


async def parts_of(body: bytes, *resources: Resource) -> list[Extraction]:
    """Each part of the first resource's page, emptied but for the first of each list, so that none is kept."""
    plan = Plan("t", "t.yaml", client=Client(base_url="https://api.test"), resources=resources)
    (task,) = first_tasks(plan, lambda *_: Group(), 1.0)
    page = Page(task.payload["url"], 200, (), body)
    seen = []
    async for part in PageExtractor(plan, lambda *_: Group()).chunks(task.payload, 1.0, page):
        assert len(part.items) + len(part.follow_ups) <= CHUNK_SIZE + 1
        del part.items[1:], part.follow_ups[1:]
        seen.append(part)
    return seen


def big(decoder: str = "auto", paginator: Paginator | None = None) -> Resource:
    """The resource whose page is large."""
    endpoint = Endpoint(path=template("r"), decoder=Decoder(decoder), paginator=paginator or Paginator())  # type: ignore[arg-type]
    return Resource("r", endpoint, primary_key=("id",))


BODIES = {
    "requests": b'[{"id":1,"kids":[%s]}]',
    "nested": b'[{"id":1,"kids":[%s]}]',
    "csv": b"id,text\n%s",
    "jsonl": b"%s",
}


async def grown_mib(kind: str) -> int:
    """How much the peak of this process's memory grows while the page is read; that of a JSON body once decoded not."""
    import resource

    child = Resource(
        "c",
        Endpoint(path=template("c/${parent.id}")) if kind == "requests" else None,
        parents=(Parent("r", each="kids"),),
        include_from_parent=("id",),
    )
    resources: tuple[Resource, ...] = (big(), child)
    if kind in ("requests", "nested"):
        rows = b",".join(b'{"id":%d,"text":"%s"}' % (at, b"x" * 80) for at in range(CHILDREN))
    elif kind == "jsonl":
        rows = b"".join(b'{"id":%d,"text":"%s"}\n' % (at, b"x" * 80) for at in range(CHILDREN))
    else:
        rows = b"".join(b"%d,%s\n" % (at, b"x" * 80) for at in range(CHILDREN))
    body = BODIES[kind] % rows
    if kind in ("requests", "nested"):
        await parts_of(BODIES[kind] % rows[: rows.find(b"}") + 1], big(), child)  # what is imported late
        decoded = orjson.loads(body)
        del decoded
    else:
        resources = (big(kind, Paginator("page_number")),)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    parts = await parts_of(body, *resources)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert len(parts) == CHILDREN // CHUNK_SIZE + 1
    if kind in ("csv", "jsonl"):
        assert [part.next_page is not None for part in parts] == [False] * (len(parts) - 1) + [True]
    return grown // 1024


@pytest.mark.parametrize("kind", BODIES)
def test_100_000_children_of_one_page_cost_hardly_any_memory(kind: str) -> None:
    """Requests, records inside a record, rows: in a process of its own, what is beside the decoded body is small."""
    script = "import asyncio, sys; from test_extract_parts import grown_mib; print(asyncio.run(grown_mib(sys.argv[1])))"
    done = subprocess.run(
        [sys.executable, "-c", script, kind],
        capture_output=True,
        text=True,
        timeout=60,
        env={"PYTHONPATH": ":".join(sys.path)},
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 16


async def test_a_fan_out_comes_in_parts() -> None:
    """2,500 pages at once are three parts."""
    parts = await parts_of(
        b'{"n": 2501, "items": [1]}', big(paginator=Paginator("page_number", total_path="n", fan_out=True))
    )
    assert len(parts) == 3
    assert parts[1].follow_ups[0].payload["url"] == "https://api.test/r?page=1002"
