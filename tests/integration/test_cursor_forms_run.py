"""The real command sends the cursors of incremental resources in one form, and never one from the future."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import orjson
from api_scrapes import Command
from fetch_server import Received, response, serving

CONFIG = """\
version: 1
name: cursors
client: {base_url: "URL"}
resource_defaults:
  primary_key: id
  endpoint: {path: "${resource}", params: {since: "${incremental.start_value}"}, paginator: single_page}
resources:
  - name: future
    endpoint: {incremental: {cursor_path: u, initial_value: "2024-01-01T00:00:00Z", lookback: 1d}}
  - {name: seconds, endpoint: {incremental: {cursor_path: u, initial_value: 1704067200}}}
  - {name: ids, endpoint: {incremental: {cursor_path: id, initial_value: 0}}}
  - {name: millis, endpoint: {incremental: {cursor_path: u, initial_value: 1704067200000}}}
  - {name: date, endpoint: {incremental: {cursor_path: u, initial_value: 2024-01-01}}}
  - {name: compact, endpoint: {incremental: {cursor_path: u, initial_value: 20240101}}}
  - {name: zone, endpoint: {incremental: {cursor_path: u, initial_value: "2024-01-01T00:00:00+02:00"}}}
  - {name: http, endpoint: {incremental: {cursor_path: u, initial_value: "Mon, 01 Jan 2024 00:00:00 GMT"}}}
  - name: declared
    endpoint: {incremental: {cursor_path: u, initial_value: 01/01/2024, lookback: 1d, cursor_format: "%d/%m/%Y"}}
  - {name: unclear, endpoint: {incremental: {cursor_path: u, initial_value: 01/01/2024}}}
outputs: [{type: jsonl, path: "out/${resource}.jsonl"}]
"""
RECORDS: dict[str, list[Any]] = {
    "seconds": [1714557600, 253402214400],
    "declared": ["31/01/2024", "01/03/2024"],
    "unclear": ["31/01/2024", "01/03/2024"],
}
SENT = {
    "ids": "4102358402",
    "millis": "1714557600000",
    "date": "2024-05-01",
    "compact": "20240501",
    "zone": "2024-05-01T12:00:00+02:00",
    "http": "Wed, 01 May 2024 10:00:00 GMT",
    "declared": "29/02/2024",
    "unclear": "31/01/2024",
}


async def test_the_second_run_sends_cursors_in_the_form_of_the_initial_value(tmp_path: Path) -> None:
    """A time in the future is replaced by the time at which the pages began, so that later records are found."""
    sent: list[tuple[str, str]] = []
    later: list[dict[str, Any]] = []

    async def respond(request: Received, writer: asyncio.StreamWriter) -> None:
        parts = urlsplit(request.path)
        name, since = parts.path[1:], parse_qs(parts.query)["since"][0]
        sent.append((name, since))
        if name == "future":
            records = [{"id": 1, "u": "2024-05-01T00:00:00Z"}, {"id": 2, "u": "2099-12-31T00:00:00Z"}, *later]
            records = [one for one in records if str(one["u"]) >= since]
        else:
            values = RECORDS.get(name, ["2024-05-01T10:00:00.000Z"] * 2)
            records = [{"id": 4102358401 + at, "u": value} for at, value in enumerate(values)]
        writer.write(response(200, orjson.dumps(records), ("Content-Type", "application/json")))

    async with serving(respond) as server:
        (tmp_path / "cursors.yaml").write_text(CONFIG.replace("URL", server.url))
        command = Command(tmp_path, "cursors.yaml")
        started_s = int(time.time())
        output = await asyncio.to_thread(command.run, "--workers", "1")
        sent.clear()
        later.append({"id": 3, "u": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())})
        again = await asyncio.to_thread(command.run, "--workers", "1")
    assert output.count("check  future: u has a time in the future (2099-12-31T00:00:00Z); stored is") == 1
    assert output.count("check  seconds: u has a time in the future (253402214400); stored is") == 1
    assert "check  unclear: u has dates such as 31/01/2024, which compare as text; declare" in output
    assert "check  declared" not in output
    assert again.count("in the future") == 2
    second = dict(sent)
    assert {name: second[name] for name in SENT} == SENT
    assert started_s <= int(second["seconds"]) <= started_s + 60
    assert {one["id"] for one in command.jsonl("out/future.jsonl")} == {1, 2, 3}
