"""The configuration that a verb uses in a directory without earlier runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from scrapeq.cli import main


@pytest.mark.parametrize(("has_file", "suggestion"), [(True, "use -c scrapeq.yaml"), (False, "use -c FILE")])
def test_the_error_suggests_the_file_that_init_wrote(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    has_file: bool,
    suggestion: str,
) -> None:
    """The file is not used by default, but the error says how to use it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SCRAPEQ_CONFIG", raising=False)
    if has_file:
        assert main(["init"]) == 0
    assert main(["run"]) == 2
    assert f"nothing ran in this directory yet; {suggestion} or set SCRAPEQ_CONFIG" in capsys.readouterr().err
