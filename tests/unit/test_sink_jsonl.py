"""The JSON Lines sink: each item once, stale leases rejected, only committed lines in the files."""

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
from scrapeq.errors import LeaseLost, OutputError, RecordRejected, UsageError
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
    """One line per item, in order, in a folder that is created for them."""
    with sink_at(tmp_path) as sink:
        assert sink.commit_many([("t1", "1.1", [item(1), item(2)]), ("t2", "1.2", [item(1, "users")])]) == [
            2,
            1,
        ]
    assert lines(tmp_path / "out/issues.jsonl") == [{"id": 1}, {"id": 2}]
    assert lines(tmp_path / "out/users.jsonl") == [{"id": 1}]


def test_a_repetition_changes_nothing_even_after_a_restart(tmp_path: Path) -> None:
    """The same lease may commit again, and another task or the next run may bring the same item."""
    with sink_at(tmp_path) as sink:
        assert sink.commit_many([("t1", "5.1", [item(1), item(1)])]) == [1]
        assert sink.commit_many([("t1", "5.1", [item(1)]), ("t2", "6.1", [item(1)])]) == [0, 0]
    with sink_at(tmp_path) as sink:
        assert sink.commit_many([("t3", "7.1", [item(1)])]) == [0]
    assert lines(tmp_path / "out/issues.jsonl") == [{"id": 1}]


def test_a_changed_item_is_written_again(tmp_path: Path) -> None:
    """Another value is a change; another order of the fields is not."""
    with sink_at(tmp_path) as sink:
        sink.commit_many([("t1", "1.1", [Item("issues", "1", {"a": 1, "b": 2})])])
        assert sink.commit_many([("t2", "1.2", [Item("issues", "1", {"b": 2, "a": 1})])]) == [0]
        assert sink.commit_many([("t3", "1.3", [Item("issues", "1", {"a": 3, "b": 2})])]) == [1]
    assert lines(tmp_path / "out/issues.jsonl")[-1] == {"a": 3, "b": 2}


def test_items_without_a_key_are_identified_by_their_content(tmp_path: Path) -> None:
    """Equal records are one item; the empty key does not identify anything."""
    with sink_at(tmp_path) as sink:
        records = [Item("issues", "", {"a": n}) for n in (1, 2, 1)]
        assert sink.commit_many([("t1", "1.1", records)]) == [2]
    assert lines(tmp_path / "out/issues.jsonl") == [{"a": 1}, {"a": 2}]


@pytest.mark.parametrize(("newer", "older"), [("10.1", "9.9"), ("10.10", "10.9"), ("10.1", "2.100")])
def test_an_older_lease_writes_nothing(tmp_path: Path, newer: str, older: str) -> None:
    """Tokens are compared as pairs of integers. Only the stale lease is rejected, not its batch."""
    with sink_at(tmp_path) as sink:
        assert sink.commit_many([("t1", newer, [])]) == [0]
        lost, fine = sink.commit_many([("t1", older, [item(1)]), ("t2", older, [item(2)])])
    assert isinstance(lost, LeaseLost)
    assert fine == 1
    assert lines(tmp_path / "out/issues.jsonl") == [{"id": 2}]


def test_an_older_lease_is_rejected_in_the_same_batch_and_after_a_restart(tmp_path: Path) -> None:
    """The newest token counts at once, and is stored."""
    with sink_at(tmp_path) as sink:
        results = sink.commit_many([("t1", "9.1", [item(1)]), ("t1", "8.1", [item(2)])])
        assert isinstance(results[1], LeaseLost)
    with sink_at(tmp_path) as sink:
        assert isinstance(sink.commit_many([("t1", "8.1", [item(2)])])[0], LeaseLost)
    assert lines(tmp_path / "out/issues.jsonl") == [{"id": 1}]


@pytest.mark.parametrize(
    "text", ["", "1", "1.", ".1", "1.2.3", "-1.2", "1_0.2", "١.٢", "1.2 ", "1" * 19 + ".1"]
)
def test_malformed_tokens_are_rejected(text: str) -> None:
    """A token is two decimal integers with a dot between them, nothing else that Python reads as a number."""
    with pytest.raises(UsageError, match="not a lease token"):
        parse_token(text)


