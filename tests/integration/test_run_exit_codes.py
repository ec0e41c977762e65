"""`scrapeq run` as a user sees it: the exit code of every ending, one clear message, and never a traceback."""

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
    """Runs commands in one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.started: list[subprocess.Popen[str]] = []

    def file(self, url: str, *paths: str, more: str = "") -> str:
        """Write a file that requests these paths; return its name."""
        seeds = json.dumps([{"path": path} for path in paths])
        (self.folder / "pages.yaml").write_text(PAGES.format(url=url, seeds=seeds, more=more))
        return "pages.yaml"

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """Start a `scrapeq` command."""
        process = subprocess.Popen(
            [sys.executable, "-m", "scrapeq", *arguments],
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        self.started.append(process)
        return process

    def run(self, *arguments: str) -> tuple[int, str, str]:
        """Run a command; return its exit code, standard output and standard error."""
        process = self.start(*arguments)
        out, errors = process.communicate(timeout=TIMEOUT_S)
        return process.returncode, out, errors


@pytest.fixture
def runs(tmp_path: Path) -> Iterator[Runs]:
    """Runs in a temporary folder; they end with the test."""
    commands = Runs(tmp_path)
    yield commands
    for process in commands.started:
        process.kill()
        process.communicate()


@pytest.fixture
def api() -> Iterator[str]:
    """Start the sample API as a process, with a limit that is never reached; yield its URL."""
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


def assert_one_error(errors: str, *parts: str) -> None:
    """Check that there is one error with these parts, and no traceback."""
    assert "Traceback" not in errors
    assert "internal" not in errors
    assert errors.count("error: ") == 1, errors
    for part in parts:
        assert part in errors


def wait_until(condition: Callable[[], Any]) -> Any:
    """Wait until a condition is true, and return its value."""
    deadline_s = time.monotonic() + TIMEOUT_S
    while not (found := condition()):
        assert time.monotonic() < deadline_s
        time.sleep(0.01)
    return found


def test_0_done(runs: Runs, api: str) -> None:
    """All items are written."""
    code, _, errors = runs.run("run", runs.file(api, ISSUES))
    assert code == 0, errors
    assert "Traceback" not in errors
    assert (runs.folder / "out/page.jsonl").read_bytes().count(b"\n") == 30


def test_3_dead_letters(runs: Runs, api: str) -> None:
    """Everything is done except a page that does not exist; a later run without one ends with 0."""
    code, _, errors = runs.run("run", runs.file(api, ISSUES, "no/such/page"))
    assert code == 3, errors
    assert (runs.folder / "out/page.jsonl").exists()
    code, _, errors = runs.run("run", runs.file(api, ISSUES))
    assert code == 0, errors  # the dead letter of the first run does not count


def test_4_gave_up_at_a_limit(runs: Runs, api: str) -> None:
    """A limit is closed for longer than --max-wait; the message names the limit."""
    more = "rate_limits: [{name: slow, rates: [{limit: 1, interval: 1h}]}]"
    code, output, errors = runs.run(
        "run", runs.file(api, ISSUES, "repos/octo/site/issues", more=more), "--max-wait", "10m"
    )
    assert code == 4, errors
    reason = next(line for line in output.splitlines() if "--max-wait" in line)
    assert "slow (127.0.0.1:" in reason
    assert "is closed for another 35" in reason  # of 3600 s


def test_5_stopped_at_a_bound(runs: Runs, api: str) -> None:
    """A bound is reached and work is left."""
    more = "rate_limits: [{name: slow, rates: [{limit: 1, interval: 1h}]}]"
    file = runs.file(api, ISSUES, "repos/octo/site/issues", more=more)
    code, _, errors = runs.run("run", file, "--for", "2s")
    assert code == 5, errors


def test_8_stopped_by_a_response(runs: Runs, api: str) -> None:
    """The action `fail` ends the run with its message."""
    more = 'response_actions: [{match: {status: 404}, action: fail, message: "gone: ${status}"}]'
    code, output, errors = runs.run("run", runs.file(api, "no/such/page", more=more))
    assert code == 8, errors
    assert "gone: 404" in output


def test_2_wrong_file_or_option(runs: Runs) -> None:
    """Every mistake is reported with its position."""
    (runs.folder / "wrong.yaml").write_text("version: 1\nname: x\nresorces: []\n")
    code, _, errors = runs.run("run", "wrong.yaml")
    assert code == 2
    assert "wrong.yaml:3:1: resorces" in errors
    assert "Traceback" not in errors
    code, _, errors = runs.run("run", "no-such.yaml")
    assert code == 2
    assert_one_error(errors, "no-such.yaml")
    code, _, errors = runs.run("run", "wrong.yaml", "--wrokers", "2")
    assert code == 2
    assert_one_error(errors, "--wrokers")


def test_6_store_that_cannot_be_reached(runs: Runs, api: str) -> None:
    """One line with the URL without its password, and the remedy; without waiting."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"redis://user:secret@127.0.0.1:{unused.getsockname()[1]}/0"
        started_s = time.monotonic()
        code, _, errors = runs.run("--redis", url, "run", runs.file(api, ISSUES))
        assert time.monotonic() - started_s < 10.0
    assert code == 6
    assert_one_error(errors, "cannot be reached", "redis.url")
    assert "secret" not in errors
    code, _, errors = runs.run("--redis", f"unix://{runs.folder}/none.sock", "run", runs.file(api, ISSUES))
    assert code == 6
    assert_one_error(errors, "none.sock")


