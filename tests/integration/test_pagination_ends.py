"""The real command against servers that never stop linking to a next page."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import orjson
from api_scrapes import Command
from fetch_server import Received, response, serving

JSON = [("Content-Type", "application/json")]
CONFIG = """\
version: 1
name: ends
client: {base_url: "URL"}
resource_defaults: {primary_key: id}
resources:
  - {name: portal, endpoint: {path: portal, params: {limit: 2}}}
  - name: portal_link
    endpoint: {path: portal, params: {limit: 2, a: 1}, paginator: {type: json_link, next_url_path: result._links.next}}
  - {name: gaps, endpoint: {path: gaps, paginator: {type: json_link, next_url_path: next}}}
  - name: locator
    endpoint:
      path: locator
      paginator: {type: header_cursor, cursor_key: Sforce-Locator, cursor_param: locator}
  - {name: over, endpoint: {path: over, paginator: {type: json_link, next_url_path: next}}}
  - {name: mixed, endpoint: {path: mixed, paginator: {type: page_number}}}
  - name: archive
    endpoint:
      path: archive
      params: {verb: ListRecords, metadataPrefix: oai_dc}
      data_selector: '"OAI-PMH".ListRecords.record'
    primary_key: header.identifier
  - name: sole
    endpoint:
      path: sole
      params: {verb: List, since: "2020"}
      paginator: {type: cursor, cursor_path: token, cursor_param: token, exclusive: true}
  - {name: fresh, endpoint: {path: fresh, paginator: {type: cursor, cursor_path: next}}}
outputs: [{type: jsonl, path: "out/${resource}.jsonl"}]
"""


class Server:
    """Answers with a next page for ever, and counts the requests of each path."""

    def __init__(self) -> None:
        self.requests: dict[str, int] = {}

    async def __call__(self, request: Received, writer: asyncio.StreamWriter) -> None:
        parts = urlsplit(request.path)
        query = {name: values[0] for name, values in parse_qs(parts.query).items()}
        name = parts.path.strip("/") + query.get("a", "")
        number = self.requests[name] = self.requests.get(name, 0) + 1
        if parts.path == "/archive":
            writer.write(response(200, self.archive(query), ("Content-Type", "text/xml")))
            return
        if parts.path == "/over" and int(query.get("offset", 0)) > 4:
            writer.write(response(400, b""))
            return
        if parts.path == "/sole" and "token" in query and query.keys() != {"verb", "token"}:
            writer.write(response(400, b""))
            return
        body, headers = self.page(parts.path, query, number)
        writer.write(response(200, orjson.dumps(body), *JSON, *headers))

    @staticmethod
    def archive(query: dict[str, str]) -> bytes:
        """Return three pages of OAI-PMH, whose token excludes all other parameters."""
        text = '<error code="badArgument">resumptionToken is exclusive</error>'
        if "resumptionToken" not in query or query.keys() == {"verb", "resumptionToken"}:
            page = int(query.get("resumptionToken", "t|0").split("|")[1])
            ids = (f"<header><identifier>oai:{page * 2 + n}</identifier></header>" for n in range(2))
            records = "".join(f"<record>{one}</record>" for one in ids)
            token = f"t|{page + 1}" if page < 2 else ""
            text = f'{records}<resumptionToken completeListSize="6">{token}</resumptionToken>'
            text = f"<ListRecords>{text}</ListRecords>"
        return f"<?xml version='1.0'?><OAI-PMH><request>x</request>{text}</OAI-PMH>".encode()

    @staticmethod
    def page(path: str, query: dict[str, str], number: int) -> tuple[Any, list[tuple[str, str]]]:
        """Return the body and the headers of a page."""
        if path == "/portal":
            start, more = int(query.get("offset", 0)), "&a=1" if "a" in query else ""
            rows = [{"id": n} for n in range(start, min(start + 2, 5))]
            links = {"next": f"/portal?limit=2&offset={start + 2}{more}"}
            return {"result": {"records": rows, "total": 5, "_links": links}}, []
        if path == "/gaps":
            return {"items": [{"id": number}] if number < 3 else [], "next": f"/gaps?p={number}"}, []
        if path == "/over":
            at = int(query.get("offset", 0))
            rows = [{"id": n} for n in range(at, min(at + 2, 5))]
            return {"items": rows, "total": 5, "next": f"/over?offset={at + 2}"}, []
        if path == "/sole":
            at = int(query.get("token", 0))
            return {"items": [{"id": at}], "token": at + 1 if at < 2 else "null"}, []
        if path == "/mixed":  # every number has some of the same six records, changed and in another order
            rows = [{"id": (number * 2 + n) % 6, "at": number} for n in range(4)]
            return rows[:: 1 if number % 2 else -1], []
        if path == "/fresh":
            return {"items": [{"id": number % 5 * 2}, {"id": number % 5 * 2 + 1}], "next": f"c{number}"}, []
        return [{"id": number}], [("Sforce-Locator", "2" if number == 1 else "null")]


async def test_pages_that_are_linked_forever_end(tmp_path: Path) -> None:
    """A stated end is complete. Empty and repeated pages end the pagination too, with a line and exit code 3."""
    server = Server()
    async with serving(server) as target:
        (tmp_path / "ends.yaml").write_text(CONFIG.replace("URL", target.url))
        output = await asyncio.to_thread(Command(tmp_path, "ends.yaml").run, code=3)
    assert server.requests == {
        "portal": 4,
        "portal1": 4,
        "gaps": 5,
        "locator": 2,
        "fresh": 8,
        "mixed": 5,
        "archive": 3,
        "sole": 3,
        "over": 4,
    }
    counts = {
        "portal": 5,
        "portal_link": 5,
        "gaps": 2,
        "locator": 2,
        "fresh": 10,
        "archive": 6,
        "sole": 3,
        "over": 5,
    }
    for name, count in counts.items():
        assert len((tmp_path / "out" / f"{name}.jsonl").read_text().splitlines()) == count
    mixed = (tmp_path / "out" / "mixed.jsonl").read_text().splitlines()
    assert {orjson.loads(line)["id"] for line in mixed} == set(range(6))
    for name, page in (("gaps", 5), ("fresh", 8), ("mixed", 5)):
        reason = f"3 pages in a row had no new record but a next page; pagination stopped at page {page}"
        assert f"missing   {name}: 1 incomplete page sequence: {reason}" in output
    assert output.count("incomplete page sequence") == 3