def test_old_tokens_are_deleted(tmp_path: Path) -> None:
    """The next open deletes tokens a day older than the newest one."""
    with sink_at(tmp_path) as sink:
        sink.commit_many([("old", "5.2", []), ("new", f"{TOKEN_AGE_US + 6}.1", [])])
    with sink_at(tmp_path) as sink:
        assert sink.commit_many([("old", "5.1", [])]) == [0]
        assert isinstance(sink.commit_many([("new", "6.1", [])])[0], LeaseLost)


def test_uncommitted_bytes_are_cut_off(tmp_path: Path) -> None:
    """A crash between the file and the ledger leaves half a line; the next open removes it."""
    with sink_at(tmp_path) as sink:
        sink.commit_many([("t1", "1.1", [item(1)])])
    with (tmp_path / "out/issues.jsonl").open("ab") as file:
        file.write(b'{"id": 2}\n{"id"')
    with sink_at(tmp_path) as sink:
        assert sink.commit_many([("t2", "1.2", [item(2)])]) == [1]
    assert lines(tmp_path / "out/issues.jsonl") == [{"id": 1}, {"id": 2}]


@pytest.mark.parametrize(("when", "rewritten"), [("before", 1), ("after", 0)])
def test_a_crash_around_the_commit_loses_and_repeats_nothing(
    tmp_path: Path, when: str, rewritten: int
) -> None:
    """A process dies right before or right after the commit of the ledger; the repetition writes the item once."""
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
        Ledger.commit = crash  # type: ignore[method-assign, assignment]  # ends the fork
        sink.commit_many([("t2", "2.1", [item(2)])])
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9
    with sink_at(tmp_path) as sink:
        sink.check()
        assert lines(tmp_path / "out/issues.jsonl") == [{"id": 1}, {"id": 2}][: 2 - rewritten]
        assert sink.commit_many([("t2", "2.1", [item(2)])]) == [rewritten]
    assert lines(tmp_path / "out/issues.jsonl") == [{"id": 1}, {"id": 2}]


def test_a_removed_file_is_written_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """If the user deletes a file, its items are written again, with a warning."""
    with sink_at(tmp_path) as sink:
        sink.commit_many([("t1", "1.1", [item(1), item(1, "users")])])
    (tmp_path / "out/issues.jsonl").unlink()
    with caplog.at_level(logging.WARNING), sink_at(tmp_path) as sink:
        assert sink.commit_many([("t2", "1.2", [item(1), item(1, "users")])]) == [1]
    assert "issues.jsonl" in caplog.text
    assert lines(tmp_path / "out/issues.jsonl") == [{"id": 1}]
    assert lines(tmp_path / "out/users.jsonl") == [{"id": 1}]


def test_a_shortened_file_keeps_its_whole_lines(tmp_path: Path) -> None:
    """The broken line is removed, and every item may be written again."""
    with sink_at(tmp_path) as sink:
        sink.commit_many([("t1", "1.1", [item(1), item(2, text="x" * 200_000)])])
    path = tmp_path / "out/issues.jsonl"
    with path.open("rb+") as file:
        file.truncate(150_000)
    with sink_at(tmp_path) as sink:
        assert sink.commit_many([("t2", "1.2", [item(2)])]) == [1]
    assert lines(path) == [{"id": 1}, {"id": 2}]


def test_a_file_of_another_program_is_appended_to(tmp_path: Path) -> None:
    """Its content stays, and its last line is completed."""
    (tmp_path / "out").mkdir()
    (tmp_path / "out/issues.jsonl").write_bytes(b'{"id": 0}')
    with sink_at(tmp_path) as sink:
        sink.commit_many([("t1", "1.1", [item(1)])])
    assert lines(tmp_path / "out/issues.jsonl") == [{"id": 0}, {"id": 1}]


