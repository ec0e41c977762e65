"""Outputs, items and files for the tests of the sinks."""

from __future__ import annotations

import csv
import gzip
import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import orjson
import zstandard

from scrapeq import plan
from scrapeq.expression import compile_template
from scrapeq.protocols import Item
from scrapeq.sink import OutputSet, SinkContext
from scrapeq.sink.ledger import Ledger


def output(type_: str, path: str = "", **more: Any) -> plan.Output:
    """Return an output of this type."""
    return plan.Output(type_, compile_template(path) if path else None, **more)


@contextmanager
def sink_at(base: Path, *all_: plan.Output, **more: Any) -> Iterator[OutputSet]:
    """Open a set of outputs; finish and close it at the end."""
    sink = OutputSet(all_, base=base, context=SinkContext(base, name="api", **more))
    try:
        yield sink
        sink.finish()
    finally:
        sink.close()


def item(number: int, resource: str = "issues", **more: Any) -> Item:
    """Return an item with this number as its key."""
    return Item(resource, str(number), {"id": number, **more})


def text(path: Path) -> str:
    """Return the decompressed content of a file."""
    data = path.read_bytes()
    if path.suffix == ".gz":
        data = gzip.decompress(data)
    if path.suffix == ".zst":
        with zstandard.ZstdDecompressor().stream_reader(io.BytesIO(data), read_across_frames=True) as reader:
            data = reader.read()
    return data.decode()


def ids(*paths: Path) -> list[int]:
    """Return the ids in JSON Lines files."""
    return [orjson.loads(line)["id"] for path in paths for line in text(path).splitlines()]


def table(path: Path) -> list[dict[str, str]]:
    """Return the rows of a CSV file."""
    content = text(path)
    assert content.endswith("\n")
    return list(csv.DictReader(io.StringIO(content)))


def crash_in_commit(base: Path, requests: list[Any], *all_: plan.Output) -> None:
    """Run a process that is killed after it has written everything and before it commits."""
    child = os.fork()
    if child == 0:
        try:
            sink = OutputSet(all_, base=base, context=SinkContext(base, name="api"))
            sink.check()
            Ledger.set_tokens = lambda *_: os._exit(9)  # type: ignore[method-assign]  # ends the fork
            sink.commit_many(requests)
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9
