"""The benchmarks, run small: they measure every figure, and their results are correct."""

from __future__ import annotations

import contextlib
import http.client
import math
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import orjson
import pytest
from programs import require

from benchmarks.foreign_figures import figures, launch

ROOT = Path(__file__).parents[2]
BENCHMARKS = ROOT / "benchmarks"
ROWS = {"push", "pop_ack", "single", "loop", "script", "park", "longest", "growth", "order", "due", "memory"}
PEER_SIZES = ["--tasks", "200", "--slots", "10", "--parked", "50"]


def run(script: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a script as a user does, from another folder."""
    command = [sys.executable, str(script), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=100, check=False, cwd=BENCHMARKS)


@pytest.mark.serial  # it measures
def test_the_queue_benchmark_measures_every_row(tmp_path: Path) -> None:
    """Each row has finite figures, and tasks are never lost, repeated or out of order."""
    report = tmp_path / "queue.json"
    done = run(BENCHMARKS / "queue.py", "--small", "--engine", "valkey", "--json", str(report))
    assert done.returncode == 0, done.stderr
    result: dict[str, Any] = orjson.loads(report.read_bytes())
    (engine,) = result["engines"]
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
def test_wrong_usage_is_one_error(arguments: list[str], code: int) -> None:
    """Wrong arguments end with an error message, not a traceback."""
    done = run(BENCHMARKS / "queue.py", *arguments)
    assert done.returncode == code
    assert "Traceback" not in done.stderr


def test_the_peer_of_the_first_design_reports_its_figures(store_socket: str, store: object) -> None:
    """The queue's first design runs without a separate environment."""
    done = run(BENCHMARKS / "peers" / "seed_way.py", "--socket", store_socket, *PEER_SIZES)
    assert done.returncode == 0, done.stderr
    figures = orjson.loads(done.stdout)
    assert figures.keys() == {"push", "single", "bytes", "park"}
    assert all(value > 0 for value in figures.values())


def test_the_beanstalkd_peer_reports_its_figures() -> None:
    """The script starts beanstalkd, fills and empties it, and stops it."""
    require("beanstalkd", "beanstalkd")
    done = run(BENCHMARKS / "peers" / "beanstalkd_raw.py", "--socket", "/none", *PEER_SIZES)
    assert done.returncode == 0, done.stderr
    figures = orjson.loads(done.stdout)
    assert figures.keys() == {"push", "single", "pop_ack"}
    assert all(value > 0 for value in figures.values())


def foreign(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the benchmark of third-party servers."""
    return run(BENCHMARKS / "foreign.py", *arguments)


def test_foreign_cases_are_selected_by_pattern() -> None:
    """A pattern can match several cases; the error for a pattern without a match lists all cases."""
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


def test_the_nginx_server_logs_its_requests_and_accepts_another_limit(tmp_path: Path) -> None:
    """nginx refuses requests beyond its burst, logs its decisions, and applies a higher limit after a change."""
    require("nginx", "nginx-light")
    options = {"limit": 2, "window": 1, "burst": 2}
    with launch.server("nginx", "burst", options, tmp_path / "log") as server:
        before = [status(server.port, n) for n in range(6)]
        server.change(1000)
        deadline_s = time.monotonic() + 20
        after: list[int] = []
        while (
            after != [200] * 6 and time.monotonic() < deadline_s
        ):  # nginx applies the new limit after a while
            after = [status(server.port, 6) for _ in range(6)]
    assert before == [200, 200, 200, 429, 429, 429]
    assert after == [200] * 6
    log = server.log()
    assert [seen["status"] for seen in log[:6]] == before
    assert [seen["accepted"] for seen in log[:6]] == [True] * 3 + [False] * 3
    assert log[0]["responded_s"] <= log[-1]["arrived_s"]


def status(port: int, n: int) -> int:
    """Return the status of a response."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    with contextlib.closing(connection):
        connection.request("GET", f"/item/{n}")
        return connection.getresponse().status


def test_windows_until_a_changed_limit_is_used_are_counted() -> None:
    """A window with 90 % of the new limit ends the count; if none has that, the result is `most` + 1."""
    log = [{"decided_s": 0.1 * n, "accepted": True} for n in range(100)]  # 10 a second for 10 s
    log += [{"decided_s": 10 + 0.2 * n, "accepted": True} for n in range(10)]  # then 5
    log += [{"decided_s": 12 + 0.05 * n, "accepted": True} for n in range(40)]  # then 20
    assert figures.windows_to(log, limit=20, window_s=1.0, changed_s=10.0, most=4) == 3
    assert figures.windows_to(log, limit=40, window_s=1.0, changed_s=10.0, most=4) == 5


def test_the_api_benchmark_counts_every_item(tmp_path: Path) -> None:
    """Every shape yields all its items."""
    report = tmp_path / "api.json"
    done = run(BENCHMARKS / "api.py", "--small", "--json", str(report))
    assert done.returncode == 0, done.stderr
    found = {cost["shape"]: cost["items"] for cost in orjson.loads(report.read_bytes())}
    assert found == {"nested": 90, "pages": 40}
