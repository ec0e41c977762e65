"""Every output type under kill -9 of the writer and of the whole run: each item once, every file valid."""

from __future__ import annotations

import asyncio
import csv
import gzip
import io
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import psycopg
import pyarrow.parquet
import pytest
import zstandard
from chaos_job import Job, Target, alive, assert_each_once, rng, scaled, wait_until
from postgres_server import PostgresServer
from warcio.archiveiterator import ArchiveIterator

from scrapeq import plan
from scrapeq.expression import compile_template
from scrapeq.page import Page
from scrapeq.processes.runtime_folder import runtime_folder
from scrapeq.protocols import Item
from scrapeq.writer.client import WriterClient, WriterProcess

CLIENTS_AT_ONCE = 10
OUTPUTS = {
    "gz": "{type: jsonl, path: out/a.jsonl.gz}",
    "zst": "{type: jsonl, path: out/b.jsonl.zst}",
    "rotating": "{type: jsonl, path: out/r.jsonl.gz, rotate: {size: 2KB}}",
    "csv": "{type: csv, path: out/c.csv}",
    "csv.gz": "{type: csv, path: out/d.csv.gz, rotate: {size: 3KB}}",
    "sqlite": "{type: sqlite, path: out/e.db}",
    "history": "{type: sqlite, path: out/e.db, table: history, write_disposition: append}",
    "parquet": '{type: parquet, path: "out/parquet/${resource}/", rotate: {size: 4KB}}',
    "warc": "{type: warc, path: out/warc/, rotate: {size: 20KB}}",
}


def _plans() -> dict[str, tuple[plan.Output, ...]]:
    def path(text: str) -> Any:
        return compile_template(text)

    return {
        "gz": (plan.Output("jsonl", path("out/a.jsonl.gz")),),
        "zst": (plan.Output("jsonl", path("out/b.jsonl.zst")),),
        "rotating": (plan.Output("jsonl", path("out/r.jsonl.gz"), rotate_bytes=2_000),),
        "csv": (plan.Output("csv", path("out/c.csv")),),
        "csv.gz": (plan.Output("csv", path("out/d.csv.gz"), rotate_bytes=3_000),),
        "sqlite": (plan.Output("sqlite", path("out/e.db")),),
        "history": (
            plan.Output("sqlite", path("out/e.db"), table=path("history"), write_disposition="append"),
        ),
        "parquet": (plan.Output("parquet", path("out/parquet/${resource}/"), rotate_bytes=4_000),),
        "warc": (plan.Output("warc", path("out/warc/"), rotate_bytes=20_000),),
    }


def _lines(data: bytes) -> list[int]:
    assert not data or data.endswith(b"\n"), "an incomplete last line"
    return [orjson.loads(line)["id"] for line in data.splitlines()]


def _rows(text: str) -> list[int]:
    assert text.endswith("\n")
    return [int(row["id"]) for row in csv.DictReader(io.StringIO(text))]


def _sqlite(path: Path, table: str) -> list[int]:
    database = sqlite3.connect(path)
    try:
        assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        return [row[0] for row in database.execute(f'SELECT id FROM "{table}"')]
    finally:
        database.close()


def _warc(folder: Path) -> list[int]:
    """Return the ids of the archived things, after `warcio check` has read every file."""
    found = []
    for path in sorted(folder.glob("*.warc.gz")):
        program = str(Path(sys.executable).with_name("warcio"))
        checked = subprocess.run([program, "check", str(path)], capture_output=True, text=True)
        assert checked.returncode == 0, checked.stdout + checked.stderr
        with path.open("rb") as stream:
            for record in ArchiveIterator(stream):
                name = (record.rec_headers.get_header("WARC-Target-URI") or "").rpartition("/things/")[2]
                if record.rec_type == "response" and name.isdigit():
                    found.append(int(name))
    return found


def written(out: Path, which: str, table: str = "things") -> list[int]:
    """Return the ids in an output; every file must be valid."""
    if which == "gz":
        return _lines(gzip.decompress((out / "a.jsonl.gz").read_bytes()))
    if which == "zst":
        with (out / "b.jsonl.zst").open("rb") as packed:
            return _lines(zstandard.ZstdDecompressor().stream_reader(packed, read_across_frames=True).read())
    if which == "rotating":
        parts = sorted(out.glob("r-*.jsonl.gz"))
        return [id_ for part in parts for id_ in _lines(gzip.decompress(part.read_bytes()))]
    if which == "csv":
        return _rows((out / "c.csv").read_text())
    if which == "csv.gz":
        return [
            id_
            for part in out.glob("d-*.csv.gz")
            for id_ in _rows(gzip.decompress(part.read_bytes()).decode())
        ]
    if which in ("sqlite", "history"):
        return _sqlite(out / "e.db", "history" if which == "history" else table)
    if which == "parquet":
        parts = sorted((out / "parquet" / table).glob("*.parquet"))
        return [row["id"] for part in parts for row in pyarrow.parquet.read_table(part).to_pylist()]
    return _warc(out / "warc")


