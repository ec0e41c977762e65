"""The real command with page sequences that end too early or have broken pages: nothing is stored, and it is said."""

from __future__ import annotations

import asyncio
import gzip
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import orjson
from api_scrapes import Command
from fetch_server import Received, response, serving

JSON = [("Content-Type", "application/json")]
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


BROKEN = """\
version: 1
name: broken
client: {base_url: "URL"}
resource_defaults:
  primary_key: id
  endpoint: {data_selector: items, incremental: {cursor_path: at, initial_value: 2024-01-01}}
response_actions:
  - {match: {exception: bad_answer, resource: [often]}, action: retry}
  - {match: {exception: bad_answer, path: "/bad/**"}, action: dead_letter}
  - {match: {path: /accepted, when: body.error}, action: success}
resources:
  - name: often
    endpoint: &graphql
      path: graphql
      params: {always: 1}
      method: POST
      json: {query: "query($after: String) { items(after: $after) { nodes { id } } }", variables: {after: null}}
      data_selector: data.items.nodes
      paginator:
        {type: cursor, cursor_path: data.items.next, cursor_body_path: variables.after, has_more_path: data.items.more}
  - {name: graphql, endpoint: {<<: *graphql, params: {once: 1}}}
  - {name: partial, endpoint: {<<: *graphql, params: {partial: 1}}}
  - {name: cut, endpoint: {path: numbers/cut, paginator: {type: page_number, total_path: pages}}}
  - {name: dead, endpoint: {path: bad/numbers, paginator: {type: page_number, total_path: pages}}}
  - {name: arcgis, endpoint: {path: bad/arcgis, paginator: {type: offset, limit: 2}}}
  - {name: busy, endpoint: {path: bad/busy, paginator: {type: page_number}}}
  - {name: first, endpoint: {path: bad/first, paginator: {type: page_number}}}
  - {name: unselected, endpoint: {path: bad/whole, data_selector: null}}
  - {name: oai, endpoint: {path: bad/oai, data_selector: '"OAI-PMH".ListRecords.record'}}
  - {name: none, endpoint: {path: none, data_selector: '"OAI-PMH".ListRecords.record'}}
  - {name: accepted, endpoint: {path: accepted}}
  - {name: fine, endpoint: {path: fine, paginator: {type: page_number}}}
  - {name: csv, endpoint: {path: once/rows.csv, data_selector: null}}
  - {name: lines, endpoint: {path: once/rows.jsonl, data_selector: null}}
  - {name: packed, endpoint: {path: once/rows.csv.gz, data_selector: null}}
  - {name: xml, endpoint: {path: once/rows.xml, data_selector: rows.row}}
outputs: [{type: jsonl, path: "out/${resource}.jsonl"}]
"""
FILES = {
    "/once/rows.csv": b'id,at\n1,2024-05-01\n2,"2024-05-02"\n',
    "/once/rows.jsonl": b'{"id": 1, "at": "2024-05-01"}\n{"id": 2, "at": "2024-05-02"}\n',
    "/once/rows.csv.gz": gzip.compress(b"id,at\n1,2024-05-01\n2,2024-05-02\n"),
    "/once/rows.xml": b"<rows><row><id>1</id></row><row><id>2</id></row></rows>",
}
OAI = '<OAI-PMH><responseDate>2024-05-01</responseDate><error code="{}">text</error></OAI-PMH>'


class BrokenServer:
    """Pages whose third one is broken: once, or always."""

    def __init__(self) -> None:
        self.requested: Counter[str] = Counter()

    async def respond(self, request: Received, writer: asyncio.StreamWriter) -> None:
        """Send the response to a request."""
        parts = urlsplit(request.path)
        query = {name: values[0] for name, values in parse_qs(parts.query).items()}
        page = int(query.get("page", 1)) + int(query.get("offset", 0)) // 2
        if request.body:
            page = int(orjson.loads(request.body)["variables"]["after"] or 1)
        key = f"{parts.path} {page} {' '.join(sorted(query))}"
        self.requested[key] += 1
        body = self.body(parts.path, query, page, is_first=self.requested[key] == 1)
        headers = (
            []
            if parts.path in FILES
            else JSON
            if not body.startswith(b"<")
            else [("Content-Type", "text/xml")]
        )
        writer.write(response(200, body, *headers))

    def body(self, path: str, query: dict[str, str], page: int, *, is_first: bool) -> bytes:
        """Return the body of a page."""
        records = [{"id": page * 2 + n, "at": f"2024-05-0{9 - page}"} for n in range(2)]
        if path in FILES:
            return FILES[path][:-5] if is_first else FILES[path]
        if path == "/graphql":
            items = {"nodes": records, "more": page < 5, "next": str(page + 1)}
            error = {"message": "internal error, try again", "path": ["items"]}
            if page == 3 and ("always" in query or ("once" in query and is_first)):
                return orjson.dumps({"data": None, "errors": [error]})
            errors = [error] if page == 3 and "partial" in query else []
            return orjson.dumps({"data": {"items": items}, "errors": errors})
        if path == "/bad/oai":
            return OAI.format("badArgument").encode()
        if path == "/none":
            return OAI.format("noRecordsMatch").encode()
        if path in ("/bad/first", "/bad/whole"):
            return orjson.dumps({"error": {"code": 498, "message": "Invalid token.", "details": []}})
        if path == "/accepted":
            return orjson.dumps({"error": "nothing today"})
        if path == "/bad/arcgis" and query.get("offset") == "4":
            return orjson.dumps({"error": {"code": 500, "message": "Error performing query operation"}})
        if path == "/bad/busy" and page == 3:
            return orjson.dumps({"status": "busy"})
        beside: dict[str, Any] = {"error": None, "errors": [], "success": True} if path == "/fine" else {}
        listed = records if page < 4 or "numbers" in path else []
        whole = orjson.dumps({"pages": 5, "items": listed, **beside})
        is_cut = page == 3 and (path == "/bad/numbers" or (path == "/numbers/cut" and is_first))
        return whole[:-10] if is_cut else whole


