"""The simulated quota benchmark in small: both engines, a few cases; what must hold whatever is tuned."""

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
    """What a run of the benchmark writes."""
    file = folder / "figures.json"
    command = [sys.executable, "benchmarks/quota.py", "--simulated", "--seeds", "1", "--json", str(file)]
    done = subprocess.run(
        [*command, *arguments], cwd=ROOT, capture_output=True, text=True, timeout=100, check=False
    )
    assert done.returncode in (0, 1), done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    said: dict[str, Any] = json.loads(file.read_text())
    return said


def values(said: dict[str, Any], case: str) -> dict[str, float]:
    """The figures of one case."""
    return {figure["name"]: figure["value"] for figure in said["cases"][case]}


@pytest.mark.parametrize("engine", ["python", "valkey"])
def test_a_known_quota_is_spent_and_never_hit(tmp_path: Path, engine: str) -> None:
    """Configured or told: nearly all is used, nothing refused, a closed limit sees one request an opening."""
    said = simulated(
        tmp_path,
        *("--engine", engine, "--size", "30/10", "--windows", "6"),
        *("configured/fixed", "configured/sliding", "told/fixed/draft-8", "closed"),
    )
    for case in ("configured/fixed", "configured/sliding log"):
        assert values(said, case)["used"] >= 98
        assert values(said, case)["refused"] == 0
    assert values(said, "told/fixed/draft-8")["refused"] == 0
    closed = values(said, "closed")
    assert closed["early requests"] == 0
    assert closed["requests at an opening"] == 1
    assert closed["items"] == 1000
    assert said["times"] > TIMES_REAL


def test_what_matters_most_goes_first(tmp_path: Path) -> None:
    """No grant while a better task of an open host stands ready, with one host or with many."""
    said = simulated(tmp_path, "--windows", "5", "--size", "40/4", "first")
    assert values(said, "first")["grants out of order"] == 0
    assert values(said, "first")["top tenth first"] == 100
    assert values(said, "first of many")["grants out of order"] == 0


def test_a_case_that_nobody_knows_is_named(tmp_path: Path) -> None:
    """A mistake is one message."""
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
