"""`scrapeq validate` and `scrapeq schema`: mistakes, files that do not exist yet, and imports."""

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
# Modules that few configurations need, so they are imported on demand.
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
    """Return a configuration whose file of seeds does not exist."""
    monkeypatch.delenv("SCRAPEQ_REDIS_URL", raising=False)
    (tmp_path / "t.yaml").write_text(TEXT)
    monkeypatch.chdir(tmp_path)
    return "t.yaml"


def test_a_missing_file_of_seeds_is_a_note(file: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Another step may create the file before the run, so only the run requires it."""
    assert call("validate", file) == Exit.DONE
    printed = capsys.readouterr()
    assert printed.out == "t.yaml: ok, t: a\n"
    assert printed.err.startswith("note: t.yaml:4:15: seeds.file: the file rows.csv does not exist in ")
    assert call("validate", file, "--json") == Exit.DONE
    [report] = json_out(capsys)[0]["files"]
    assert (report["ok"], report["problems"], len(report["notes"])) == (True, [], 1)
    assert call("run", file) == Exit.USAGE
    assert "error: t.yaml:4:15: seeds.file: the file rows.csv does not exist in " in capsys.readouterr().err
    Path("rows.csv").write_text("id\n1\n")
    assert call("validate", file) == Exit.DONE
    assert capsys.readouterr().err == ""


def test_mistakes_are_reported_although_the_file_of_seeds_is_missing(
    file: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Only the missing file is a note."""
    Path(file).write_text(TEXT.replace("resources:", "resorces:"))
    assert call("validate", file) == Exit.USAGE
    printed = capsys.readouterr().err
    assert "unknown key 'resorces'" in printed and "did you mean resources?" in printed


def test_a_plain_configuration_does_not_import_rare_modules(file: str) -> None:
    """They are imported only if the file needs them."""
    Path("rows.csv").write_text("id\n1\n")
    code = f"import sys; from scrapeq import config; config.load({file!r}); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert RARE & set(done.stdout.split()) == set()


def test_the_schema_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    """It is one JSON document."""
    assert call("schema") == Exit.DONE
    assert orjson.loads(capsys.readouterr().out)["required"] == ["version", "name", "resources"]