@pytest.mark.parametrize("which", [*OUTPUTS, "postgres"])
async def test_acknowledged_items_survive_kills_of_the_writer(
    which: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """After repeated kills, every acknowledged item is there once."""
    chance = rng(f"writer of {which}")
    if which == "postgres":
        server: PostgresServer = request.getfixturevalue("postgres")
        with psycopg.connect(server.url(), autocommit=True) as connection:
            connection.execute("CREATE DATABASE writer")
        outputs: tuple[plan.Output, ...] = (plan.Output("postgres", url=server.url("writer")),)
    else:
        outputs = _plans()[which]
    process = WriterProcess(
        outputs, base=tmp_path, path=runtime_folder(tmp_path) / "w.sock", name="chaos", run="1"
    )
    await process.start()
    client = WriterClient(process.path, responses=which == "warc")
    acknowledged: set[int] = set()
    numbers = iter(range(1_000_000))
    progress = asyncio.Event()
    is_over = False

    async def fetch() -> None:
        while not is_over:
            number = next(numbers)
            page = Page(f"http://e.test/things/{number}", 200, (), b"x" * 200)
            record = {"id": number, **({"late": True} if number > 40 else {})}
            await client.commit(f"t{number}", f"{number + 1}.1", [Item("things", str(number), record)], page)
            acknowledged.add(number)
            progress.set()

    fetchers = [asyncio.create_task(fetch()) for _ in range(CLIENTS_AT_ONCE)]
    for _ in range(scaled(3)):
        await asyncio.sleep(chance.uniform(0.02, 0.15))
        assert process.pid is not None
        os.kill(process.pid, signal.SIGKILL)
        await process.wait()
        await process.start()
        progress.clear()
        await asyncio.wait_for(progress.wait(), 10.0)
    is_over = True
    await asyncio.wait_for(asyncio.gather(*fetchers), 20.0)
    await client.close()
    assert await process.stop(20.0) == 0
    if which == "postgres":
        with psycopg.connect(server.url("writer")) as connection:
            found = [row[0] for row in connection.execute("SELECT id FROM things").fetchall()]
    else:
        found = written(tmp_path / "out", which)
    assert max(Counter(found).values()) == 1
    assert set(found) == acknowledged


def test_outputs_are_complete_after_a_killed_run(
    target: Callable[..., Target], job: Callable[..., Job], postgres: PostgresServer
) -> None:
    """SIGKILL of the supervisor ends everything; after the same command, every output is complete."""
    chance = rng("run of all outputs")
    server = target(5)
    lists = scaled(3)
    work = job(server.url, lists)
    with psycopg.connect(postgres.url(), autocommit=True) as connection:
        connection.execute("CREATE DATABASE run")
    lines = '{type: jsonl, path: "out/${resource}.jsonl"}'
    outputs = [lines, *OUTPUTS.values(), '{type: postgres, url: "${env:PG_URL}"}']
    text = work.file.read_text()
    assert f"[{lines}]" in text
    work.file.write_text(text.replace(f"[{lines}]", "".join(f"\n  - {one}" for one in outputs)))
    work.extra_environment["PG_URL"] = postgres.url("run")
    for _ in range(scaled(1)):
        slow_s = work.start_up()
        time.sleep(chance.uniform(0.0, 0.3))
        work.children()
        if chance.random() < 0.5:
            writer = work.children("writer")
            os.kill(writer[0], signal.SIGKILL)
        work.kill()
        assert work.wait(5.0) == -signal.SIGKILL
        wait_until("no orphans", lambda: not any(map(alive, work.pids)), 3.0 + slow_s)
    work.start()
    assert work.wait(60.0) == 0, work.last_output()
    work.assert_complete()
    for which in OUTPUTS:
        assert_each_once(written(work.folder / "out", which), lists)
    with psycopg.connect(postgres.url("run")) as connection:
        assert_each_once((row[0] for row in connection.execute("SELECT id FROM things").fetchall()), lists)
    assert postgres.password not in work.events() + work.errors()
