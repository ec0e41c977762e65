"""The simulated quota benchmark, run small: a few cases with both engines, and results that tuning must not change."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
TIMES_REAL = 5  # a machine that is busy with other tests; alone it is hundreds


def simulated(folder: Path, *arguments: str) -> dict[str, Any]:
    """Run the benchmark; return its JSON."""
    file = folder / "figures.json"
    command = [sys.executable, "benchmarks/quota.py", "--simulated", "--seeds", "1", "--json", str(file)]
    done = subprocess.run(
        [*command, *arguments], cwd=ROOT, capture_output=True, text=True, timeout=100, check=False
    )
    assert done.returncode in (0, 1), done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    report: dict[str, Any] = json.loads(file.read_text())
    return report


def values(report: dict[str, Any], case: str) -> dict[str, float]:
    """Return the figures of one case."""
    return {figure["name"]: figure["value"] for figure in report["cases"][case]}


@pytest.mark.parametrize("engine", ["python", "valkey"])
def test_a_known_quota_is_used_without_refusals(tmp_path: Path, engine: str) -> None:
    """If the quota is configured or reported, nearly all of it is used, and each opening gets one request."""
    report = simulated(
        tmp_path,
        *("--engine", engine, "--size", "30/10", "--windows", "6"),
        *("configured/fixed", "configured/sliding", "told/fixed/draft-8", "closed"),
    )
    for case in ("configured/fixed", "configured/sliding log"):
        assert values(report, case)["used"] >= 98
        assert values(report, case)["refused"] == 0
    assert values(report, "told/fixed/draft-8")["refused"] == 0
    closed = values(report, "closed")
    assert closed["early requests"] == 0
    assert closed["requests at an opening"] == 1
    assert closed["items"] == 1000
    assert report["times"] > TIMES_REAL


def test_the_highest_priority_goes_first(tmp_path: Path) -> None:
    """A task is never granted while one of higher priority of an open host is ready, with one host or many."""
    report = simulated(tmp_path, "--windows", "5", "--size", "40/4", "first")
    assert values(report, "first")["grants out of order"] == 0
    assert values(report, "first")["top tenth first"] == 100
    assert values(report, "first of many")["grants out of order"] == 0


def test_an_unknown_case_is_an_error(tmp_path: Path) -> None:
    """The message names it."""
    done = subprocess.run(
        [sys.executable, "benchmarks/quota.py", "--simulated", "unknwon"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 2
    assert "unknwon" in done.stderr
    assert "Traceback" not in done.stderr