def test_a_second_writer_is_rejected(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder has one writer; the error names the folder, and closing unlocks it."""
    monkeypatch.setattr(ledger, "LOCK_TIMEOUT_S", 0.05)
    with sink_at(tmp_path) as first, sink_at(tmp_path) as second:
        first.check()
        with pytest.raises(OutputError, match=f"{tmp_path}/out: another writer"):
            second.check()
        first.close()
        second.check()


@pytest.mark.parametrize("name", ["../issues", "..", ".", "a/../../b", "x/", "a\0b", f"{LEDGER_NAME}-wal"])
def test_a_resource_cannot_write_outside_the_folder(tmp_path: Path, name: str) -> None:
    """A name with dots and slashes stays inside, or is rejected before anything is written."""
    with sink_at(tmp_path, output("out/${resource}")) as sink, pytest.raises(OutputError):
        sink.commit_many([("t1", "1.1", [item(1, name)])])
    assert {path.name for path in tmp_path.rglob("*")} <= {"out", LEDGER_NAME}


def test_each_output_receives_its_resources(tmp_path: Path) -> None:
    """Several outputs and folders: an item goes to each output that has its resource."""
    outputs = (output("all/every.jsonl"), output("some/${resource}/part.jsonl", "users"))
    with sink_at(tmp_path, *outputs) as sink:
        assert sink.commit_many([("t1", "2.1", [item(1), item(1, "users")])]) == [2]
        assert isinstance(sink.commit_many([("t1", "1.1", [item(2, "users")])])[0], LeaseLost)
    assert len(lines(tmp_path / "all/every.jsonl")) == 2
    assert lines(tmp_path / "some/users/part.jsonl") == [{"id": 1}]
    assert not (tmp_path / "some/issues").exists()


def test_without_outputs_nothing_is_written(tmp_path: Path) -> None:
    """A plan without outputs is valid."""
    sink = OutputSet((), base=tmp_path)
    assert sink.commit_many([("t1", "1.1", [item(1)])]) == [0]
    assert not list(tmp_path.iterdir())


def test_a_gz_file_is_gzip(tmp_path: Path) -> None:
    """Each commit is a gzip member, so that the file can be cut back, and any gzip can read it."""
    with sink_at(tmp_path, output("out/${resource}.jsonl.gz")) as sink:
        for n in range(3):
            sink.commit_many([(f"t{n}", "1.1", [item(n)])])
    path = tmp_path / "out/issues.jsonl.gz"
    with path.open("ab") as file:
        file.write(b"\x1f\x8b half a member")
    with sink_at(tmp_path, output("out/${resource}.jsonl.gz")) as sink:
        sink.check()
    assert [orjson.loads(line)["id"] for line in gzip.decompress(path.read_bytes()).splitlines()] == [0, 1, 2]


def test_an_unwritable_output_is_an_error_at_the_start(tmp_path: Path) -> None:
    """Covers a file with the name of the folder, and a folder with the name of the file."""
    (tmp_path / "out").write_text("in the way")
    with sink_at(tmp_path) as sink, pytest.raises(OutputError, match=f"{tmp_path}/out"):
        sink.check()
    (tmp_path / "other/issues.jsonl").mkdir(parents=True)
    with (
        sink_at(tmp_path, output("other/${resource}.jsonl")) as sink,
        pytest.raises(OutputError, match=r"issues\.jsonl"),
    ):
        sink.commit_many([("t1", "1.1", [item(1)])])


def test_a_damaged_ledger_is_an_error(tmp_path: Path) -> None:
    """The message names it and says what to do."""
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / LEDGER_NAME).write_bytes(b"no database" * 100)
    with sink_at(tmp_path) as sink, pytest.raises(OutputError, match="damaged; remove it"):
        sink.check()


def test_a_full_disk_leaves_nothing_half_committed(tmp_path: Path) -> None:
    """The write fails in the middle; the file is cut back, and the same commit works once there is space."""
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


def test_a_record_that_is_not_json_is_rejected(tmp_path: Path) -> None:
    """Nothing of its task is written, and the other tasks of the batch are not affected."""
    with sink_at(tmp_path) as sink:
        bad = [item(1), Item("issues", "2", {"x": object()})]
        first, second, third = sink.commit_many(
            [("t0", "1.1", [item(3)]), ("t1", "1.1", bad), ("t2", "1.1", [item(4)])]
        )
        assert (first, third) == (1, 1)
        assert isinstance(second, RecordRejected) and "is not JSON" in str(second)
        assert sink.commit_many([("t1", "1.1", [item(1)])]) == [1]
    assert lines(tmp_path / "out/issues.jsonl") == [{"id": 3}, {"id": 4}, {"id": 1}]
