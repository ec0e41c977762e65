"""The real command reads what real servers send: numbers beyond 64 bits, broken characters, files in odd formats."""

from __future__ import annotations

import asyncio
import io
import re
import sqlite3
import zipfile
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import orjson
from api_scrapes import Command
from fetch_server import Received, response, serving

CONFIG = """\
version: 1
name: formats
client: {base_url: "URL"}
resources:
  - {name: wide, endpoint: wide, primary_key: id}
  - {name: cut, endpoint: {path: cut, paginator: page_number}, primary_key: id}
  - {name: numbers, endpoint: numbers}
  - {name: guarded, endpoint: guarded}
  - {name: utf16, endpoint: utf16}
  - {name: korean, endpoint: korean}
  - {name: entities, endpoint: entities}
  - {name: plain, endpoint: {path: plain.csv, decoder: {type: csv, header: [id, name]}}}
  - {name: guessed, endpoint: plain.csv}
  - {name: report, endpoint: report.csv}
  - {name: titles, endpoint: titles.tsv}
  - {name: zipped, endpoint: {path: year.zip, decoder: {files: "*.csv"}}, primary_key: id}
  - {name: keyed, endpoint: {path: keyed, data_selector: quotes, key_as: symbol}, primary_key: symbol}
  - {name: columns, endpoint: columns}
  - {name: login, endpoint: {path: login.csv, decoder: csv}}
  - {name: error, endpoint: {path: error.csv, decoder: csv}}
  - {name: nothing, endpoint: broken}
outputs:
  - {type: jsonl, path: "out/${resource}.jsonl"}
  - {type: sqlite, path: out/all.db}
"""
LOGIN = b"<!DOCTYPE html>\n<html>\n<head><title>Sign in, please</title></head>\n<body>\n</body></html>\n"
BODIES: dict[str, tuple[bytes, str]] = {
    "/wide": (
        b'[{"id":18446744073709551617,"b":"z"},{"id":18446744073709551618,"b":"w"}]',
        "application/json",
    ),
    "/numbers": (b'[{"a":NaN,"b":-Infinity,"c":1e400,"d":1}]', "application/json"),
    "/guarded": (b")]}',\n" + b'[{"a":1}]', "application/json"),
    "/utf16": ('[{"a":"ü"}]'.encode("utf-16"), "application/json; charset=utf-16le"),
    "/korean": ('<?xml version="1.0" encoding="euc-kr"?><r><a>한국</a></r>'.encode("euc-kr"), "text/xml"),
    "/entities": (b'\n<!DOCTYPE r [<!ENTITY c "Acme">]><r><a>&c;</a></r>', "text/xml"),
    "/plain.csv": (b"1,alice\n2,bob\n", "text/csv"),
    "/report.csv": (b"Report: sales\nDates: 2024\n\nid,v\n1,a\n2,b\n", "text/csv"),
    "/titles.tsv": (
        b'id\ttitle\nt1\t"Giliap\nt2\tAlpha\nt3\tBeta" x\nt4\tGamma\n',
        "text/tab-separated-values",
    ),
    "/keyed": (b'{"quotes":{"A":{"p":1},"B":{"p":2}}}', "application/json"),
    "/columns": (b'{"columns":["a","b"],"rows":[[1,2],[3,4]]}', "application/json"),
    "/login.csv": (LOGIN, "text/html"),
    "/error.csv": (b'{"error":"no such export"}', "application/json"),
    "/broken": (b'{"a":', "application/json"),
}


def zip_of_months() -> bytes:
    """Return a zip file of two CSV files and a note."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for name, text in (("1.csv", "id,v\na,1\n"), ("read me.txt", "x"), ("more/2.csv", "id,w\nb,2\n")):
            archive.writestr(name, text)
    return packed.getvalue()


def body_of(path: str, page: int) -> tuple[bytes, str]:
    """Return the body and the media type of a request."""
    if path == "/year.zip":
        return zip_of_months(), "application/zip"
    if path != "/cut":
        return BODIES[path]
    if page == 2:
        return rb'[{"id":21,"t":"ok"},{"id":22,"t":"cut off here \ud83d"}]', "application/json"
    return orjson.dumps([{"id": page * 10 + n} for n in (1, 2)] if page < 5 else []), "application/json"


async def test_values_arrive_as_they_were_sent(tmp_path: Path) -> None:
    """
    Each record of each format is written once and exactly; what was repaired or guessed is a line.

    Only three pages are dead letters: an HTML page and a JSON error in the place of CSV, each in the words of the
    response, and a body that is not JSON.
    """

    async def respond(request: Received, writer: asyncio.StreamWriter) -> None:
        parts = urlsplit(request.path)
        body, kind = body_of(parts.path, int(parse_qs(parts.query).get("page", ["1"])[0]))
        writer.write(response(200, body, ("Content-Type", kind)))

    async with serving(respond) as server:
        (tmp_path / "formats.yaml").write_text(CONFIG.replace("URL", server.url))
        command = Command(tmp_path, "formats.yaml")
        output = await asyncio.to_thread(command.run, "--workers", "1", code=3)
    names = re.findall(r"- {name: (\w+)", CONFIG)
    found = {name: command.jsonl(f"out/{name}.jsonl") for name in names}
    wide = [{"id": "18446744073709551617", "b": "z"}, {"id": "18446744073709551618", "b": "w"}]
    people = [{"id": "1", "name": "alice"}, {"id": "2", "name": "bob"}]
    assert found == {
        "wide": wide,
        "cut": [
            *({"id": number} for number in (11, 12)),
            {"id": 21, "t": "ok"},
            {"id": 22, "t": "cut off here \ufffd"},
            *({"id": number} for number in (31, 32, 41, 42)),
        ],
        "numbers": [{"a": None, "b": None, "c": None, "d": 1}],
        "guarded": [{"a": 1}],
        "utf16": [{"a": "ü"}],
        "korean": [{"a": "한국"}],
        "entities": [{"a": "Acme"}],
        "plain": people,
        "guessed": [{"1": "2", "alice": "bob"}],
        "report": [{"id": "1", "v": "a"}, {"id": "2", "v": "b"}],
        "titles": [
            {"id": "t1", "title": '"Giliap'},
            {"id": "t2", "title": "Alpha"},
            {"id": "t3", "title": 'Beta" x'},
            {"id": "t4", "title": "Gamma"},
        ],
        "zipped": [{"id": "a", "v": "1"}, {"id": "b", "w": "2"}],
        "keyed": [{"symbol": "A", "p": 1}, {"symbol": "B", "p": 2}],
        "columns": [{"a": 1, "b": 2}, {"a": 3, "b": 4}],
        "login": [],
        "error": [],
        "nothing": [],
    }  # fmt: skip
    with sqlite3.connect(tmp_path / "out/all.db") as database:
        assert database.execute("select id, b from wide order by id").fetchall() == [
            (one["id"], one["b"]) for one in wide
        ]
    for line in (
        "not CSV but an HTML page; it begins with: Sign in, please",
        'not CSV but application/json; it begins with: {"error":"no such export"}',
        "check  numbers: ",
        "check  cut: ",
        "check  guessed: ",
        "check  report: ",
    ):
        assert output.count(line) >= 1, output
    assert output.count("check  ") == 4, output
