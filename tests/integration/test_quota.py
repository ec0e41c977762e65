"""The quota benchmark in small: real servers, real fetchers; its verdicts, not its speed."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.serial  # it measures

ROOT = Path(__file__).resolve().parents[2]


def measured(case: str, folder: Path) -> dict[str, Any]:
    """The figures of one small case."""
    file = folder / "figures.json"
    done = subprocess.run(
        [sys.executable, "benchmarks/quota.py", "--small", "--json", str(file), case],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert file.exists(), done.stdout + done.stderr
    figures = json.loads(file.read_text())["cases"][case]
    return {figure["name"]: figure["value"] for figure in figures}


def test_a_closed_limit_sees_one_request_an_opening(tmp_path: Path) -> None:
    """With 64 slots and 1,000 tasks waiting, one request goes at each opening and none before it."""
    figures = measured("closed", tmp_path)
    assert figures["early requests"] == 0
    assert figures["requests at an opening"] == 1
    assert figures["items delivered"] == 1000


def test_what_matters_most_goes_first(tmp_path: Path) -> None:
    """Over four fetchers no task is granted while a better one of the same limit is ready."""
    figures = measured("first", tmp_path)
    assert figures["grants out of order"] == 0
    assert figures["top tenth first"] == 100
    assert figures["exit code"] == 0
