"""The benchmark of the queue, run small: it measures all it says, and the queue does nothing wrong meanwhile."""

from __future__ import annotations

import math
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import orjson
import pytest

ROOT = Path(__file__).parents[2]
BENCHMARKS = ROOT / "benchmarks"
ROWS = {"push", "pop_ack", "single", "loop", "script", "park", "longest", "growth", "order", "due", "memory"}
PEER_SIZES = ["--tasks", "200", "--slots", "10", "--parked", "50"]


def run(script: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """A script as a user starts it, from another folder."""
    command = [sys.executable, str(script), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=100, check=False, cwd=BENCHMARKS)


def test_every_figure_is_measured_and_nothing_goes_wrong(tmp_path: Path) -> None:
    """Each row gives figures that are numbers, and no task is lost, doubled or out of order."""
    report = tmp_path / "queue.json"
    done = run(BENCHMARKS / "queue.py", "--small", "--engine", "valkey", "--json", str(report))
    assert done.returncode == 0, done.stderr
    said: dict[str, Any] = orjson.loads(report.read_bytes())
    (engine,) = said["engines"]
    figures = engine["figures"]
    assert {figure["row"] for figure in figures} == ROWS
    assert all(math.isfinite(figure["value"]) for figure in figures)
    assert all(figure["value"] > 0 for figure in figures if figure["unit"] not in ("tasks", "commands"))
    assert [figure["met"] for figure in figures if figure["exact"]] == [True, True]
    for figure in figures:
        assert figure["name"] in done.stdout


@pytest.mark.parametrize(
    ("arguments", "code"), [(["--rows", "speed"], 2), (["--engine", "sqlite"], 2), (["--help"], 0)]
)
def test_bad_usage_is_one_message(arguments: list[str], code: int) -> None:
    """A mistake in the arguments is told, and never a traceback."""
    done = run(BENCHMARKS / "queue.py", *arguments)
    assert done.returncode == code
    assert "Traceback" not in done.stderr


def test_the_first_design_is_measured(store_socket: str, store: object) -> None:
    """The queue's first design runs beside ours without an environment of its own."""
    done = run(BENCHMARKS / "peers" / "seed_way.py", "--socket", store_socket, *PEER_SIZES)
    assert done.returncode == 0, done.stderr
    figures = orjson.loads(done.stdout)
    assert figures.keys() == {"push", "single", "bytes", "park"}
    assert all(value > 0 for value in figures.values())


@pytest.mark.skipif(shutil.which("beanstalkd") is None, reason="beanstalkd is not installed")
def test_beanstalkd_is_measured() -> None:
    """beanstalkd is started, filled, emptied and ended."""
    done = run(BENCHMARKS / "peers" / "beanstalkd_raw.py", "--socket", "/none", *PEER_SIZES)
    assert done.returncode == 0, done.stderr
    figures = orjson.loads(done.stdout)
    assert figures.keys() == {"push", "single", "pop_ack"}
    assert all(value > 0 for value in figures.values())
