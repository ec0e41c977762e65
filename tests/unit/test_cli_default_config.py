"""The configuration that a command uses without being given one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from scrapeq.cli import main


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run each test in its own directory."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SCRAPEQ_CONFIG", raising=False)


def test_the_file_that_init_wrote_is_the_default(capsys: pytest.CaptureFixture[str]) -> None:
    """Without it the error says how to name a file."""
    assert main(["run"]) == 2
    assert (
        "there is no scrapeq.yaml in this directory and nothing ran here yet; use -c FILE"
        in capsys.readouterr().err
    )
    assert main(["init"]) == 0
    capsys.readouterr()
    assert main(["validate"]) == 0
    assert capsys.readouterr().out == "scrapeq.yaml: ok, scrapeq: issues, comments\n"


def test_the_file_that_last_ran_comes_first(capsys: pytest.CaptureFixture[str]) -> None:
    """A note says that scrapeq.yaml exists, too."""
    assert main(["init"]) == main(["init", "-o", "other.yaml"]) == 0
    Path(".scrapeq").mkdir()
    Path(".scrapeq/run.json").write_text(json.dumps({"files": [str(Path("other.yaml").absolute())]}))
    capsys.readouterr()
    assert main(["validate"]) == 0
    shown = capsys.readouterr()
    assert shown.out == "other.yaml: ok, other: issues, comments\n"
    assert shown.err == "note: other.yaml ran here last; for scrapeq.yaml use -c scrapeq.yaml\n"
