"""The sinks of files: packed and rotating JSON Lines, CSV, Parquet, WARC; whole after a crash, inside their folder."""

from __future__ import annotations

import csv
import gzip
import io
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

import orjson
import pyarrow.dataset
import pyarrow.parquet
import pytest
import zstandard
from warcio.archiveiterator import ArchiveIterator
from warcio.checker import Checker

from scrapeq import plan
from scrapeq.errors import OutputError, UsageError
from scrapeq.expression import compile_template
from scrapeq.page import Page
from scrapeq.protocols import Item
from scrapeq.sink import BatchSink, OutputSet, Record, Request, SinkContext, outputs
from scrapeq.sink.ledger import Ledger
from scrapeq.sink.places import safe

PACKED = (".jsonl.gz", ".jsonl.zst")


def output(type_: str, path: str = "", **more: Any) -> plan.Output:
    return plan.Output(type_, compile_template(path) if path else None, **more)


@contextmanager
def sink_at(base: Path, *all_: plan.Output, **more: Any) -> Iterator[OutputSet]:
    sink = OutputSet(all_, base=base, context=SinkContext(base, name="api", **more))
    try:
        yield sink
        sink.finish()
    finally:
        sink.close()


def item(number: int, resource: str = "issues", **more: Any) -> Item:
    return Item(resource, str(number), {"id": number, **more})


def text(path: Path) -> str:
    """A file, unpacked."""
    data = path.read_bytes()
    if path.suffix == ".gz":
        data = gzip.decompress(data)
    if path.suffix == ".zst":
        with zstandard.ZstdDecompressor().stream_reader(io.BytesIO(data), read_across_frames=True) as reader:
            data = reader.read()
    return data.decode()


def ids(*paths: Path) -> list[int]:
    return [orjson.loads(line)["id"] for path in paths for line in text(path).splitlines()]


def table(path: Path) -> list[dict[str, str]]:
    """A CSV file."""
    content = text(path)
    assert content.endswith("\n")
    return list(csv.DictReader(io.StringIO(content)))


def crash_in_commit(base: Path, requests: list[Any], *all_: plan.Output) -> None:
    """A process that dies when all is written and nothing is committed."""
    child = os.fork()
    if child == 0:
        sink = OutputSet(all_, base=base, context=SinkContext(base, name="api"))
        sink.check()
        Ledger.set_tokens = lambda *_: os._exit(9)  # type: ignore[method-assign]
        sink.commit_many(requests)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9


@pytest.mark.parametrize("ending", PACKED)
def test_packed_files_are_whole_after_a_crash(tmp_path: Path, ending: str) -> None:
    """A frame for each commit; what was not committed is cut off, and written by the repeat."""
    out = output("jsonl", "out/${resource}" + ending)
    with sink_at(tmp_path, out) as sink:
        sink.commit_many([("t1", "1.1", [item(1)])])
    crash_in_commit(tmp_path, [("t2", "2.1", [item(2)])], out)
    path = tmp_path / f"out/issues{ending}"
    assert ids(path) == [1, 2]
    with sink_at(tmp_path, out) as sink:
        sink.check()
        assert ids(path) == [1]
        assert sink.commit_many([("t2", "2.1", [item(2)])]) == [1]
    assert ids(path) == [1, 2]


@pytest.mark.parametrize("ending", [".jsonl", *PACKED])
def test_a_file_with_a_bound_is_a_row_of_parts(tmp_path: Path, ending: str) -> None:
    """Closed parts are the user's: what is moved away is not written again, numbers go on."""
    out = output("jsonl", "out/${resource}" + ending, rotate_bytes=2_000)
    with sink_at(tmp_path, out) as sink:
        for start in range(0, 500, 100):
            sink.commit_many(
                [(f"t{start}", "1.1", [item(n, x=os.urandom(20).hex()) for n in range(start, start + 100)])]
            )
    parts = sorted((tmp_path / "out").glob("issues*"))
    assert [path.name for path in parts] == [f"issues-{n:05d}{ending}" for n in range(1, len(parts) + 1)]
    assert len(parts) > 3
    assert all(path.stat().st_size < 4_500 for path in parts)
    assert ids(*parts) == list(range(500))
    parts[0].unlink()
    with sink_at(tmp_path, out) as sink:
        assert sink.commit_many([("again", "1.1", [item(500)])]) == [1]
    assert ids(*sorted((tmp_path / "out").glob("issues*")))[-1] == 500
    assert not parts[0].exists()


