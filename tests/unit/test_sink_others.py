"""Standard output, outputs of other packages, and the limits of outputs."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, ClassVar

import pytest
from sink_outputs import item, output, sink_at

from scrapeq import config, plugins
from scrapeq.cli import main
from scrapeq.errors import ConfigError, OutputError, UsageError
from scrapeq.exit_codes import Exit
from scrapeq.expression import compile_template
from scrapeq.sink import BatchSink, OutputSet, Record, written_outputs


def test_stdout_writes_lines(tmp_path: Path) -> None:
    """Each record is written once per task to the given descriptor; a closed pipe is one error."""
    reader, writer = os.pipe()
    with sink_at(tmp_path, output("stdout"), stdout=writer) as sink:
        assert sink.commit_many([("t1", "1.1", [item(1), item(2)])]) == [2]
        assert sink.commit_many([("t1", "1.1", [item(1)]), ("t2", "2.1", [item(1)])]) == [0, 1]
        assert os.read(reader, 1_000) == b'{"id":1}\n{"id":2}\n{"id":1}\n'
        os.close(reader)
        with pytest.raises(OutputError, match="stdout: the output cannot be written: Broken pipe"):
            sink.commit_many([("t3", "3.1", [item(3)])])
    os.close(writer)


def test_the_first_line_after_a_kill_starts_on_a_new_line(tmp_path: Path) -> None:
    """The killed process may have left half a line."""
    reader, writer = os.pipe()
    with sink_at(tmp_path, output("stdout"), stdout=writer, restarted=True) as sink:
        sink.commit_many([("t1", "1.1", [item(1)])])
        sink.commit_many([("t2", "1.1", [item(2)])])
    assert os.read(reader, 1_000) == b'\n{"id":1}\n{"id":2}\n'
    os.close(reader)
    os.close(writer)


class RecordingSink(BatchSink):
    """A sink like one of another package."""

    batches: ClassVar[list[list[Record]]] = []

    def write_batch(self, records: Any) -> None:
        self.batches.append(list(records))


def test_an_output_of_another_package_receives_new_records(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is loaded by its entry point, and its ledger persists between runs."""
    monkeypatch.setattr(
        plugins,
        "load",
        lambda group, name: {("scrapeq.sinks", "recorded"): RecordingSink}[group, name],
    )
    monkeypatch.setattr(RecordingSink, "batches", [])
    with sink_at(tmp_path, output("recorded", options={"a": 1})) as sink:
        assert sink.commit_many([("t1", "1.1", [item(1), item(2), item(1)])]) == [2]
    with sink_at(tmp_path, output("recorded", options={"a": 1})) as sink:
        assert sink.commit_many([("t2", "2.1", [item(1), item(2, x=1)])]) == [1]
    with sink_at(tmp_path, output("recorded", options={"a": 2})) as sink:
        assert sink.commit_many([("t3", "3.1", [item(1)])]) == [1]
    assert [[record.item.record["id"] for record in batch] for batch in RecordingSink.batches] == [
        [1, 2],
        [2],
        [1],
    ]


def test_any_exception_of_an_output_becomes_an_output_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise the writer would crash and restart forever. Nothing counts as written."""
    monkeypatch.setattr(plugins, "load", lambda group, name: RecordingSink)
    monkeypatch.setattr(RecordingSink, "batches", [])
    with sink_at(tmp_path, output("recorded")) as sink:
        with (
            monkeypatch.context() as broken,
            pytest.raises(OutputError, match=r"recorded: .*: ValueError: no room"),
        ):
            broken.setattr(RecordingSink, "write_batch", lambda self, records: raises(ValueError("no room")))
            sink.commit_many([("t1", "1.1", [item(1)])])
        assert sink.commit_many([("t1", "1.1", [item(1)])]) == [1]


def raises(error: Exception) -> None:
    """Raise an error inside an expression."""
    raise error


def test_unsupported_settings_are_errors_at_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Covers a disposition, a missing extra, an unknown type, and two outputs for one file."""
    with pytest.raises(OutputError, match="jsonl: write_disposition: merge is not supported"):
        OutputSet((output("jsonl", "a.jsonl", write_disposition="merge"),), base=tmp_path)
    with pytest.raises(UsageError, match="no installed package provides 'nothing'"):
        OutputSet((output("nothing"),), base=tmp_path)
    monkeypatch.setattr("scrapeq.plugins.find_spec", lambda name: None)
    with pytest.raises(
        UsageError, match=r"parquet needs the package pyarrow: pip install 'scrapeq\[parquet\]'"
    ):
        OutputSet((output("parquet", "out/"),), base=tmp_path)
    same = (output("jsonl", "out/all.jsonl"), output("jsonl", "out/${resource}.jsonl"))
    with (
        sink_at(tmp_path, *same) as sink,
        pytest.raises(OutputError, match=r"all\.jsonl: two outputs write to this file"),
    ):
        sink.commit_many([("t1", "1.1", [item(1, "all")])])


def test_a_missing_extra_is_an_error_when_the_file_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error has a position and says what to install; no request is sent first."""
    file = tmp_path / "a.yaml"
    file.write_text(
        "version: 1\nname: a\nclient: {base_url: https://e.test}\nresources: [a]\n"
        "outputs: [{type: parquet, path: out/}]\n"
    )
    assert config.load(str(file)).outputs[0].type == "parquet"
    monkeypatch.setattr("scrapeq.plugins.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"outputs\[0\]\.type: parquet needs the package pyarrow") as error:
        config.load(str(file))
    assert error.value.problems[0].hint == "pip install 'scrapeq[parquet]'"


def test_written_outputs_are_named(tmp_path: Path) -> None:
    """Covers files and their parts, folders, databases and tables; only existing ones are named, each once."""
    every = (
        output("jsonl", "a/${resource}.jsonl"),
        output("jsonl", "b/all.jsonl.gz", rotate_bytes=10),
        output("csv", "c/${seed.x}.csv"),
        output("sqlite", "d/items.db"),
        output("parquet", "e/"),
        output("stdout"),
        output("postgres", table=compile_template("x_${resource}")),
        output("jsonl", "f/other.jsonl", resources=("other",)),
    )
    with sink_at(tmp_path, *every[:5]) as sink:
        for number in range(2):
            sink.commit_many([(f"t{number}", "1.1", [item(number), item(number, "users")])])
    names = written_outputs(every, ["issues", "users", "labels"], tmp_path)
    assert names == (
        "a/issues.jsonl",
        "a/users.jsonl",
        names[2],
        "c/",
        "d/items.db",
        "e/",
        "standard output",
        "table x_issues",
        "table x_users",
        "table x_labels",
    )
    assert names[2].startswith("b/all-00001.jsonl.gz to all-0000")


def test_two_files_of_one_command_cannot_share_a_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The error comes before anything starts and has a suggestion."""
    monkeypatch.chdir(tmp_path)
    for name in ("a", "b"):
        (tmp_path / f"{name}.yaml").write_text(
            f"version: 1\nname: {name}\nclient: {{base_url: https://e.test}}\nresources: [{name}]\n"
            "outputs: [{type: jsonl, path: 'out/${resource}.jsonl'}]\n"
        )
    assert main(["run", "a.yaml", "b.yaml"]) == Exit.USAGE
    message = capsys.readouterr().err
    assert f"a.yaml and b.yaml both write to {tmp_path}/out" in message
    assert f"such as {tmp_path}/out/b" in message
