"""The benchmark of the queue, run small: it measures all it says, and the queue does nothing wrong meanwhile."""

from __future__ import annotations

import contextlib
import http.client
import math
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import orjson
import pytest

from benchmarks.foreign_figures import figures, launch

ROOT = Path(__file__).parents[2]
BENCHMARKS = ROOT / "benchmarks"
ROWS = {"push", "pop_ack", "single", "loop", "script", "park", "longest", "growth", "order", "due", "memory"}
PEER_SIZES = ["--tasks", "200", "--slots", "10", "--parked", "50"]


def run(script: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """A script as a user starts it, from another folder."""
    command = [sys.executable, str(script), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=100, check=False, cwd=BENCHMARKS)


@pytest.mark.serial  # it measures
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


def foreign(*arguments: str) -> subprocess.CompletedProcess[str]:
    """The benchmark of servers that others wrote."""
    return run(BENCHMARKS / "foreign.py", *arguments)


def test_the_cases_of_foreign_servers_are_chosen_by_pattern() -> None:
    """A pattern names several cases, and one that names none is told with those that there are."""
    named = foreign("--list", "express/told-*").stdout.split()
    assert {
        "express/told-legacy",
        "express/told-draft-6",
        "express/told-draft-7",
        "express/told-draft-8",
    } <= set(named)
    assert all(name.startswith("express/told-") for name in named)
    wrong = foreign("--list", "apache/*")
    assert wrong.returncode == 2
    assert "express/told-legacy" in wrong.stderr


@pytest.mark.skipif(shutil.which("nginx") is None, reason="nginx is not installed")
def test_a_foreign_server_counts_what_it_saw_and_takes_another_limit(tmp_path: Path) -> None:
    """nginx refuses what is beyond its burst, its log says so, and a wider limit holds from then on."""
    options = {"limit": 2, "window": 1, "burst": 2}
    with launch.server("nginx", "burst", options, tmp_path / "log") as server:
        before = [status(server.port, n) for n in range(6)]
        server.change(1000)
        deadline_s = time.monotonic() + 20
        after: list[int] = []
        while after != [200] * 6 and time.monotonic() < deadline_s:  # it takes over a new limit when it likes
            after = [status(server.port, 6) for _ in range(6)]
    assert before == [200, 200, 200, 429, 429, 429]
    assert after == [200] * 6
    log = server.log()
    assert [seen["status"] for seen in log[:6]] == before
    assert [seen["accepted"] for seen in log[:6]] == [True] * 3 + [False] * 3
    assert log[0]["answered_s"] <= log[-1]["arrived_s"]


def status(port: int, n: int) -> int:
    """What a server answers."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    with contextlib.closing(connection):
        connection.request("GET", f"/item/{n}")
        return connection.getresponse().status


def test_the_windows_until_a_changed_limit_is_used_again_are_counted() -> None:
    """90 % of the new limit within a window counts; a limit that is not used again counts as one window too many."""
    log = [{"decided_s": 0.1 * n, "accepted": True} for n in range(100)]  # 10 a second for 10 s
    log += [{"decided_s": 10 + 0.2 * n, "accepted": True} for n in range(10)]  # then 5
    log += [{"decided_s": 12 + 0.05 * n, "accepted": True} for n in range(40)]  # then 20
    assert figures.windows_to(log, limit=20, window_s=1.0, changed_s=10.0, most=4) == 3
    assert figures.windows_to(log, limit=40, window_s=1.0, changed_s=10.0, most=4) == 5


def test_the_benchmark_of_an_api_counts_every_item(tmp_path: Path) -> None:
    """Run small and without rivals: each shape gives all its items."""
    report = tmp_path / "api.json"
    done = run(BENCHMARKS / "api.py", "--small", "--json", str(report))
    assert done.returncode == 0, done.stderr
    found = {cost["shape"]: cost["items"] for cost in orjson.loads(report.read_bytes())}
    assert found == {"nested": 90, "pages": 40}
