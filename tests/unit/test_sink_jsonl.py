"""The JSON Lines sink: each item once, stale leases refused, only what is committed stays in the files."""

from __future__ import annotations

import gzip
import logging
import os
import resource as rlimits
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import orjson
import pytest
from sink_outputs import item

from scrapeq import plan
from scrapeq.errors import LeaseLost, OutputError, UsageError
from scrapeq.expression import compile_template
from scrapeq.protocols import Item
from scrapeq.sink import OutputSet, ledger
from scrapeq.sink.commit_log import TOKEN_AGE_US, parse_token
from scrapeq.sink.ledger import LEDGER_NAME, Ledger


def output(path: str = "out/${resource}.jsonl", *resources: str) -> plan.Output:
    return plan.Output("jsonl", compile_template(path), resources)


@contextmanager
def sink_at(base: Path, *outputs: plan.Output) -> Iterator[OutputSet]:
    sink = OutputSet(outputs or (output(),), base=base)
    try:
        yield sink
    finally:
        sink.close()


def lines(path: Path) -> list[Any]:
    data = path.read_bytes()
    assert not data or data.endswith(b"\n")
    return [orjson.loads(line) for line in data.splitlines()]


def test_items_go_to_the_file_of_their_resource(tmp_path: Path) -> None:
    """One line an item, in the order they came, in a folder that is made for them."""
    with sink_at(tmp_path) as sink:
        assert sink.commit_many([("t1", "1.1", [item(1), item(2)]), ("t2", "1.2", [item(1, "users")])]) == [
            2,
            1,
        ]
    assert lines(tmp_path / "out/issues.jsonl") == [{"id": 1}, {"id": 2}]
    assert lines(tmp_path / "out/users.jsonl") == [{"id": 1}]


def test_a_repeat_changes_nothing_also_after_a_restart(tmp_path: Path) -> None:
    """The same lease may commit again, another task may bring the same item, and so may the next run."""
    with sink_at(tmp_path) as sink:
        assert sink.commit_many([("t1", "5.1", [item(1), item(1)])]) == [1]
        assert sink.commit_many([("t1", "5.1", [item(1)]), ("t2", "6.1", [item(1)])]) == [0, 0]
    with sink_at(tmp_path) as sink:
        assert sink.commit_many([("t3", "7.1", [item(1)])]) == [0]
    assert lines(tmp_path / "out/issues.jsonl") == [{"id": 1}]


def test_a_changed_item_is_written_again_and_the_later_line_counts(tmp_path: Path) -> None:
    """Another value is a change, another order of the fields is none."""
    with sink_at(tmp_path) as sink:
        sink.commit_many([("t1", "1.1", [Item("issues", "1", {"a": 1, "b": 2})])])
        assert sink.commit_many([("t2", "1.2", [Item("issues", "1", {"b": 2, "a": 1})])]) == [0]
        assert sink.commit_many([("t3", "1.3", [Item("issues", "1", {"a": 3, "b": 2})])]) == [1]
    assert lines(tmp_path / "out/issues.jsonl")[-1] == {"a": 3, "b": 2}


def test_an_item_without_a_key_is_its_content(tmp_path: Path) -> None:
    """Equal records are one item; the empty key is no identity of its own."""
    with sink_at(tmp_path) as sink:
        records = [Item("issues", "", {"a": n}) for n in (1, 2, 1)]
        assert sink.commit_many([("t1", "1.1", records)]) == [2]
    assert lines(tmp_path / "out/issues.jsonl") == [{"a": 1}, {"a": 2}]


@pytest.mark.parametrize(("newer", "older"), [("10.1", "9.9"), ("10.10", "10.9"), ("10.1", "2.100")])
def test_an_older_lease_writes_nothing(tmp_path: Path, newer: str, older: str) -> None:
    """Tokens are pairs of integers, not texts; the stale one is refused, alone of its batch."""
    with sink_at(tmp_path) as sink:
        assert sink.commit_many([("t1", newer, [])]) == [0]
        lost, fine = sink.commit_many([("t1", older, [item(1)]), ("t2", older, [item(2)])])
    assert isinstance(lost, LeaseLost)
    assert fine == 1
    assert lines(tmp_path / "out/issues.jsonl") == [{"id": 2}]


def test_an_older_lease_is_refused_in_the_same_batch_and_after_a_restart(tmp_path: Path) -> None:
    """The newest token counts at once, and it is kept."""
    with sink_at(tmp_path) as sink:
        results = sink.commit_many([("t1", "9.1", [item(1)]), ("t1", "8.1", [item(2)])])
        assert isinstance(results[1], LeaseLost)
    with sink_at(tmp_path) as sink:
        assert isinstance(sink.commit_many([("t1", "8.1", [item(2)])])[0], LeaseLost)
    assert lines(tmp_path / "out/issues.jsonl") == [{"id": 1}]


