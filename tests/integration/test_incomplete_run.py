"""The real command with page sequences that end too early: nothing is stored of them, and the run says so."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import orjson
from api_scrapes import Command
from fetch_server import Received, response, serving

NEWEST = [{"id": 10, "at": "2024-05-09"}, {"id": 9, "at": "2024-05-08"}]

CUT = """\
version: 1
name: cut
client: {base_url: "URL"}
resource_defaults: {primary_key: id, endpoint: {incremental: {cursor_path: at, initial_value: 2024-01-01}}}
resources:
  - {name: guessed, endpoint: {path: guessed}}
  - {name: bound, endpoint: {path: links, paginator: {type: json_link, next_url_path: next, max_pages: 2}}}
  - {name: loop, endpoint: {path: loop, paginator: {type: json_link, next_url_path: next}}}
  - {name: whole, endpoint: {path: links, params: {all: 1}, paginator: {type: json_link, next_url_path: next}}}
outputs: [{type: jsonl, path: "out/${resource}.jsonl"}]
"""


def cut_response(path: str, query: dict[str, str]) -> Any:
    """Return a page of each resource: a `next` that nobody understands, three linked pages, a loop."""
    if path == "/guessed":
        return {"items": NEWEST, "next": "abc2"}
    if path == "/loop":
        return {"items": NEWEST, "next": "/loop"}
    page = int(query.get("p", 1))
    suffix = "&all=1" if "all" in query else ""
    records = [{"id": 10 - page, "at": f"2024-05-0{9 - page}"}]
    return {"items": records, "next": f"/links?p={page + 1}{suffix}" if page < 3 else None}


def states_of(folder: Path, file: str) -> dict[str, Any]:
    """Return the stored cursor of each resource, as `scrapeq state` lists them."""
    command = [sys.executable, "-m", "scrapeq", "-c", file, "state", "--json"]
    done = subprocess.run(command, cwd=folder, capture_output=True, check=True)
    return {state["resource"]: state["cursor"] for state in map(orjson.loads, done.stdout.splitlines())}


async def test_what_is_cut_stores_nothing_and_shows_in_the_exit_code(tmp_path: Path) -> None:
    """Also when the run is stopped in between; only the page sequence that was read to its end stores its cursor."""

    async def respond(request: Received, writer: asyncio.StreamWriter) -> None:
        parts = urlsplit(request.path)
        query = {name: values[0] for name, values in parse_qs(parts.query).items()}
        writer.write(response(200, orjson.dumps(cut_response(parts.path, query)), *JSON))

    async with serving(respond) as server:
        (tmp_path / "cut.yaml").write_text(CUT.replace("URL", server.url))
        command = Command(tmp_path, "cut.yaml")
        stopped = await asyncio.to_thread(command.run, "--max-requests", "1", code=5)
        output = await asyncio.to_thread(command.run, "--workers", "1", code=3)
    assert "cut    guessed: incomplete: next may point to a next page" in stopped
    for name, reason in (
        ("guessed", "next may point to a next page"),
        ("bound", "max_pages (2) ended the pagination"),
        ("loop", "page 1 links to itself"),
    ):
        assert f"missing   {name}: 1 incomplete page sequence: {reason}" in output
    assert "missing   whole" not in output
    assert await asyncio.to_thread(states_of, tmp_path, "cut.yaml") == {"whole": "2024-05-08"}


JSON = [("Content-Type", "application/json")]
