"""`validate` and `schema` as a person calls them: what is wrong, what is only not there yet, what it costs to ask."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import orjson
import pytest
from cli_calls import call, json_out

from scrapeq.exit_codes import Exit

TEXT = """\
version: 1
name: t
client: {base_url: "http://127.0.0.1:9/"}
seeds: {file: rows.csv}
resources: [{name: a, endpoint: "${seed.id}"}]
"""
# Modules that few files need: a start does not pay for them.
RARE = {
    "cronsim",
    "importlib.metadata",
    "jmespath",
    "jsonpath",
    "selectolax",
    "pyarrow",
    "psycopg",
    "warcio",
    "httpx",
}


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A configuration whose file of seeds is not there."""
    monkeypatch.delenv("SCRAPEQ_REDIS_URL", raising=False)
    (tmp_path / "t.yaml").write_text(TEXT)
    monkeypatch.chdir(tmp_path)
    return "t.yaml"


def test_a_file_of_seeds_that_is_not_there_yet_is_a_note(
    file: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """The configuration is right, and another step may make the file; a run has to have it."""
    assert call("validate", file) == Exit.DONE
    said = capsys.readouterr()
    assert said.out == "t.yaml: ok, t: a\n"
    assert said.err.startswith("note: t.yaml:4:15: seeds.file: the file rows.csv does not exist in ")
    assert call("validate", file, "--json") == Exit.DONE
    [report] = json_out(capsys)[0]["files"]
    assert (report["ok"], report["problems"], len(report["notes"])) == (True, [], 1)
    assert call("run", file) == Exit.USAGE
    assert "error: t.yaml:4:15: seeds.file: the file rows.csv does not exist in " in capsys.readouterr().err
    Path("rows.csv").write_text("id\n1\n")
    assert call("validate", file) == Exit.DONE
    assert capsys.readouterr().err == ""


def test_what_is_wrong_is_told_beside_what_is_not_there(
    file: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Mistakes are errors, whatever the seeds."""
    Path(file).write_text(TEXT.replace("resources:", "resorces:"))
    assert call("validate", file) == Exit.USAGE
    said = capsys.readouterr().err
    assert "unknown key 'resorces'" in said and "did you mean resources?" in said


def test_a_plain_file_is_read_without_what_few_files_need(file: str) -> None:
    """Rare libraries are imported only where a file asks for them."""
    Path("rows.csv").write_text("id\n1\n")
    code = f"import sys; from scrapeq import config; config.load({file!r}); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert RARE & set(done.stdout.split()) == set()


def test_the_schema_can_be_printed(capsys: pytest.CaptureFixture[str]) -> None:
    """One JSON document."""
    assert call("schema") == Exit.DONE
    assert orjson.loads(capsys.readouterr().out)["required"] == ["version", "name", "resources"]