@pytest.mark.parametrize(
    "text", ["", "1", "1.", ".1", "1.2.3", "-1.2", "1_0.2", "١.٢", "1.2 ", "1" * 19 + ".1"]
)
def test_what_is_no_token_is_told(text: str) -> None:
    """Two decimal integers and a dot, nothing else that Python would take for a number."""
    with pytest.raises(UsageError, match="no lease token"):
        parse_token(text)


def test_old_tokens_are_forgotten(tmp_path: Path) -> None:
    """A token a day older than the newest goes at the next open."""
    with sink_at(tmp_path) as sink:
        sink.commit_many([("old", "5.2", []), ("new", f"{TOKEN_AGE_US + 6}.1", [])])
    with sink_at(tmp_path) as sink:
        assert sink.commit_many([("old", "5.1", [])]) == [0]
        assert isinstance(sink.commit_many([("new", "6.1", [])])[0], LeaseLost)


def test_bytes_behind_the_committed_length_are_cut_off(tmp_path: Path) -> None:
    """A crash between the file and the ledger leaves half a line; the next open removes it."""
    with sink_at(tmp_path) as sink:
        sink.commit_many([("t1", "1.1", [item(1)])])
    with (tmp_path / "out/issues.jsonl").open("ab") as file:
        file.write(b'{"id": 2}\n{"id"')
    with sink_at(tmp_path) as sink:
        assert sink.commit_many([("t2", "1.2", [item(2)])]) == [1]
    assert lines(tmp_path / "out/issues.jsonl") == [{"id": 1}, {"id": 2}]


@pytest.mark.parametrize(("when", "again"), [("before", 1), ("after", 0)])
def test_a_crash_around_the_commit_loses_and_repeats_nothing(tmp_path: Path, when: str, again: int) -> None:
    """A process dies right before or right after the ledger's commit: the repeat brings the item there once."""
    with sink_at(tmp_path) as sink:
        sink.commit_many([("t1", "1.1", [item(1)])])
    child = os.fork()
    if child == 0:
        commit = Ledger.commit

        def crash(self: Ledger) -> None:
            if when == "after":
                commit(self)
            os._exit(9)

        sink = OutputSet((output(),), base=tmp_path)
        sink.check()
        Ledger.commit = crash  # type: ignore[method-assign]
        sink.commit_many([("t2", "2.1", [item(2)])])
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9
    with sink_at(tmp_path) as sink:
        sink.check()
        assert lines(tmp_path / "out/issues.jsonl") == [{"id": 1}, {"id": 2}][: 2 - again]
        assert sink.commit_many([("t2", "2.1", [item(2)])]) == [again]
    assert lines(tmp_path / "out/issues.jsonl") == [{"id": 1}, {"id": 2}]


def test_a_removed_file_is_written_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The ledger does not remember what the user has thrown away, and says so."""
    with sink_at(tmp_path) as sink:
        sink.commit_many([("t1", "1.1", [item(1), item(1, "users")])])
    (tmp_path / "out/issues.jsonl").unlink()
    with caplog.at_level(logging.WARNING), sink_at(tmp_path) as sink:
        assert sink.commit_many([("t2", "1.2", [item(1), item(1, "users")])]) == [1]
    assert "issues.jsonl" in caplog.text
    assert lines(tmp_path / "out/issues.jsonl") == [{"id": 1}]
    assert lines(tmp_path / "out/users.jsonl") == [{"id": 1}]


def test_a_shortened_file_keeps_its_whole_lines(tmp_path: Path) -> None:
    """Half a line goes, the rest stays, and every item may be written again."""
    with sink_at(tmp_path) as sink:
        sink.commit_many([("t1", "1.1", [item(1), item(2, text="x" * 200_000)])])
    path = tmp_path / "out/issues.jsonl"
    with path.open("rb+") as file:
        file.truncate(150_000)
    with sink_at(tmp_path) as sink:
        assert sink.commit_many([("t2", "1.2", [item(2)])]) == [1]
    assert lines(path) == [{"id": 1}, {"id": 2}]


def test_a_file_of_somebody_else_is_appended_to(tmp_path: Path) -> None:
    """What was there stays, and its last line is ended."""
    (tmp_path / "out").mkdir()
    (tmp_path / "out/issues.jsonl").write_bytes(b'{"id": 0}')
    with sink_at(tmp_path) as sink:
        sink.commit_many([("t1", "1.1", [item(1)])])
    assert lines(tmp_path / "out/issues.jsonl") == [{"id": 0}, {"id": 1}]


def test_a_second_writer_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One holder a folder; the error names it, and closing frees it."""
    monkeypatch.setattr(ledger, "LOCK_TIMEOUT_S", 0.05)
    with sink_at(tmp_path) as first, sink_at(tmp_path) as second:
        first.check()
        with pytest.raises(OutputError, match=f"{tmp_path}/out: another writer"):
            second.check()
        first.close()
        second.check()


