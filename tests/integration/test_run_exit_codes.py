"""`scrapeq run` ends with the documented exit code, one clear message, and never a traceback."""

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
    """Commands that run in one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.started: list[subprocess.Popen[str]] = []

    def file(self, url: str, *paths: str, more: str = "") -> str:
        """Write a configuration that requests these paths, and return its name."""
        seeds = json.dumps([{"path": path} for path in paths])
        (self.folder / "pages.yaml").write_text(PAGES.format(url=url, seeds=seeds, more=more))
        return "pages.yaml"

    def start(self, *words: str) -> subprocess.Popen[str]:
        """Start a command in the folder."""
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
        """Return the exit code, standard output and standard error of a command."""
        process = self.start(*words)
        out, errors = process.communicate(timeout=TIMEOUT_S)
        return process.returncode, out, errors


@pytest.fixture
def runs(tmp_path: Path) -> Iterator[Runs]:
    """Yield a runner of commands that are killed at the end of the test."""
    found = Runs(tmp_path)
    yield found
    for process in found.started:
        process.kill()
        process.communicate()


@pytest.fixture
def api() -> Iterator[str]:
    """Yield the URL of a sample API whose limits are high enough not to matter."""
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
    """Check that there is one error with these parts, and not a traceback."""
    assert "Traceback" not in errors
    assert "internal" not in errors
    assert errors.count("error: ") == 1, errors
    for part in parts:
        assert part in errors


def until(condition: Callable[[], Any]) -> Any:
    """Wait until the condition is true, and return its value."""
    deadline = time.monotonic() + TIMEOUT_S
    while not (found := condition()):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return found


def test_a_finished_run_ends_with_0(runs: Runs, api: str) -> None:
    """All items are in the output."""
    code, _, errors = runs.run("run", runs.file(api, ISSUES))
    assert code == 0, errors
    assert "Traceback" not in errors
    assert (runs.folder / "out/page.jsonl").read_bytes().count(b"\n") == 30


def test_a_run_with_dead_letters_ends_with_3(runs: Runs, api: str) -> None:
    """A page that does not exist becomes a dead letter; a later run without any ends with 0."""
    code, _, errors = runs.run("run", runs.file(api, ISSUES, "no/such/page"))
    assert code == 3, errors
    assert (runs.folder / "out/page.jsonl").exists()
    code, _, errors = runs.run("run", runs.file(api, ISSUES))
    assert code == 0, errors  # the dead letter of the first run does not count for this one


def test_giving_up_at_a_limit_ends_with_4(runs: Runs, api: str) -> None:
    """The message names the limit that is closed for longer than --max-wait."""
    more = "rate_limits: [{name: slow, rates: [{limit: 1, interval: 1h}]}]"
    code, out, errors = runs.run(
        "run", runs.file(api, ISSUES, "repos/octo/site/issues", more=more), "--max-wait", "10m"
    )
    assert code == 4, errors
    reason = next(line for line in out.splitlines() if "--max-wait" in line)
    assert "slow (127.0.0.1:" in reason
    assert "is closed for another 35" in reason  # of 3600 s


def test_a_bound_ends_with_5(runs: Runs, api: str) -> None:
    """With --for, work is left when the time is over."""
    more = "rate_limits: [{name: slow, rates: [{limit: 1, interval: 1h}]}]"
    file = runs.file(api, ISSUES, "repos/octo/site/issues", more=more)
    code, _, errors = runs.run("run", file, "--for", "2s")
    assert code == 5, errors


def test_the_action_fail_ends_with_8(runs: Runs, api: str) -> None:
    """The output has the message of the action."""
    more = 'response_actions: [{match: {status: 404}, action: fail, message: "gone: ${status}"}]'
    code, out, errors = runs.run("run", runs.file(api, "no/such/page", more=more))
    assert code == 8, errors
    assert "gone: 404" in out


def test_an_invalid_file_ends_with_2(runs: Runs) -> None:
    """Every mistake is reported with its position."""
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


def test_an_unreachable_store_ends_with_6(runs: Runs, api: str) -> None:
    """The error comes at once, with the remedy and without the password of the URL."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"redis://user:secret@127.0.0.1:{unused.getsockname()[1]}/0"
        started_s = time.monotonic()
        code, _, errors = runs.run("--redis", url, "run", runs.file(api, ISSUES))
        assert time.monotonic() - started_s < 10.0
    assert code == 6
    one_error(errors, "cannot be reached", "redis.url")
    assert "secret" not in errors
    code, _, errors = runs.run("--redis", f"unix://{runs.folder}/none.sock", "run", runs.file(api, ISSUES))
    assert code == 6
    one_error(errors, "none.sock")


def test_a_second_run_in_a_folder_ends_with_6(runs: Runs, api: str) -> None:
    """The error names the process of the first run and how to share a store; the first run continues."""
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


def test_an_unwritable_output_ends_with_7(runs: Runs, api: str) -> None:
    """The error names the path, and no process is left."""
    (runs.folder / "out").write_text("a file is in the way")
    code, _, errors = runs.run("run", runs.file(api, ISSUES))
    assert code == 7
    one_error(errors, str(runs.folder / "out"))
    assert not list(runtime_folder(runs.folder / ".scrapeq").glob("*.sock"))


def test_an_output_that_fails_during_the_run_ends_with_7(runs: Runs, api: str) -> None:
    """When the output works again, the same command completes the run."""
    (runs.folder / "out").mkdir()
    (runs.folder / "out/page.jsonl").mkdir()  # the first item cannot be written
    code, out, errors = runs.run("run", runs.file(api, ISSUES))
    assert code == 7, errors
    assert "page.jsonl" in out
    assert "Traceback" not in errors
    (runs.folder / "out/page.jsonl").rmdir()
    code, out, errors = runs.run("run", runs.file(api, ISSUES))
    assert code == 0, errors
    assert (runs.folder / "out/page.jsonl").read_bytes().count(b"\n") == 30


@pytest.mark.skipif(os.geteuid() == 0, reason="root can write everywhere")
def test_an_output_folder_without_permission_ends_with_7(runs: Runs, api: str) -> None:
    """The error names the folder."""
    (runs.folder / "out").mkdir(mode=0o500)
    code, _, errors = runs.run("run", runs.file(api, ISSUES))
    assert code == 7
    one_error(errors, "out")


def test_an_unusable_data_folder_ends_with_6(runs: Runs, api: str) -> None:
    """A file has the name of the data folder."""
    (runs.folder / ".scrapeq").write_text("a file is in the way")
    code, _, errors = runs.run("run", runs.file(api, ISSUES))
    assert code == 6
    one_error(errors, ".scrapeq")


@pytest.mark.serial  # it measures how soon the run ends
def test_a_second_signal_ends_with_130(runs: Runs, api: str) -> None:
    """It ends the run at once."""
    first = runs.start("run", runs.file(api, ISSUES), "--keep-running")
    until((runs.folder / "out/page.jsonl").exists)
    first.send_signal(signal.SIGINT)
    first.send_signal(signal.SIGTERM)
    started_s = time.monotonic()
    _, errors = first.communicate(timeout=TIMEOUT_S)
    assert first.returncode == 130
    assert time.monotonic() - started_s < 2.0
    assert "Traceback" not in errors
