"""The real command survives responses that cost too much to read: they die alone, and nothing else waits for them."""

from __future__ import annotations

import asyncio
import gzip
from pathlib import Path
from urllib.parse import urlsplit

import orjson
from api_scrapes import Command
from fetch_server import Received, response, serving

CONFIG = """\
version: 1
name: costly
client: {base_url: "URL", extract_timeout: 2s}
resources:
  - {name: bomb, endpoint: bomb}
  - {name: pattern, endpoint: pattern, fields: {id: id, found: {path: text, regex: '(?:a|aa)+$'}}}
  - {name: large, endpoint: large, primary_key: id}
  - {name: pages, endpoint: {path: pages, paginator: page_number}, primary_key: id}
outputs: [{type: jsonl, path: "out/${resource}.jsonl"}]
"""
PAGES = 40
JSON = ("Content-Type", "application/json")


async def test_only_the_page_that_costs_too_much_dies(tmp_path: Path) -> None:
    """61 KB that become 21 million lists, and a pattern that backtracks, are dead letters that name their bounds."""
    bomb = gzip.compress(b"[" + b"[]," * 21_000_000 + b"[]]")
    pattern = orjson.dumps([{"id": number, "text": "a" * 60 + "b"} for number in range(400)])
    large = orjson.dumps([{"id": number, "text": "lorem ipsum " * 9} for number in range(20_000)])

    async def respond(request: Received, writer: asyncio.StreamWriter) -> None:
        parts = urlsplit(request.path)
        if parts.path == "/bomb":
            writer.write(response(200, bomb, JSON, ("Content-Encoding", "gzip")))
        elif parts.path == "/pattern":
            writer.write(response(200, pattern, JSON))
        elif parts.path == "/large":
            writer.write(response(200, large, JSON))
        else:
            page = int(parts.query.partition("page=")[2] or 1)
            found = [{"id": page * 10 + number} for number in range(3)] if page <= PAGES else []
            writer.write(response(200, orjson.dumps(found), JSON))

    async with serving(respond) as server:
        (tmp_path / "costly.yaml").write_text(CONFIG.replace("URL", server.url))
        command = Command(tmp_path, "costly.yaml")
        output = await asyncio.to_thread(command.run, "--workers", "1", code=3)
    assert "21,000,002 lists and objects take more than 512,000,000 bytes of memory" in output
    assert "reading it takes more than 2 s of processor time; raise client.extract_timeout" in output
    assert "lease" not in output
    assert [one["id"] for one in command.jsonl("out/large.jsonl")] == list(range(20_000))
    assert len(command.jsonl("out/pages.jsonl")) == 3 * PAGES
    assert command.jsonl("out/pattern.jsonl") == command.jsonl("out/bomb.jsonl") == []
    paths = [urlsplit(one.path).path for one in server.received]
    assert (paths.count("/bomb"), paths.count("/pattern"), paths.count("/large")) == (1, 1, 1)
