"""Scrape an unmodified datasette: thousands of rows by each style of pagination, declared and detected."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from api_scrapes import Command
from targets.environment import free_port, python_of, served

ROWS, SIZE = 5000, 500
CONFIG = """\
version: 1
name: datasette
client: {base_url: URL}
resource_defaults:
  endpoint: {params: {_size: 500}}
  primary_key: id
resources:
  - name: by_url
    endpoint:
      path: lab/samples.json
      params: {_shape: objects}
      data_selector: rows
      paginator: {type: json_link, next_url_path: next_url}
  - name: by_token
    endpoint:
      path: lab/samples.json
      params: {_shape: objects}
      data_selector: rows
      paginator: {type: cursor, cursor_path: next, cursor_param: _next}
  - name: by_header
    endpoint: {path: lab/samples.json, params: {_shape: array}, paginator: header_link}
  - name: by_lines
    endpoint: {path: lab/samples.json, params: {_shape: array, _nl: on}, decoder: jsonl, paginator: header_link}
  - name: found_objects
    endpoint: {path: lab/samples.json, params: {_shape: objects}, paginator: auto}
  - name: found_array
    endpoint: {path: lab/samples.json, params: {_shape: array}, paginator: auto}
  - name: found_compound
    endpoint: {path: lab/pairs.json, params: {_shape: objects}, paginator: auto}
    primary_key: [left, right]
  - name: by_stream
    endpoint: {path: lab/samples.csv, params: {_stream: on, _size: max}, decoder: csv}
    fields:
      id: {path: id, type: int}
      name: name
      value: {path: value, type: float}
      note: note
      at: at
  - name: tables
    endpoint: {path: lab.json, data_selector: "tables[?!hidden]", params: {_size: null}}
    fields: {name: name, count: count}
    primary_key: name
  - name: rows_of_tables
    parent: tables
    endpoint:
      path: lab/${parent.name}.json
      params: {_shape: objects}
      data_selector: rows
      paginator: {type: json_link, next_url_path: next_url}
    include_from_parent: [name]
    primary_key: null
    selected: false
outputs: [{type: jsonl, path: "out/${resource}.jsonl"}]
"""
ALL_ROWS = ("by_url", "by_token", "by_header", "by_lines", "found_objects", "found_array", "by_stream")


def database(path: Path) -> list[dict[str, Any]]:
    """Create a database with two tables; return the rows of the first."""
    rows: list[dict[str, Any]] = [
        {
            "id": number,
            "name": f"sample, no. {number} «é»",
            "value": number / 7,
            "note": None if number % 5 else f"a\nb {number}",
            "at": f"2025-01-{number % 28 + 1:02d}",
        }
        for number in range(1, ROWS + 1)
    ]
    with sqlite3.connect(path) as lab:
        lab.execute(
            "create table samples (id integer primary key, name text, value real, note text, at text)"
        )
        lab.executemany("insert into samples values (:id, :name, :value, :note, :at)", rows)
        lab.execute("create table pairs (left text, right integer, primary key (left, right))")
        lab.executemany("insert into pairs values (?, ?)", [(f"l/{n % 40}", n) for n in range(1200)])
    lab.close()
    return rows


@pytest.fixture
def datasette(tmp_path: Path) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """Yield the URL of a datasette server and the rows of its table `samples`."""
    python = python_of("datasette")
    rows = database(tmp_path / "lab.db")
    port = free_port()
    command = [str(python), "-m", "datasette", "serve", "lab.db", "-h", "127.0.0.1", "-p", str(port)]
    with served([*command, "--setting", "max_returned_rows", "1000"], port, tmp_path) as url:
        yield url, rows


def test_every_datasette_pagination_style_yields_all_rows(
    datasette: tuple[str, list[dict[str, Any]]], tmp_path: Path
) -> None:
    """Body and header links, cursors, JSON Lines, CSV and detected paginators all yield the rows of the database."""
    url, rows = datasette
    (tmp_path / "datasette.yaml").write_text(CONFIG.replace("URL", url))
    scrape = Command(tmp_path, "datasette.yaml")
    scrape.run()
    for name in ALL_ROWS:
        found = sorted(scrape.jsonl(f"out/{name}.jsonl"), key=lambda row: int(row["id"]))
        if name == "by_stream":  # CSV cannot represent null
            found = [{**row, "note": row["note"] or None} for row in found]
        assert found == rows, name
    pairs = {(row["left"], row["right"]) for row in scrape.jsonl("out/found_compound.jsonl")}
    assert pairs == {(f"l/{n % 40}", n) for n in range(1200)}
    tables = {row["name"]: row["count"] for row in scrape.jsonl("out/tables.jsonl")}
    assert tables == {"samples": ROWS, "pairs": 1200}
