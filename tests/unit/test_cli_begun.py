"""A folder with the file that `init` wrote, in which nothing ran yet."""

from __future__ import annotations

from pathlib import Path

import pytest

from scrapeq.cli import main


@pytest.mark.parametrize(("begun", "named"), [(True, "-c scrapeq.yaml"), (False, "-c FILE")])
def test_the_file_that_is_there_is_named(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    begun: bool,
    named: str,
) -> None:
    """It is not taken unasked, but the error says how to take it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SCRAPEQ_CONFIG", raising=False)
    if begun:
        assert main(["init"]) == 0
    assert main(["run"]) == 2
    assert f"no configuration: name it with {named} or " in capsys.readouterr().err