def test_a_crash_in_a_new_part_leaves_no_part_behind(tmp_path: Path) -> None:
    """Parts that were begun in a commit that did not count are removed, and written by the repeat."""
    out = output("jsonl", "out/all.jsonl", rotate_bytes=100)
    big = [item(n, x="x" * 60) for n in range(1, 6)]
    with sink_at(tmp_path, out) as sink:
        sink.commit_many([("t1", "1.1", [item(0, x="x" * 60)])])
    crash_in_commit(tmp_path, [("t2", "2.1", big)], out)
    assert len(list((tmp_path / "out").glob("all-*"))) > 2
    with sink_at(tmp_path, out) as sink:
        sink.check()
        assert ids(*sorted((tmp_path / "out").glob("all-*"))) == [0]
        assert sink.commit_many([("t2", "2.1", big)]) == [5]
    assert ids(*sorted((tmp_path / "out").glob("all-*"))) == list(range(6))


def test_a_file_that_gets_a_bound_stays_as_it_is(tmp_path: Path) -> None:
    """It is the first part, under its own name; parts of somebody else are left alone."""
    with sink_at(tmp_path, output("jsonl", "out/all.jsonl")) as sink:
        sink.commit_many([("t1", "1.1", [item(1)])])
    (tmp_path / "out/all-00001.jsonl").write_text("mine")
    with sink_at(tmp_path, output("jsonl", "out/all.jsonl", rotate_bytes=10)) as sink:
        assert sink.commit_many([("t2", "2.1", [item(1), item(2)])]) == [1]
    assert ids(tmp_path / "out/all.jsonl") == [1]
    assert ids(tmp_path / "out/all-00002.jsonl") == [2]
    assert (tmp_path / "out/all-00001.jsonl").read_text() == "mine"


