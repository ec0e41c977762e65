"""The real command paginates: cursors in bodies and headers, fan-out, loops, `auto`, and a compressed file."""

from __future__ import annotations

import asyncio
import gzip
from collections import Counter
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import orjson
from api_scrapes import Command
from fetch_server import Received, response, serving

CONFIG = """\
version: 1
name: pages
client: {base_url: "URL"}
resource_defaults: {primary_key: id}
resources:
  - name: body
    endpoint:
      path: body
      method: POST
      json: {size: 2, page: {after: null}}
      paginator: {type: cursor, cursor_path: last, cursor_body_path: page.after}
  - name: header
    endpoint: {path: header, paginator: {type: header_cursor, cursor_key: X-Next, cursor_header: X-Cursor}}
  - name: once
    endpoint: {path: once, paginator: {type: page_number, total_path: pages, fan_out: true, priority: -page}}
  - name: loop
    endpoint: {path: loop, paginator: {type: json_link, next_url_path: next}}
  - name: found
    endpoint: {path: found, paginator: auto}
  - name: rates
    endpoint: {path: rates.csv.gz, decoder: csv}
    fields: {id: {path: id, type: int}, rate: {path: rate, type: float}}
  - name: feed
    endpoint: {path: feed, data_selector: feed.entry}
outputs: [{type: jsonl, path: "out/${resource}.jsonl"}]
"""
SEVEN = [{"id": number} for number in range(7)]


def response_to(request: Received) -> tuple[Any, list[tuple[str, str]]]:
    """Return the body (JSON, or bytes as they are) and the headers of each URL."""
    parts = urlsplit(request.path)
    query = {name: values[0] for name, values in parse_qs(parts.query).items()}
    if parts.path == "/body":
        at = orjson.loads(request.body)["page"]["after"] or 0
        return {"items": SEVEN[at : at + 2], "last": at + 2 if at + 2 < 7 else None}, []
    if parts.path == "/header":
        at = int(request.header("x-cursor") or 0)
        return SEVEN[at : at + 3], [("X-Next", str(at + 3))] if at + 3 < 7 else []
    if parts.path == "/once":
        at = (int(query["page"]) - 1) * 2
        return {"items": SEVEN[at : at + 2], "pages": 4}, []
    if parts.path == "/loop":
        at = int(query.get("at", 0))
        return {"items": [SEVEN[at]], "next": f"?at={at + 1 if at < 4 else 2}"}, []
    if parts.path == "/found":
        at = int(query.get("offset", 0))
        return {"offset": at, "limit": 3, "total": 7, "rows": SEVEN[at : at + 3]}, []
    if parts.path == "/rates.csv.gz":
        return gzip.compress(b"id,rate\n1,1.5\n2,\n"), [("Content-Type", "application/gzip")]
    return b"<feed><entry><id>1</id></entry><entry><id>2</id></entry></feed>", [("Content-Type", "text/xml")]


async def test_every_paginator_gets_every_record_once(tmp_path: Path) -> None:
    """Each page is requested once, and a loop ends with an event."""

    async def respond(request: Received, writer: asyncio.StreamWriter) -> None:
        body, headers = response_to(request)
        if not isinstance(body, bytes):
            body, headers = orjson.dumps(body), [("Content-Type", "application/json"), *headers]
        writer.write(response(200, body, *headers))

    async with serving(respond) as server:
        (tmp_path / "pages.yaml").write_text(CONFIG.replace("URL", server.url))
        command = Command(tmp_path, "pages.yaml")
        output = await asyncio.to_thread(command.run, "--workers", "1", code=3)  # the loop is incomplete
    for name in ("body", "header", "once", "found"):
        found = sorted(command.jsonl(f"out/{name}.jsonl"), key=lambda record: record["id"])
        assert found == SEVEN, name
    assert [record["id"] for record in command.jsonl("out/loop.jsonl")] == [0, 1, 2, 3, 4]
    assert command.jsonl("out/rates.jsonl") == [{"id": 1, "rate": 1.5}, {"id": 2, "rate": None}]
    assert command.jsonl("out/feed.jsonl") == [{"id": "1"}, {"id": "2"}]
    requests = Counter((one.line, one.body, one.header("x-cursor")) for one in server.received)
    assert set(requests.values()) == {1}
    pages = Counter(urlsplit(one.path).path for one in server.received)
    assert pages == {
        "/body": 4,
        "/header": 3,
        "/once": 4,
        "/loop": 5,
        "/found": 3,
        "/rates.csv.gz": 1,
        "/feed": 1,
    }
    assert "loop   loop:" in output
    assert "missing   loop: 1 incomplete page sequence: the page after page 5 was already requested" in output
    assert "auto   found: detected pagination by offset, sent as the parameter offset" in output