async def test_broken_pages_are_requested_again_and_never_end_a_page_sequence(tmp_path: Path) -> None:
    """A page that is broken once costs a retry; one that stays broken is a dead letter, and no state is stored."""
    broken = BrokenServer()
    async with serving(broken.respond) as server:
        (tmp_path / "broken.yaml").write_text(BROKEN.replace("URL", server.url))
        command = Command(tmp_path, "broken.yaml")
        output = await asyncio.to_thread(command.run, "--workers", "1", code=3)
    found = {name: len(command.jsonl(f"out/{name}.jsonl")) for name in sorted(NAMES)}
    assert found == {
        "often": 4,
        "graphql": 10,
        "partial": 10,
        "cut": 10,
        "dead": 8,
        "arcgis": 4,
        "busy": 4,
        "fine": 6,
        "first": 0,
        "unselected": 0,
        "oai": 0,
        "none": 0,
        "accepted": 0,
        "csv": 2,
        "lines": 2,
        "packed": 2,
        "xml": 2,
    }, output
    complete = {"graphql": "2024-05-08", "cut": "2024-05-08", "fine": "2024-05-08"}
    rows = dict.fromkeys(("csv", "lines", "packed"), "2024-05-02")
    assert await asyncio.to_thread(states_of, tmp_path, "broken.yaml") == {**complete, **rows}
    tries = {key: number for key, number in broken.requested.items() if number > 1}
    assert tries.pop("/graphql 3 always") == 5
    assert set(tries.values()) == {2}, tries
    for text in (
        "dead   often: the response states an error: internal error, try again",
        "dead   arcgis: the response states an error: Error performing query operation",
        "dead   busy: data_selector items matches on the first page but not on page 3; the response has status",
        "dead   first: the response states an error: Invalid token.",
        "dead   oai: the response states an error: badArgument: text",
        "missing   dead: 1 incomplete page sequence: page 3 is a dead letter, and the pages known to follow are",
        "missing   partial: 1 incomplete page sequence: a page has data beside an error (internal error, try again)",
    ):
        assert text in output
    for name in (*complete, "accepted", "none", "csv", "lines", "packed", "xml"):
        assert f"missing   {name}:" not in output


async def test_a_redrive_completes_the_page_sequence(tmp_path: Path) -> None:
    """The dead page and all pages after it are requested, the state is stored, and the run has nothing to report."""
    is_broken = True
    requested: list[str] = []

    async def respond(request: Received, writer: asyncio.StreamWriter) -> None:
        requested.append(parse_qs(urlsplit(request.path).query)["page"][0])
        page = int(requested[-1])
        body = {"pages": 4, "items": [{"id": page, "at": f"2024-05-0{page}"}]}
        writer.write(response(400 if is_broken and page == 2 else 200, orjson.dumps(body), *JSON))

    async with serving(respond) as server:
        (tmp_path / "redrive.yaml").write_text(REDRIVE.replace("URL", server.url))
        command = Command(tmp_path, "redrive.yaml")
        output = await asyncio.to_thread(command.run, "--workers", "1", code=3)
        assert "missing   numbers: 1 incomplete page sequence: page 2 is a dead letter" in output
        assert requested == ["1", "2", "3", "4"]
        is_broken = False
        redrive = [sys.executable, "-m", "scrapeq", "-c", "redrive.yaml", "dead", "redrive", "--all"]
        await asyncio.to_thread(subprocess.run, redrive, cwd=tmp_path, check=True, capture_output=True)
        output = await asyncio.to_thread(command.run, "--workers", "1")
    assert requested[4:] == ["2", "3", "4"]
    assert "missing" not in output
    assert [one["id"] for one in command.jsonl("out/numbers.jsonl")] == [1, 3, 4, 2]
    assert await asyncio.to_thread(states_of, tmp_path, "redrive.yaml") == {"numbers": "2024-05-04"}


REDRIVE = """\
version: 1
name: redrive
client: {base_url: "URL"}
resources:
  - name: numbers
    primary_key: id
    endpoint:
      path: numbers
      paginator: {type: page_number, total_path: pages}
      incremental: {cursor_path: at}
outputs: [{type: jsonl, path: "out/${resource}.jsonl"}]
"""


NAMES = (
    *("often", "graphql", "partial", "cut", "dead", "arcgis", "busy", "first", "unselected", "oai", "none"),
    *("accepted", "fine", "csv", "lines", "packed", "xml"),
)
