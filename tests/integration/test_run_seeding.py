"""Seeds in a full queue, several files in one command, and machines that share a run: real processes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import redis

import scrapeq

ROOT = Path(scrapeq.__file__).parents[1]
TIMEOUT_S = 40.0
FILE = """
version: 1
name: {name}
client: {{base_url: "{url}"}}
seeds: {seeds}
queue: {queue}
resources:
  - name: page
    endpoint: {{path: "${{raw(seed.path)}}"}}
outputs: [{{type: jsonl, path: "{name}/page.jsonl"}}]
response_actions: [{{match: {{status: 404}}, action: fail, message: "gone"}}]
{more}
"""
SLOW = "rate_limits: [{name: slow, rates: [{limit: 1, interval: 1h}]}]"
PACED = "rate_limits: [{name: paced, rates: [{limit: 1, interval: 2s}]}]"
BOUNDED = "{max_tasks: 1, on_full: %s}"
WATCHING = """
import json, sys
from pathlib import Path
from scrapeq import config
from scrapeq.supervise.supervisor import RunOptions, run_plans_blocking

class States:
    printed = None

    def update(self, snapshots):
        states = [(s.state, s.workers) for s in snapshots]
        if states != self.printed:
            self.printed = states
            print(json.dumps(states), flush=True)

    def event(self, text): ...
    def finish(self, snapshots): ...
    def close(self): ...

plans = [config.load(file) for file in sys.argv[1:]]
sys.exit(run_plans_blocking(plans, RunOptions(for_s=6.0), States(), folder=Path(".scrapeq")))
"""


class Pages(BaseHTTPRequestHandler):
    """Serves every page except those whose path contains `gone`."""

    def do_GET(self) -> None:
        """Respond with one item."""
        body = b'{"id": 1}'
        self.send_response(404 if "gone" in self.path else 200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Log nothing."""


class Commands:
    """Runs commands in one folder, against one server."""

    def __init__(self, folder: Path, url: str) -> None:
        self.folder = folder
        self.url = url
        self.started: list[subprocess.Popen[str]] = []

    def file(self, name: str, *paths: str, queue: str = "{}", more: str = "") -> str:
        """Write a file of this name that requests these paths; return the file name."""
        seeds = json.dumps([{"path": path} for path in paths])
        text = FILE.format(name=name, url=self.url, seeds=seeds, queue=queue, more=more)
        (self.folder / f"{name}.yaml").write_text(text)
        return f"{name}.yaml"

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """Start `python` with these arguments."""
        process = subprocess.Popen(
            [sys.executable, *arguments],
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        self.started.append(process)
        return process

    def finish(self, process: subprocess.Popen[str]) -> tuple[int, str]:
        """Wait for a process; return its exit code and output, which never has a traceback."""
        output, _ = process.communicate(timeout=TIMEOUT_S)
        assert "Traceback" not in output
        return process.returncode, output

    def run(self, *arguments: str) -> tuple[int, str]:
        """Run one `scrapeq` command to its end; return its exit code and output."""
        return self.finish(self.start("-m", "scrapeq", *arguments))


@pytest.fixture
def commands(tmp_path: Path) -> Iterator[Commands]:
    """Yield a runner of commands in a temporary folder; the commands end with the test."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Pages)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    commands = Commands(tmp_path, f"http://127.0.0.1:{server.server_port}/")
    yield commands
    for process in commands.started:
        process.kill()
        process.communicate()
    server.shutdown()
    server.server_close()


def test_seeding_into_a_full_queue_does_not_block_the_end_of_a_run(commands: Commands) -> None:
    """With `on_full: block`, --for and a signal still end the run, and the same command resumes it."""
    file = commands.file("small", "a", "b", "c", "d", queue=BOUNDED % "block", more=PACED)
    started_s = time.monotonic()
    code, output = commands.run("run", file, "--for", "1s")
    assert code == 5, output
    assert time.monotonic() - started_s < 15.0
    process = commands.start("-m", "scrapeq", "run", file)
    assert process.stdout is not None
    assert process.stdout.readline()  # the run has started
    process.send_signal(signal.SIGINT)
    started_s = time.monotonic()
    assert commands.finish(process)[0] == 5
    assert time.monotonic() - started_s < 10.0
    code, output = commands.run("run", file)
    assert code == 0, output


def test_rejected_seeds_end_the_run(commands: Commands) -> None:
    """With `on_full: reject` the run ends with code 6 and the reason."""
    file = commands.file("small", "a", "b", "c", queue=BOUNDED % "reject", more=SLOW)
    code, output = commands.run("run", file)
    assert code == 6, output
    assert "the seeds cannot be pushed" in output
    assert "full (max_tasks is 1)" in output


def test_files_with_a_common_name_prefix_have_separate_writers(commands: Commands) -> None:
    """Each file has its own writer and its own items."""
    names = ["n" * 32 + end for end in "ab"]
    files = [commands.file(name, "1", "2") for name in names]
    code, output = commands.run("run", *files)
    assert code == 0, output
    for name in names:
        assert (commands.folder / f"{name}/page.jsonl").exists()


def test_two_files_with_one_name_are_refused(commands: Commands) -> None:
    """The error (code 2) names both files and the remedy; nothing has been started."""
    file = commands.file("same", "1")
    (commands.folder / "other.yaml").write_bytes((commands.folder / file).read_bytes())
    code, output = commands.run("run", file, "other.yaml")
    assert code == 2, output
    for part in ("same.yaml", "other.yaml", "'same'", "own `name`"):
        assert part in output
    assert not (commands.folder / ".scrapeq").exists()


def test_a_failed_run_drains_while_another_continues(commands: Commands) -> None:
    """The fetcher and the scheduler of the failed run end with it, not with the last run."""
    gone = commands.file("gone", "gone", more="run: {workers: 1}")
    slow = commands.file("slow", "1", "2", more=SLOW)
    (commands.folder / "watching.py").write_text(WATCHING)
    code, output = commands.finish(commands.start("watching.py", gone, slow))
    assert code == 8, output
    states = [json.loads(line) for line in output.splitlines() if line.startswith("[[")]
    assert any(
        first == ["failed", 0] and second[0] == "waiting" and second[1] > 0 for first, second in states
    ), states


def test_a_fetcher_that_was_started_before_the_seeding_ends(
    commands: Commands, store: redis.Redis, store_url: str
) -> None:
    """The fetcher notices that another machine has pushed the seeds and that all of them are done."""
    file = commands.file("shared", "1", "2", "3")
    fetcher = commands.start("-m", "scrapeq", "--redis", store_url, "run", file, "--role", "fetcher")
    deadline_s = time.monotonic() + TIMEOUT_S
    while not store.exists("scrapeq:{shared}:run"):
        assert time.monotonic() < deadline_s
        time.sleep(0.01)
    code, output = commands.run("--redis", store_url, "run", file, "--role", "scheduler")
    assert code == 0, output
    code, output = commands.finish(fetcher)
    assert code == 0, output
    assert (commands.folder / "shared/page.jsonl").exists()
