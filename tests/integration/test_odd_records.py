"""The real command with records that an output cannot hold: their tasks are dead letters, the others are written."""

from __future__ import annotations

import asyncio
import sqlite3
from pathlib import Path
from urllib.parse import urlsplit

import orjson
from api_scrapes import Command
from fetch_server import Received, response, serving

JSON = [("Content-Type", "application/json")]
COLUMNS = 2500  # SQLite allows 2,000
CONFIG = """\
version: 1
name: odd
client: {base_url: "URL"}
resources:
  - {name: wide, primary_key: id}
  - {name: names, primary_key: id}
  - {name: huge, primary_key: id}
  - {name: plain, primary_key: id}
outputs: [{type: sqlite, path: out/x.db}, {type: jsonl, path: "out/${resource}.jsonl"}, {type: warc, path: warc/}]
"""
HUGE_BYTES = 13_000_000  # of control characters, six bytes each in JSON


def body_of(name: str) -> bytes:
    """Return one page."""
    if name == "wide":
        return orjson.dumps([{"id": 1, **{f"c{number}": number for number in range(COLUMNS)}}, {"id": 2}])
    if name == "names":
        odd = {
            "_scrapeq_key": "a",
            "_scrapeq_rest": "b",
            "ID": "c",
            "Id": "d",
            "rowid": "e",
            "": "f",
            "a\0b": "g",
        }
        return orjson.dumps([{"id": 1, **odd}])
    if name == "huge":
        return b'[{"id": 1, "text": "' + b"\\u0001" * (HUGE_BYTES) + b'"}]'
    return b'[{"id": 1}]'


async def serve(request: Received, writer: asyncio.StreamWriter) -> None:
    """Answer a request; a header holds bytes that are not UTF-8."""
    head, _, body = response(200, body_of(urlsplit(request.path).path.strip("/")), *JSON).partition(b"\r\n")
    writer.write(head + b"\r\nX-Odd: caf\xe9\r\n" + body)


async def test_an_odd_record_does_not_stop_a_scrape(tmp_path: Path) -> None:
    """Fields beyond the columns go into one JSON column; a record that no frame can hold is a dead letter."""
    async with serving(serve) as server:
        text = CONFIG.replace("URL", server.url).replace("client: {", "client: {max_body_size: 200MB, ")
        (tmp_path / "odd.yaml").write_text(text)
        output = await asyncio.to_thread(Command(tmp_path, "odd.yaml").run, code=3)
    assert "check  table wide: more fields than columns" in output
    assert "dead   huge: an item of task" in output and "too large to be written" in output
    assert "1 dead letter" in output
    with sqlite3.connect(tmp_path / "out" / "x.db") as database:
        tables = {row[0] for row in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        assert {"wide", "names", "plain"} <= tables and "huge" not in tables
        ids, rest = zip(*database.execute("SELECT id, _scrapeq_rest FROM wide ORDER BY id"), strict=True)
        row = database.execute("SELECT * FROM names").fetchone()
    assert ids == (1, 2) and rest[1] is None
    kept = orjson.loads(rest[0])
    assert kept[f"c{COLUMNS - 1}"] == COLUMNS - 1 and 500 < len(kept) < COLUMNS
    assert {"a", "b", "c", "d", "e", "f", "g"} <= set(row)
    assert len((tmp_path / "out" / "plain.jsonl").read_text().splitlines()) == 1
