"""`scrapeq run` as a person meets it: the exit code of every ending, one clear message, and never a traceback."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import scrapeq
from scrapeq.processes.runtime_folder import runtime_folder

ROOT = Path(scrapeq.__file__).parents[1]
TIMEOUT_S = 40.0
PAGES = """
version: 1
name: pages
client: {{base_url: "{url}"}}
seeds: {seeds}
resources:
  - name: page
    endpoint: {{path: "${{raw(seed.path)}}", paginator: single_page}}
outputs: [{{type: jsonl, path: "out/${{resource}}.jsonl"}}]
{more}
"""
ISSUES = "repos/octo/tools/issues"


class Runs:
    """Runs of one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.started: list[subprocess.Popen[str]] = []

    def file(self, url: str, *paths: str, more: str = "") -> str:
        """A file that asks for these paths."""
        seeds = json.dumps([{"path": path} for path in paths])
        (self.folder / "pages.yaml").write_text(PAGES.format(url=url, seeds=seeds, more=more))
        return "pages.yaml"

    def start(self, *words: str) -> subprocess.Popen[str]:
        """Start a command."""
        process = subprocess.Popen(
            [sys.executable, "-m", "scrapeq", *words],
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        self.started.append(process)
        return process

    def run(self, *words: str) -> tuple[int, str, str]:
        """The exit code, standard output and standard error of a command."""
        process = self.start(*words)
        out, errors = process.communicate(timeout=TIMEOUT_S)
        return process.returncode, out, errors


@pytest.fixture
def runs(tmp_path: Path) -> Iterator[Runs]:
    """Runs of a folder; they end with the test."""
    found = Runs(tmp_path)
    yield found
    for process in found.started:
        process.kill()
        process.communicate()


@pytest.fixture
def api() -> Iterator[str]:
    """The sample API with limits that do not matter, a process of its own."""
    command = [sys.executable, "-m", "scrapeq.demo", "--exit-with-stdin", "--limit", "1000"]
    process = subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert process.stdout is not None
    yield json.loads(process.stdout.readline())["url"]
    process.kill()
    process.communicate()


def one_error(errors: str, *parts: str) -> None:
    """One error, that says these things, and no traceback."""
    assert "Traceback" not in errors
    assert "internal" not in errors
    assert errors.count("error: ") == 1, errors
    for part in parts:
        assert part in errors


def until(holds: Callable[[], Any]) -> Any:
    deadline = time.monotonic() + TIMEOUT_S
    while not (found := holds()):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return found


def test_done(runs: Runs, api: str) -> None:
    """0, and the items are there."""
    code, _, errors = runs.run("run", runs.file(api, ISSUES))
    assert code == 0, errors
    assert "Traceback" not in errors
    assert (runs.folder / "out/page.jsonl").read_bytes().count(b"\n") == 30


def test_dead_letters(runs: Runs, api: str) -> None:
    """3: all is done but what can never be had."""
    code, _, errors = runs.run("run", runs.file(api, ISSUES, "no/such/page"))
    assert code == 3, errors
    assert (runs.folder / "out/page.jsonl").exists()
    code, _, errors = runs.run("run", runs.file(api, ISSUES))
    assert code == 0, errors  # a run without any, though those of the first are still there


def test_gave_up_at_a_limit(runs: Runs, api: str) -> None:
    """4: a limit is closed for longer than the run will wait, and which one is said."""
    more = "rate_limits: [{name: slow, rates: [{limit: 1, interval: 1h}]}]"
    code, said, errors = runs.run(
        "run", runs.file(api, ISSUES, "repos/octo/site/issues", more=more), "--max-wait", "10m"
    )
    assert code == 4, errors
    reason = next(line for line in said.splitlines() if "--max-wait" in line)
    assert "slow (127.0.0.1:" in reason
    assert "is closed for another 35" in reason  # of 3600 s


def test_stopped_at_a_bound(runs: Runs, api: str) -> None:
    """5: a bound is reached and work is left; the same command resumes it."""
    more = "rate_limits: [{name: slow, rates: [{limit: 1, interval: 1h}]}]"
    file = runs.file(api, ISSUES, "repos/octo/site/issues", more=more)
    code, _, errors = runs.run("run", file, "--for", "2s")
    assert code == 5, errors


def test_an_answer_said_stop(runs: Runs, api: str) -> None:
    """8: an action `fail`, with its message."""
    more = 'response_actions: [{match: {status: 404}, action: fail, message: "gone: ${status}"}]'
    code, said, errors = runs.run("run", runs.file(api, "no/such/page", more=more))
    assert code == 8, errors
    assert "gone: 404" in said


def test_a_wrong_file(runs: Runs) -> None:
    """2: every mistake with its place."""
    (runs.folder / "wrong.yaml").write_text("version: 1\nname: x\nresorces: []\n")
    code, _, errors = runs.run("run", "wrong.yaml")
    assert code == 2
    assert "wrong.yaml:3:1: resorces" in errors
    assert "Traceback" not in errors
    code, _, errors = runs.run("run", "no-such.yaml")
    assert code == 2
    one_error(errors, "no-such.yaml")
    code, _, errors = runs.run("run", "wrong.yaml", "--wrokers", "2")
    assert code == 2
    one_error(errors, "--wrokers")


def test_a_store_that_cannot_be_reached(runs: Runs, api: str) -> None:
    """6: one line, the URL without its password, and the remedy; at once."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"redis://user:secret@127.0.0.1:{unused.getsockname()[1]}/0"
        began_s = time.monotonic()
        code, _, errors = runs.run("--redis", url, "run", runs.file(api, ISSUES))
        assert time.monotonic() - began_s < 10.0
    assert code == 6
    one_error(errors, "cannot be reached", "redis.url")
    assert "secret" not in errors
    code, _, errors = runs.run("--redis", f"unix://{runs.folder}/none.sock", "run", runs.file(api, ISSUES))
    assert code == 6
    one_error(errors, "none.sock")


def test_a_folder_that_another_run_holds(runs: Runs, api: str) -> None:
    """6: the second run of a folder names the first one and the way to share a store; the first one goes on."""
    file = runs.file(api, ISSUES)
    first = runs.start("run", file, "--keep-running")
    until((runs.folder / "out/page.jsonl").exists)
    code, _, errors = runs.run("run", file)
    assert code == 6
    one_error(errors, str(first.pid), "redis.url")
    assert first.poll() is None
    first.send_signal(signal.SIGTERM)
    first.communicate(timeout=TIMEOUT_S)
    assert first.returncode == 0


def test_an_output_that_cannot_be_written(runs: Runs, api: str) -> None:
    """7: the path is named; nothing runs on behind it."""
    (runs.folder / "out").write_text("a file is in the way")
    code, _, errors = runs.run("run", runs.file(api, ISSUES))
    assert code == 7
    one_error(errors, str(runs.folder / "out"))
    assert not list(runtime_folder(runs.folder / ".scrapeq").glob("*.sock"))


def test_an_output_that_fails_on_the_way(runs: Runs, api: str) -> None:
    """7, too, when the output goes away while the run writes; when it is back the same command completes."""
    (runs.folder / "out").mkdir()
    (runs.folder / "out/page.jsonl").mkdir()  # found out at the first item
    code, said, errors = runs.run("run", runs.file(api, ISSUES))
    assert code == 7, errors
    assert "page.jsonl" in said
    assert "Traceback" not in errors
    (runs.folder / "out/page.jsonl").rmdir()
    code, said, errors = runs.run("run", runs.file(api, ISSUES))
    assert code == 0, errors
    assert (runs.folder / "out/page.jsonl").read_bytes().count(b"\n") == 30


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_folders_without_permission(runs: Runs, api: str) -> None:
    """7 for the output, 6 for the data folder."""
    (runs.folder / "out").mkdir(mode=0o500)
    code, _, errors = runs.run("run", runs.file(api, ISSUES))
    assert code == 7
    one_error(errors, "out")


def test_a_data_folder_that_cannot_be(runs: Runs, api: str) -> None:
    """6: a file stands where the data folder should be."""
    (runs.folder / ".scrapeq").write_text("a file is in the way")
    code, _, errors = runs.run("run", runs.file(api, ISSUES))
    assert code == 6
    one_error(errors, ".scrapeq")


def test_a_second_signal(runs: Runs, api: str) -> None:
    """130 at once."""
    first = runs.start("run", runs.file(api, ISSUES), "--keep-running")
    until((runs.folder / "out/page.jsonl").exists)
    first.send_signal(signal.SIGINT)
    first.send_signal(signal.SIGTERM)
    began_s = time.monotonic()
    _, errors = first.communicate(timeout=TIMEOUT_S)
    assert first.returncode == 130
    assert time.monotonic() - began_s < 2.0
    assert "Traceback" not in errors
