"""The real command with records whose keys or contents are equal: what led to them tells them apart."""

from __future__ import annotations

import asyncio
import sqlite3
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import orjson
from api_scrapes import Command
from fetch_server import Received, response, serving

JSON = [("Content-Type", "application/json")]
CONFIG = """\
version: 1
name: origins
client: {base_url: "URL"}
seeds: [{repo: a}, {repo: b}]
resources:
  - {name: issues, endpoint: "repos/${seed.repo}/issues", primary_key: number, include_from_seed: repo}
  - {name: named, endpoint: "repos/${seed.repo}/issues", primary_key: [seed.repo, number]}
  - {name: shared, endpoint: "repos/${seed.repo}/issues", primary_key: number, key_scope: global}
  - {name: rain, endpoint: "rain/${seed.repo}"}
  - {name: orders, seeds: [{all: 1}], endpoint: "orders/${seed.all}", primary_key: id}
  - {name: lines, parent: orders, endpoint: "orders/${parent.id}/lines"}
  - {name: parts, parent: {resource: orders, each: parts}}
outputs: [{type: jsonl, path: "out/${resource}.jsonl"}, {type: sqlite, path: out/x.db}]
"""
LINE = {"sku": "A", "qty": 1}


def body_of(path: str) -> Any:
    """Return issues whose numbers occur in each repository, and orders with equal lines."""
    first, *rest = path.strip("/").split("/")
    if first == "repos":
        return [{"number": 1, "title": f"of {rest[0]}"}, {"number": 2, "title": "same"}]
    if first == "rain":
        return [{"day": 1, "mm": 0}]
    if len(rest) == 2:
        return [LINE, {"sku": "B", "qty": 2}, LINE]
    return [{"id": number, "parts": [{"name": "bolt"}, {"name": "bolt"}]} for number in range(1, 5)]


async def serve(request: Received, writer: asyncio.StreamWriter) -> None:
    """Answer a request."""
    writer.write(response(200, orjson.dumps(body_of(urlsplit(request.path).path)), *JSON))


def rows_of(folder: Path) -> dict[str, tuple[int, int]]:
    """Return the rows of each resource in JSON Lines and in SQLite."""
    with sqlite3.connect(folder / "out" / "x.db") as database:
        return {
            path.stem: (
                len(path.read_text().splitlines()),
                database.execute(f'SELECT count(*) FROM "{path.stem}"').fetchone()[0],
            )
            for path in (folder / "out").glob("*.jsonl")
        }


async def test_equal_records_of_different_origin_are_all_written(tmp_path: Path) -> None:
    """A second run writes none of them again, and says how many it left out."""
    async with serving(serve) as server:
        (tmp_path / "origins.yaml").write_text(CONFIG.replace("URL", server.url))
        command = Command(tmp_path, "origins.yaml")
        first = await asyncio.to_thread(command.run)
        rows = rows_of(tmp_path)
        second = await asyncio.to_thread(command.run)
    assert rows == {
        "issues": (4, 4),
        "named": (4, 4),
        "shared": (3, 2),  # in JSON Lines each change of a record is a line
        "rain": (2, 2),
        "orders": (4, 4),
        "lines": (12, 12),
        "parts": (8, 8),
    }
    assert rows_of(tmp_path)["lines"] == (12, 12)
    assert "  left out  1 equal record, written before" in first
    assert "  left out  3" in second and "equal records, written before" in second
    repos = [orjson.loads(line)["_seed_repo"] for line in (tmp_path / "out" / "issues.jsonl").open()]
    assert sorted(repos) == ["a", "a", "b", "b"]
