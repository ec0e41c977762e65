"""The Parquet and WARC sinks: complete parts, each record once."""

from __future__ import annotations

import gzip
import os
from pathlib import Path
from typing import Any

import pyarrow.dataset
import pyarrow.parquet
import pytest
from sink_outputs import crash_in_commit, item, output, sink_at
from warcio.archiveiterator import ArchiveIterator
from warcio.checker import Checker

from scrapeq.page import Page
from scrapeq.protocols import Item
from scrapeq.sink import CommitRequest, OutputSet, SinkContext
from scrapeq.sink.ledger import Ledger


def parquet(folder: Path) -> list[dict[str, Any]]:
    """Return the rows of all parts in a folder."""
    parts = sorted(folder.glob("*.parquet"))
    return [row for path in parts for row in pyarrow.parquet.read_table(path).to_pylist()]


def test_parquet_parts_are_written_when_full_and_at_the_end(tmp_path: Path) -> None:
    """Committed items wait in the spool; types come from the records, nested values are JSON text."""
    out = output("parquet", "out/", rotate_bytes=200)
    record = {"i": 1, "f": 1.5, "b": True, "t": "x", "n": None, "j": [1, {"a": None}]}
    with sink_at(tmp_path, out) as sink:
        for number in range(6):
            sink.commit_many([(f"t{number}", "1.1", [Item("issues", str(number), {"id": number, **record})])])
        sink.commit_many([("u", "1.1", [item(7, "users")])])
    folder = tmp_path / "out/issues"
    assert len(list(folder.glob("*.parquet"))) >= 2
    assert parquet(folder) == [{"id": n, **record, "j": '[1,{"a":null}]'} for n in range(6)]
    assert parquet(tmp_path / "out/users") == [{"id": 7}]
    schema = pyarrow.parquet.read_schema(folder / "part-00001.parquet")
    assert [str(field.type) for field in schema] == [
        "int64",
        "int64",
        "double",
        "bool",
        "string",
        "string",
        "string",
    ]
    assert pyarrow.dataset.dataset(folder).count_rows() == 6
    with sink_at(tmp_path, out) as sink:
        assert sink.commit_many([("again", "1.1", [Item("issues", "1", {"id": 1, **record})])]) == [0]


@pytest.mark.parametrize("point", ["before the name", "before the ledger", "before the spool is empty"])
def test_a_crash_while_a_part_is_written_loses_and_repeats_nothing(tmp_path: Path, point: str) -> None:
    """The process is killed at each step in turn."""
    out = output("parquet", "out/${resource}/")
    child = os.fork()
    if child == 0:
        sink = OutputSet((out,), base=tmp_path)
        sink.commit_many([("t1", "1.1", [item(1), item(2)])])
        if point == "before the name":
            Path.replace = lambda *_: os._exit(9)  # type: ignore[method-assign]  # ends the fork
        elif point == "before the ledger":
            Ledger.set_file = lambda *_: os._exit(9)  # type: ignore[method-assign]  # as above
        else:
            os.truncate = lambda *_: os._exit(9)
        sink.finish()
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9
    with sink_at(tmp_path, out) as sink:
        assert sink.commit_many([("t2", "2.1", [item(2), item(3)])]) == [1]
    assert [row["id"] for row in parquet(tmp_path / "out/issues")] == [1, 2, 3]
    assert {path.name for path in (tmp_path / "out/issues").iterdir()} <= {
        ".part.jsonl",
        "part-00001.parquet",
        "part-00002.parquet",
    }


