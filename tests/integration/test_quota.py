"""The quota benchmark, run small with real servers and fetchers: its results, not its speed."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.serial  # it measures

ROOT = Path(__file__).resolve().parents[2]


def run_case(case: str, folder: Path) -> dict[str, Any]:
    """Run one case with `--small` and return its figures."""
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


def test_a_closed_limit_receives_one_request_per_opening(tmp_path: Path) -> None:
    """With 64 slots and 1,000 waiting tasks, exactly one request is sent at each opening and none earlier."""
    figures = run_case("closed", tmp_path)
    assert figures["early requests"] == 0
    assert figures["requests at an opening"] == 1
    assert figures["items delivered"] == 1000


def test_the_highest_priority_is_granted_first(tmp_path: Path) -> None:
    """With four fetchers, a task is never granted while one of higher priority under the same limit is ready."""
    figures = run_case("first", tmp_path)
    assert figures["grants out of order"] == 0
    assert figures["top tenth first"] == 100
    assert figures["exit code"] == 0