def test_6_folder_that_another_run_holds(runs: Runs, api: str) -> None:
    """The error names the first run and the way to share a store; the first run is not affected."""
    file = runs.file(api, ISSUES)
    first = runs.start("run", file, "--keep-running")
    wait_until((runs.folder / "out/page.jsonl").exists)
    code, _, errors = runs.run("run", file)
    assert code == 6
    assert_one_error(errors, str(first.pid), "redis.url")
    assert first.poll() is None
    first.send_signal(signal.SIGTERM)
    first.communicate(timeout=TIMEOUT_S)
    assert first.returncode == 0


def test_7_output_that_cannot_be_written(runs: Runs, api: str) -> None:
    """The error names the path, and no process is left running."""
    (runs.folder / "out").write_text("a file is in the way")
    code, _, errors = runs.run("run", runs.file(api, ISSUES))
    assert code == 7
    assert_one_error(errors, str(runs.folder / "out"))
    assert not list(runtime_folder(runs.folder / ".scrapeq").glob("*.sock"))


def test_7_output_that_fails_during_the_run(runs: Runs, api: str) -> None:
    """The output fails while the run writes; once it is repaired, the same command completes the run."""
    (runs.folder / "out").mkdir()
    (runs.folder / "out/page.jsonl").mkdir()  # the run fails at the first item
    code, output, errors = runs.run("run", runs.file(api, ISSUES))
    assert code == 7, errors
    assert "page.jsonl" in output
    assert "Traceback" not in errors
    (runs.folder / "out/page.jsonl").rmdir()
    code, output, errors = runs.run("run", runs.file(api, ISSUES))
    assert code == 0, errors
    assert (runs.folder / "out/page.jsonl").read_bytes().count(b"\n") == 30


@pytest.mark.skipif(os.geteuid() == 0, reason="root can write everywhere")
def test_7_output_folder_without_permission(runs: Runs, api: str) -> None:
    """The error names the output folder."""
    (runs.folder / "out").mkdir(mode=0o500)
    code, _, errors = runs.run("run", runs.file(api, ISSUES))
    assert code == 7
    assert_one_error(errors, "out")


def test_6_data_folder_that_cannot_be_created(runs: Runs, api: str) -> None:
    """A file is in the place of the data folder."""
    (runs.folder / ".scrapeq").write_text("a file is in the way")
    code, _, errors = runs.run("run", runs.file(api, ISSUES))
    assert code == 6
    assert_one_error(errors, ".scrapeq")


def test_130_second_signal(runs: Runs, api: str) -> None:
    """The run ends at once."""
    first = runs.start("run", runs.file(api, ISSUES), "--keep-running")
    wait_until((runs.folder / "out/page.jsonl").exists)
    first.send_signal(signal.SIGINT)
    first.send_signal(signal.SIGTERM)
    started_s = time.monotonic()
    _, errors = first.communicate(timeout=TIMEOUT_S)
    assert first.returncode == 130
    assert time.monotonic() - started_s < 2.0
    assert "Traceback" not in errors