def test_an_old_spool_becomes_a_part_while_idle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The part is written once, when it is due."""
    now = [1_000.0]
    monkeypatch.setattr("scrapeq.sink.appended.time.time", lambda: now[0])
    with sink_at(tmp_path, output("parquet", "out/", rotate_s=60.0)) as sink:
        sink.commit_many([("t1", "1.1", [item(1)])])
        sink.on_idle()
        assert parquet(tmp_path / "out/issues") == []
        now[0] += 61
        sink.on_idle()
        sink.on_idle()
        assert parquet(tmp_path / "out/issues") == [{"id": 1}]
    assert len(list((tmp_path / "out/issues").glob("*.parquet"))) == 1


def test_columns_of_later_parts_keep_their_types(tmp_path: Path) -> None:
    """A column of nulls is text in later parts, too; new fields become new columns."""
    out = output("parquet", "out/", rotate_bytes=1)
    with sink_at(tmp_path, out) as sink:
        records: list[dict[str, Any]] = [{"a": 1, "n": None}, {"a": 2, "n": 5}, {"a": 2.5, "new": "x"}]
        for number, record in enumerate(records):
            sink.commit_many([(f"t{number}", "1.1", [Item("issues", str(number), record)])])
    folder = tmp_path / "out/issues"
    assert parquet(folder) == [{"a": 1, "n": None}, {"a": 2, "n": "5"}, {"a": 2.5, "n": None, "new": "x"}]


PAGE = Page(
    "https://user:pw@example.test/a?b=c",
    200,
    (
        ("Content-Type", "text/html"),
        ("Content-Encoding", "br"),
        ("Transfer-Encoding", "chunked"),
        ("Content-Length", "3"),
        ("Set-Cookie", "session=secret"),
        ("X-Twice", "1"),
        ("X-Twice", "2"),
    ),
    b"<p>\xff\r\n\r\nbody</p>",
)


def warc_records(*paths: Path) -> list[Any]:
    """Return type, headers and content of each record; check every file as `warcio check` does."""
    found = []
    for path in paths:
        checker = Checker(type("Asked", (), {"inputs": [str(path)], "verbose": False})())
        checker.process_all()
        assert checker.exit_value == 0
        with path.open("rb") as stream:
            for record in ArchiveIterator(stream):
                found.append((record, record.content_stream().read()))
    return found


def test_warc_has_a_request_and_a_response_for_each_page(tmp_path: Path) -> None:
    """The body is decoded and has its own length; credentials and cookies are removed; each page is written once."""
    out = output("warc", "out/warc/")
    with sink_at(tmp_path, out) as sink:
        sink.commit_many([CommitRequest("t1", "1.1", [item(1)], PAGE, "pages")])
        assert sink.commit_many([CommitRequest("t1", "1.1", [], PAGE, "pages")]) == [0]
        sink.commit_many(
            [CommitRequest("t2", "1.2", [], Page("http://e.test", 299, (), b"", method="POST"), "pages")]
        )
    (path,) = (tmp_path / "out/warc").glob("*.warc.gz")
    assert path.name == "api-00001.warc.gz"
    found = warc_records(path)
    assert [record.rec_type for record, _ in found] == ["warcinfo", *["response", "request"] * 2]
    (response, body), (request, _) = found[1], found[2]
    assert response.rec_headers.get_header("WARC-Target-URI") == "https://example.test/a?b=c"
    assert response.http_headers.statusline == "200 OK"
    assert body == PAGE.body
    names = [name.lower() for name, _ in response.http_headers.headers]
    assert names == ["content-type", "x-twice", "x-twice", "content-length"]
    assert response.http_headers.get_header("content-length") == str(len(PAGE.body))
    assert request.http_headers.protocol == "GET"
    assert request.rec_headers.get_header("WARC-Concurrent-To") == response.rec_headers.get_header(
        "WARC-Record-ID"
    )
    assert b"secret" not in gzip.decompress(path.read_bytes())
    assert b"pw@" not in gzip.decompress(path.read_bytes())


def test_warc_is_intact_after_a_crash_and_rotates(tmp_path: Path) -> None:
    """Each part starts with a warcinfo record; every record exists once."""
    out = output("warc", "out/${resource}/", rotate_bytes=1_500)
    pages = [Page(f"http://e.test/{n}", 200, (), os.urandom(400)) for n in range(8)]
    with sink_at(tmp_path, out) as sink:
        sink.commit_many([CommitRequest(f"t{n}", "1.1", [], pages[n], "pages") for n in range(4)])
    batch = [CommitRequest(f"t{n}", "2.1", [], pages[n], "pages") for n in range(2, 8)]
    crash_in_commit(tmp_path, batch, out)
    with sink_at(tmp_path, out) as sink:
        sink.commit_many(batch)
    parts = sorted((tmp_path / "out/pages").glob("api-*.warc.gz"))
    assert len(parts) > 1
    kinds = [record.rec_type for record, _ in warc_records(*parts)]
    assert kinds.count("response") == kinds.count("request") == 8
    assert kinds.count("warcinfo") == len(parts)


@pytest.mark.parametrize("gone", [".scrapeq-ledger.db", "issues/.part.jsonl"])
def test_existing_parts_are_never_replaced(tmp_path: Path, gone: str) -> None:
    """Even if the user removed the ledger or the spool, the next part gets another number."""
    out = output("parquet", "out/")
    for task in ("t1", "t2"):
        with sink_at(tmp_path, out) as sink:
            sink.commit_many([(task, "1.1", [Item("issues", task, {"id": task})])])
        if task == "t1":
            if gone.endswith("jsonl"):  # not empty
                killed = OutputSet([out], base=tmp_path, context=SinkContext(tmp_path, name="api"))
                killed.commit_many([("t0", "1.1", [Item("issues", "t0", {"id": "t0"})])])
                killed.close()
            (tmp_path / "out" / gone).unlink()
    assert [row["id"] for row in parquet(tmp_path / "out/issues")] == ["t1", "t2"]