def test_an_old_part_is_closed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By age, counted from its first line."""
    now = [1_000.0]
    monkeypatch.setattr("scrapeq.sink.appended.time.time", lambda: now[0])
    out = output("jsonl", "out/all.jsonl", rotate_s=60.0)
    with sink_at(tmp_path, out) as sink:
        for number in range(4):
            sink.commit_many([(f"t{number}", "1.1", [item(number)])])
            now[0] += 35
    parts = sorted((tmp_path / "out").glob("all-*"))
    assert [ids(path) for path in parts] == [[0, 1], [2, 3]]


@pytest.mark.parametrize(
    ("value", "name"),
    [
        ("../../etc/passwd", ".._.._etc_passwd"),
        ("..", "__"),
        (".", "_"),
        ("", "_"),
        (None, "_"),
        ("a/b\\c\0\n", "a_b_c__"),
        (5, "5"),
        ({"x": 1}, '{"x":1}'),
        ("é" * 200, None),
    ],
)
def test_a_seeds_value_names_a_file_inside_the_folder(tmp_path: Path, value: Any, name: str | None) -> None:
    """No separators, no dots alone, no control characters; what is too long is cut and told apart."""
    with sink_at(tmp_path, output("jsonl", "out/${seed.x}.jsonl")) as sink:
        sink.commit_many([("t1", "1.1", [Item("issues", "1", {"id": 1}, {"x": value})])])
    (path,) = (tmp_path / "out").glob("*.jsonl")
    assert path.parent == tmp_path / "out"
    assert path.stem == (name if name is not None else safe(value))
    assert len(os.fsencode(path.name)) < 120


def test_many_seeds_are_many_files(tmp_path: Path) -> None:
    """More than a process may hold open at once."""
    out = output("jsonl", "out/${seed.repo}/${resource}.jsonl")
    items = [Item("issues", str(n), {"id": n}, {"repo": f"r{n}"}) for n in range(1_500)]
    with sink_at(tmp_path, out) as sink:
        assert sink.commit_many([("t1", "1.1", items)]) == [1_500]
        assert len(os.listdir("/proc/self/fd")) < 400
        assert sink.commit_many([("t2", "2.1", items[:5])]) == [0]
    assert len(list((tmp_path / "out").glob("*/issues.jsonl"))) == 1_500


@pytest.mark.parametrize("ending", [".csv", ".csv.gz", ".csv.zst"])
def test_csv_has_one_header_and_grows_new_columns(tmp_path: Path, ending: str) -> None:
    """A later field is a column behind the others: older rows are empty there; nested values are JSON."""
    out = output("csv", "out/${resource}" + ending)
    with sink_at(tmp_path, out) as sink:
        sink.commit_many([("t1", "1.1", [item(1, text='a "b",\n\r c', none=None, flag=True)])])
        sink.commit_many([("t2", "2.1", [item(2, tags=["x", {"y": 1}], flag=False)])])
    with sink_at(tmp_path, out) as sink:
        sink.commit_many(
            [("t3", "3.1", [item(1, text='a "b",\n\r c', none=None, flag=True), item(3, last=1.5)])]
        )
    path = tmp_path / f"out/issues{ending}"
    assert text(path).splitlines()[0] == "id,text,none,flag,tags,last"
    assert table(path) == [
        {"id": "1", "text": 'a "b",\n\r c', "none": "", "flag": "true", "tags": "", "last": ""},
        {"id": "2", "text": "", "none": "", "flag": "false", "tags": '["x",{"y":1}]', "last": ""},
        {"id": "3", "text": "", "none": "", "flag": "", "tags": "", "last": "1.5"},
    ]


@pytest.mark.parametrize("point", ["set_file", "replace"])
def test_a_crash_while_a_header_grows_leaves_a_whole_file(tmp_path: Path, point: str) -> None:
    """Before the ledger knows of the larger file the old one counts, afterwards the larger one does."""
    out = output("csv", "out/all.csv")
    with sink_at(tmp_path, out) as sink:
        sink.commit_many([("t1", "1.1", [item(1)])])
    child = os.fork()
    if child == 0:
        sink = OutputSet((out,), base=tmp_path)
        sink.check()
        if point == "set_file":
            Ledger.set_file = lambda *_: os._exit(9)  # type: ignore[method-assign]
        else:
            Path.replace = lambda *_: os._exit(9)  # type: ignore[method-assign,assignment]
        sink.commit_many([("t2", "2.1", [item(2, more=5)])])
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9
    with sink_at(tmp_path, out) as sink:
        assert sink.commit_many([("t2", "2.1", [item(2, more=5), item(1)])]) == [1]
    assert table(tmp_path / "out/all.csv") == [{"id": "1", "more": ""}, {"id": "2", "more": "5"}]
    assert [path.name for path in (tmp_path / "out").iterdir() if "rewriting" in path.name] == []


def test_csv_parts_have_headers_of_their_own(tmp_path: Path) -> None:
    """Each part begins with one."""
    out = output("csv", "out/all.csv", rotate_bytes=30)
    with sink_at(tmp_path, out) as sink:
        sink.commit_many([("t1", "1.1", [item(n, x="x" * 10) for n in range(4)])])
        sink.commit_many([("t2", "2.1", [item(4, y=1)])])
    parts = sorted((tmp_path / "out").glob("all-*.csv"))
    assert [row["id"] for path in parts for row in table(path)] == ["0", "1", "2", "3", "4"]
    assert len(parts) == 2
    assert text(parts[-1]).startswith("id,x,y\n")


def test_csv_of_somebody_else_is_continued_under_its_header(tmp_path: Path) -> None:
    """Its first line says the columns."""
    (tmp_path / "out").mkdir()
    (tmp_path / "out/all.csv").write_text("name,id\nfirst,0")
    with sink_at(tmp_path, output("csv", "out/all.csv")) as sink:
        sink.commit_many([("t1", "1.1", [item(1)])])
    assert table(tmp_path / "out/all.csv") == [{"name": "first", "id": "0"}, {"name": "", "id": "1"}]


def parquet(folder: Path) -> list[dict[str, Any]]:
    """All parts of a folder."""
    parts = sorted(folder.glob("*.parquet"))
    return [row for path in parts for row in pyarrow.parquet.read_table(path).to_pylist()]


def test_parquet_parts_come_at_the_bound_and_at_the_end(tmp_path: Path) -> None:
    """What is committed waits in the spool; types come from the records, nested values are JSON text."""
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
def test_a_crash_while_a_part_is_made_loses_and_repeats_nothing(tmp_path: Path, point: str) -> None:
    """At any step of it."""
    out = output("parquet", "out/${resource}/")
    child = os.fork()
    if child == 0:
        sink = OutputSet((out,), base=tmp_path)
        sink.commit_many([("t1", "1.1", [item(1), item(2)])])
        if point == "before the name":
            Path.replace = lambda *_: os._exit(9)  # type: ignore[method-assign,assignment]
        elif point == "before the ledger":
            Ledger.set_file = lambda *_: os._exit(9)  # type: ignore[method-assign]
        else:
            os.truncate = lambda *_: os._exit(9)  # type: ignore[assignment]
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


def test_columns_of_later_parts_keep_their_types(tmp_path: Path) -> None:
    """A column of nulls is one of text from then on; new fields are new columns."""
    out = output("parquet", "out/", rotate_bytes=1)
    with sink_at(tmp_path, out) as sink:
        for number, record in enumerate([{"a": 1, "n": None}, {"a": 2, "n": 5}, {"a": 2.5, "new": "x"}]):
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
    """Type, headers and content of each record; every file is checked as `warcio check` does."""
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
    """The body as it was read, with its own length; neither credentials nor cookies; one each, whatever is repeated."""
    out = output("warc", "out/warc/")
    with sink_at(tmp_path, out) as sink:
        sink.commit_many([Request("t1", "1.1", [item(1)], PAGE, "pages")])
        assert sink.commit_many([Request("t1", "1.1", [], PAGE, "pages")]) == [0]
        sink.commit_many(
            [Request("t2", "1.2", [], Page("http://e.test", 299, (), b"", method="POST"), "pages")]
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


def test_warc_is_whole_after_a_crash_and_rotates(tmp_path: Path) -> None:
    """Each part begins with its warcinfo; no record is there twice."""
    out = output("warc", "out/${resource}/", rotate_bytes=1_500)
    pages = [Page(f"http://e.test/{n}", 200, (), os.urandom(400)) for n in range(8)]
    with sink_at(tmp_path, out) as sink:
        sink.commit_many([Request(f"t{n}", "1.1", [], pages[n], "pages") for n in range(4)])
    rest = [Request(f"t{n}", "2.1", [], pages[n], "pages") for n in range(2, 8)]
    crash_in_commit(tmp_path, rest, out)
    with sink_at(tmp_path, out) as sink:
        sink.commit_many(rest)
    parts = sorted((tmp_path / "out/pages").glob("api-*.warc.gz"))
    assert len(parts) > 1
    kinds = [record.rec_type for record, _ in warc_records(*parts)]
    assert kinds.count("response") == kinds.count("request") == 8
    assert kinds.count("warcinfo") == len(parts)


def test_lines_on_standard_output(tmp_path: Path) -> None:
    """Every record once a task, on the descriptor that is given; a reader that has gone is one error."""
    reader, writer = os.pipe()
    with sink_at(tmp_path, output("stdout"), stdout=writer) as sink:
        assert sink.commit_many([("t1", "1.1", [item(1), item(2)])]) == [2]
        assert sink.commit_many([("t1", "1.1", [item(1)]), ("t2", "2.1", [item(1)])]) == [0, 1]
        assert os.read(reader, 1_000) == b'{"id":1}\n{"id":2}\n{"id":1}\n'
        os.close(reader)
        with pytest.raises(OutputError, match="stdout: the output cannot be written: Broken pipe"):
            sink.commit_many([("t3", "3.1", [item(3)])])
    os.close(writer)


def test_a_line_after_a_kill_is_a_line_of_its_own(tmp_path: Path) -> None:
    """The process before may have died in the middle of one."""
    reader, writer = os.pipe()
    with sink_at(tmp_path, output("stdout"), stdout=writer, restarted=True) as sink:
        sink.commit_many([("t1", "1.1", [item(1)])])
        sink.commit_many([("t2", "1.1", [item(2)])])
    assert os.read(reader, 1_000) == b'\n{"id":1}\n{"id":2}\n'
    os.close(reader)
    os.close(writer)


class Kept(BatchSink):
    """An output as another package would write it."""

    batches: ClassVar[list[list[Record]]] = []

    def write_batch(self, records: Any) -> None:
        self.batches.append(list(records))


def test_an_output_of_another_package_is_given_what_is_new(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By its entry point; the books are kept for it, between runs, too."""
    monkeypatch.setattr(
        outputs.plugins, "load", lambda group, name: {("scrapeq.sinks", "kept"): Kept}[group, name]
    )
    monkeypatch.setattr(Kept, "batches", [])
    with sink_at(tmp_path, output("kept", options={"a": 1})) as sink:
        assert sink.commit_many([("t1", "1.1", [item(1), item(2), item(1)])]) == [2]
    with sink_at(tmp_path, output("kept", options={"a": 1})) as sink:
        assert sink.commit_many([("t2", "2.1", [item(1), item(2, x=1)])]) == [1]
    with sink_at(tmp_path, output("kept", options={"a": 2})) as sink:
        assert sink.commit_many([("t3", "3.1", [item(1)])]) == [1]
    assert [[record.item.record["id"] for record in batch] for batch in Kept.batches] == [[1, 2], [2], [1]]