@pytest.mark.parametrize("name", ["../issues", "..", ".", "a/../../b", "x/", "a\0b", f"{LEDGER_NAME}-wal"])
def test_a_resource_leads_to_no_file_outside_its_folder(tmp_path: Path, name: str) -> None:
    """A name with dots and slashes stays inside, or is refused before anything is written."""
    with sink_at(tmp_path, output("out/${resource}")) as sink, pytest.raises(OutputError):
        sink.commit_many([("t1", "1.1", [item(1, name)])])
    assert {path.name for path in tmp_path.rglob("*")} <= {"out", LEDGER_NAME}


def test_each_output_takes_its_resources(tmp_path: Path) -> None:
    """Several outputs, several folders, one file for all: an item goes to each that asks for its resource."""
    outputs = (output("all/every.jsonl"), output("some/${resource}/part.jsonl", "users"))
    with sink_at(tmp_path, *outputs) as sink:
        assert sink.commit_many([("t1", "2.1", [item(1), item(1, "users")])]) == [2]
        assert isinstance(sink.commit_many([("t1", "1.1", [item(2, "users")])])[0], LeaseLost)
    assert len(lines(tmp_path / "all/every.jsonl")) == 2
    assert lines(tmp_path / "some/users/part.jsonl") == [{"id": 1}]
    assert not (tmp_path / "some/issues").exists()


def test_without_outputs_nothing_is_written(tmp_path: Path) -> None:
    """A plan may have no output at all."""
    sink = OutputSet((), base=tmp_path)
    assert sink.commit_many([("t1", "1.1", [item(1)])]) == [0]
    assert not list(tmp_path.iterdir())


def test_a_gz_file_is_gzip(tmp_path: Path) -> None:
    """Each commit is a member, so the file can be cut back, and any gzip reads it whole."""
    with sink_at(tmp_path, output("out/${resource}.jsonl.gz")) as sink:
        for n in range(3):
            sink.commit_many([(f"t{n}", "1.1", [item(n)])])
    path = tmp_path / "out/issues.jsonl.gz"
    with path.open("ab") as file:
        file.write(b"\x1f\x8b half a member")
    with sink_at(tmp_path, output("out/${resource}.jsonl.gz")) as sink:
        sink.check()
    assert [orjson.loads(line)["id"] for line in gzip.decompress(path.read_bytes()).splitlines()] == [0, 1, 2]


def test_an_unwritable_output_is_told_at_the_start(tmp_path: Path) -> None:
    """A file where the folder should be, and a folder where the file should be."""
    (tmp_path / "out").write_text("in the way")
    with sink_at(tmp_path) as sink, pytest.raises(OutputError, match=f"{tmp_path}/out"):
        sink.check()
    (tmp_path / "other/issues.jsonl").mkdir(parents=True)
    with (
        sink_at(tmp_path, output("other/${resource}.jsonl")) as sink,
        pytest.raises(OutputError, match=r"issues\.jsonl"),
    ):
        sink.commit_many([("t1", "1.1", [item(1)])])


def test_a_damaged_ledger_is_told(tmp_path: Path) -> None:
    """It is named together with what to do."""
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / LEDGER_NAME).write_bytes(b"no database" * 100)
    with sink_at(tmp_path) as sink, pytest.raises(OutputError, match="is damaged; remove it"):
        sink.check()


def test_a_full_disk_leaves_nothing_half_committed(tmp_path: Path) -> None:
    """The write fails in the middle; the file is cut back, and the same commit works once there is room."""
    big = [item(n, text="x" * 1_000) for n in range(2, 200)]
    with sink_at(tmp_path) as sink:
        sink.commit_many([("t1", "1.1", [item(1)])])
        soft, hard = rlimits.getrlimit(rlimits.RLIMIT_FSIZE)
        rlimits.setrlimit(rlimits.RLIMIT_FSIZE, (100_000, hard))
        try:
            with pytest.raises(
                OutputError, match=r"issues\.jsonl: the output cannot be written: File too large"
            ):
                sink.commit_many([("t2", "2.1", big)])
        finally:
            rlimits.setrlimit(rlimits.RLIMIT_FSIZE, (soft, hard))
        assert lines(tmp_path / "out/issues.jsonl") == [{"id": 1}]
        assert sink.commit_many([("t2", "2.1", big)]) == [len(big)]
    assert len(lines(tmp_path / "out/issues.jsonl")) == 1 + len(big)


def test_a_record_that_is_no_json_is_told(tmp_path: Path) -> None:
    """Nothing of its batch is written."""
    with sink_at(tmp_path) as sink:
        with pytest.raises(UsageError, match="no JSON"):
            sink.commit_many([("t1", "1.1", [item(1), Item("issues", "2", {"x": object()})])])
        assert sink.commit_many([("t1", "1.1", [item(1)])]) == [1]
    assert lines(tmp_path / "out/issues.jsonl") == [{"id": 1}]
