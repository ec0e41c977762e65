"""The file sinks: compressed and rotating JSON Lines, CSV; consistent after a crash, inside their folder."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Any

import pytest
from sink_outputs import crash_in_commit, ids, item, output, sink_at, table, text

from scrapeq.errors import OutputError
from scrapeq.protocols import Item
from scrapeq.sink import OutputSet
from scrapeq.sink.ledger import Ledger
from scrapeq.sink.output_paths import safe_name

COMPRESSED = (".jsonl.gz", ".jsonl.zst")


@pytest.mark.parametrize("suffix", COMPRESSED)
def test_compressed_files_are_intact_after_a_crash(tmp_path: Path, suffix: str) -> None:
    """Each commit is a frame; uncommitted frames are cut off and written by the repetition."""
    out = output("jsonl", "out/${resource}" + suffix)
    with sink_at(tmp_path, out) as sink:
        sink.commit_many([("t1", "1.1", [item(1)])])
    crash_in_commit(tmp_path, [("t2", "2.1", [item(2)])], out)
    path = tmp_path / f"out/issues{suffix}"
    assert ids(path) == [1, 2]
    with sink_at(tmp_path, out) as sink:
        sink.check()
        assert ids(path) == [1]
        assert sink.commit_many([("t2", "2.1", [item(2)])]) == [1]
    assert ids(path) == [1, 2]


@pytest.mark.parametrize("suffix", [".jsonl", *COMPRESSED])
def test_a_rotating_file_is_a_series_of_parts(tmp_path: Path, suffix: str) -> None:
    """Closed parts belong to the user: a part that was moved away is not written again, and the numbers go on."""
    out = output("jsonl", "out/${resource}" + suffix, rotate_bytes=2_000)
    with sink_at(tmp_path, out) as sink:
        for start in range(0, 500, 100):
            sink.commit_many(
                [(f"t{start}", "1.1", [item(n, x=os.urandom(20).hex()) for n in range(start, start + 100)])]
            )
    parts = sorted((tmp_path / "out").glob("issues*"))
    assert [path.name for path in parts] == [f"issues-{n:05d}{suffix}" for n in range(1, len(parts) + 1)]
    assert len(parts) > 3
    assert all(path.stat().st_size < 4_500 for path in parts)
    assert ids(*parts) == list(range(500))
    parts[0].unlink()
    with sink_at(tmp_path, out) as sink:
        assert sink.commit_many([("again", "1.1", [item(500)])]) == [1]
    assert ids(*sorted((tmp_path / "out").glob("issues*")))[-1] == 500
    assert not parts[0].exists()


def test_uncommitted_parts_are_removed_after_a_crash(tmp_path: Path) -> None:
    """The repetition writes them again."""
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


def test_a_file_keeps_its_name_when_rotation_is_added(tmp_path: Path) -> None:
    """It counts as the first part; parts of another program stay untouched."""
    with sink_at(tmp_path, output("jsonl", "out/all.jsonl")) as sink:
        sink.commit_many([("t1", "1.1", [item(1)])])
    (tmp_path / "out/all-00001.jsonl").write_text("mine")
    with sink_at(tmp_path, output("jsonl", "out/all.jsonl", rotate_bytes=10)) as sink:
        assert sink.commit_many([("t2", "2.1", [item(1), item(2)])]) == [1]
    assert ids(tmp_path / "out/all.jsonl") == [1]
    assert ids(tmp_path / "out/all-00002.jsonl") == [2]
    assert (tmp_path / "out/all-00001.jsonl").read_text() == "mine"


def test_an_old_part_is_closed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The age counts from the first line."""
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
def test_a_value_of_a_seed_names_a_file_inside_the_folder(
    tmp_path: Path, value: Any, name: str | None
) -> None:
    """Separators, control characters and names of dots are replaced; long values are truncated but distinct."""
    with sink_at(tmp_path, output("jsonl", "out/${seed.x}.jsonl")) as sink:
        sink.commit_many([("t1", "1.1", [Item("issues", "1", {"id": 1}, {"x": value})])])
    (path,) = (tmp_path / "out").glob("*.jsonl")
    assert path.parent == tmp_path / "out"
    assert path.stem == (name if name is not None else safe_name(value))
    assert len(os.fsencode(path.name)) < 120


def test_many_seeds_are_many_files(tmp_path: Path) -> None:
    """There are more files than a process may have open at once."""
    out = output("jsonl", "out/${seed.repo}/${resource}.jsonl")
    items = [Item("issues", str(n), {"id": n}, {"repo": f"r{n}"}) for n in range(400)]
    with sink_at(tmp_path, out) as sink:
        assert sink.commit_many([("t1", "1.1", items)]) == [400]
        assert len(os.listdir("/proc/self/fd")) < 300
        assert sink.commit_many([("t2", "2.1", items[:5])]) == [0]
    assert len(list((tmp_path / "out").glob("*/issues.jsonl"))) == 400