def test_what_an_output_cannot_do_is_one_error_at_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disposition, an extra that is missing, a type that nobody adds, two outputs of one file."""
    with pytest.raises(OutputError, match="jsonl: write_disposition: merge is not possible here"):
        OutputSet((output("jsonl", "a.jsonl", write_disposition="merge"),), base=tmp_path)
    with pytest.raises(UsageError, match="no package adds 'nothing'"):
        OutputSet((output("nothing"),), base=tmp_path)
    monkeypatch.setattr("scrapeq.plugins.find_spec", lambda name: None)
    with pytest.raises(
        UsageError, match=r"parquet needs the package pyarrow: pip install 'scrapeq\[parquet\]'"
    ):
        OutputSet((output("parquet", "out/"),), base=tmp_path)
    same = (output("jsonl", "out/all.jsonl"), output("jsonl", "out/${resource}.jsonl"))
    with (
        sink_at(tmp_path, *same) as sink,
        pytest.raises(OutputError, match=r"all\.jsonl: two outputs write to it"),
    ):
        sink.commit_many([("t1", "1.1", [item(1, "all")])])


def test_a_damaged_packed_file_is_put_aside(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Shortened by hand, nothing in it can be told: its items are written again."""
    out = output("jsonl", "out/all.jsonl.zst")
    with sink_at(tmp_path, out) as sink:
        sink.commit_many([("t1", "1.1", [item(1)])])
    os.truncate(tmp_path / "out/all.jsonl.zst", 5)
    with caplog.at_level(logging.WARNING), sink_at(tmp_path, out) as sink:
        assert sink.commit_many([("t2", "2.1", [item(1)])]) == [1]
    assert "written again" in caplog.text
    assert ids(tmp_path / "out/all.jsonl.zst") == [1]
    assert (tmp_path / "out/all.jsonl.zst.damaged").stat().st_size == 5