@pytest.mark.parametrize("suffix", [".csv", ".csv.gz", ".csv.zst"])
def test_csv_has_one_header_and_gets_new_columns(tmp_path: Path, suffix: str) -> None:
    """A new field becomes the last column, empty in older rows; nested values are JSON."""
    out = output("csv", "out/${resource}" + suffix)
    with sink_at(tmp_path, out) as sink:
        sink.commit_many([("t1", "1.1", [item(1, text='a "b",\n\r c', none=None, flag=True)])])
        sink.commit_many([("t2", "2.1", [item(2, tags=["x", {"y": 1}], flag=False)])])
    with sink_at(tmp_path, out) as sink:
        sink.commit_many(
            [("t3", "3.1", [item(1, text='a "b",\n\r c', none=None, flag=True), item(3, last=1.5)])]
        )
    path = tmp_path / f"out/issues{suffix}"
    assert text(path).splitlines()[0] == "id,text,none,flag,tags,last"
    assert table(path) == [
        {"id": "1", "text": 'a "b",\n\r c', "none": "", "flag": "true", "tags": "", "last": ""},
        {"id": "2", "text": "", "none": "", "flag": "false", "tags": '["x",{"y":1}]', "last": ""},
        {"id": "3", "text": "", "none": "", "flag": "", "tags": "", "last": "1.5"},
    ]


@pytest.mark.parametrize("point", ["set_file", "replace"])
def test_a_crash_during_a_rewrite_leaves_an_intact_file(tmp_path: Path, point: str) -> None:
    """Until the ledger has recorded the longer file the old one counts, then the longer one."""
    out = output("csv", "out/all.csv")
    with sink_at(tmp_path, out) as sink:
        sink.commit_many([("t1", "1.1", [item(1)])])
    child = os.fork()
    if child == 0:
        sink = OutputSet((out,), base=tmp_path)
        sink.check()
        if point == "set_file":
            Ledger.set_file = lambda *_: os._exit(9)  # type: ignore[method-assign]  # ends the fork
        else:
            Path.replace = lambda *_: os._exit(9)  # type: ignore[method-assign]  # ends the fork
        sink.commit_many([("t2", "2.1", [item(2, more=5)])])
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9
    with sink_at(tmp_path, out) as sink:
        assert sink.commit_many([("t2", "2.1", [item(2, more=5), item(1)])]) == [1]
    assert table(tmp_path / "out/all.csv") == [{"id": "1", "more": ""}, {"id": "2", "more": "5"}]
    assert [path.name for path in (tmp_path / "out").iterdir() if "rewriting" in path.name] == []


def test_every_csv_part_has_a_header(tmp_path: Path) -> None:
    """Covers the first part and the later ones."""
    out = output("csv", "out/all.csv", rotate_bytes=30)
    with sink_at(tmp_path, out) as sink:
        sink.commit_many([("t1", "1.1", [item(n, x="x" * 10) for n in range(4)])])
        sink.commit_many([("t2", "2.1", [item(4, y=1)])])
    parts = sorted((tmp_path / "out").glob("all-*.csv"))
    assert [row["id"] for path in parts for row in table(path)] == ["0", "1", "2", "3", "4"]
    assert len(parts) == 2
    assert text(parts[-1]).startswith("id,x,y\n")


def test_csv_of_another_program_is_continued_under_its_header(tmp_path: Path) -> None:
    """The first line of the file names the columns."""
    (tmp_path / "out").mkdir()
    (tmp_path / "out/all.csv").write_text("name,id\nfirst,0")
    with sink_at(tmp_path, output("csv", "out/all.csv")) as sink:
        sink.commit_many([("t1", "1.1", [item(1)])])
    assert table(tmp_path / "out/all.csv") == [{"name": "first", "id": "0"}, {"name": "", "id": "1"}]


def test_a_damaged_compressed_file_is_moved_aside(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """After the user shortened it, its content is unknown; its items are written again."""
    out = output("jsonl", "out/all.jsonl.zst")
    with sink_at(tmp_path, out) as sink:
        sink.commit_many([("t1", "1.1", [item(1)])])
    os.truncate(tmp_path / "out/all.jsonl.zst", 5)
    with caplog.at_level(logging.WARNING), sink_at(tmp_path, out) as sink:
        assert sink.commit_many([("t2", "2.1", [item(1)])]) == [1]
    assert "written again" in caplog.text
    assert ids(tmp_path / "out/all.jsonl.zst") == [1]
    assert (tmp_path / "out/all.jsonl.zst.damaged").stat().st_size == 5


def test_csv_of_a_spreadsheet_keeps_its_columns(tmp_path: Path) -> None:
    """A byte order mark is not part of the name of the first column."""
    (tmp_path / "all.csv").write_bytes(b"\xef\xbb\xbfid,name\n1,a\n")
    with sink_at(tmp_path, output("csv", "all.csv")) as sink:
        sink.commit_many([("t1", "1.1", [item(2)]), ("t2", "1.1", [item(3, more="x")])])
    assert text(tmp_path / "all.csv") == "id,name,more\n1,a,\n2,,\n3,,x\n"


@pytest.mark.parametrize(
    ("name", "content"),
    [("a.csv", "id,n\xe9e\n".encode("latin-1")), ("a.csv.gz", b"none"), ("a.csv.zst", b"none")],
)
def test_csv_that_cannot_be_continued_is_an_error(tmp_path: Path, name: str, content: bytes) -> None:
    """It has another encoding, or is not compressed although its name says so; the file stays unchanged."""
    (tmp_path / name).write_bytes(content)
    with sink_at(tmp_path, output("csv", name)) as sink, pytest.raises(OutputError, match="move it away"):
        sink.commit_many([("t1", "1.1", [item(1)])])
    assert (tmp_path / name).read_bytes().strip() == content.strip()
