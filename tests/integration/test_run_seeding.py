"""Runs whose seeds find no room, several files in one command, and machines that share the work: real processes."""

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
from scrapeq.supervise.supervisor import RunOptions, run_here

class States:
    said = None

    def update(self, snapshots):
        now = [(s.state, s.workers) for s in snapshots]
        if now != self.said:
            self.said = now
            print(json.dumps(now), flush=True)

    def event(self, text): ...
    def finish(self, snapshots): ...
    def close(self): ...

plans = [config.load(file) for file in sys.argv[1:]]
sys.exit(run_here(plans, RunOptions(for_s=6.0), States(), folder=Path(".scrapeq")))
"""


class Pages(BaseHTTPRequestHandler):
    """Every page but `gone`."""

    def do_GET(self) -> None:
        """One item."""
        body = b'{"id": 1}'
        self.send_response(404 if "gone" in self.path else 200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Silent."""


class Commands:
    """Commands in one folder, against one server."""

    def __init__(self, folder: Path, url: str) -> None:
        self.folder = folder
        self.url = url
        self.started: list[subprocess.Popen[str]] = []

    def file(self, name: str, *paths: str, queue: str = "{}", more: str = "") -> str:
        """A file of this name that asks for these paths."""
        seeds = json.dumps([{"path": path} for path in paths])
        text = FILE.format(name=name, url=self.url, seeds=seeds, queue=queue, more=more)
        (self.folder / f"{name}.yaml").write_text(text)
        return f"{name}.yaml"

    def start(self, *words: str) -> subprocess.Popen[str]:
        """Start `python` with these words."""
        process = subprocess.Popen(
            [sys.executable, *words],
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        self.started.append(process)
        return process

    def ended(self, process: subprocess.Popen[str]) -> tuple[int, str]:
        """Its exit code and all it said, never a traceback."""
        said, _ = process.communicate(timeout=TIMEOUT_S)
        assert "Traceback" not in said
        return process.returncode, said

    def run(self, *words: str) -> tuple[int, str]:
        """One `scrapeq` command to its end."""
        return self.ended(self.start("-m", "scrapeq", *words))


@pytest.fixture
def commands(tmp_path: Path) -> Iterator[Commands]:
    """Commands of a folder of their own; they end with the test."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Pages)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    found = Commands(tmp_path, f"http://127.0.0.1:{server.server_port}/")
    yield found
    for process in found.started:
        process.kill()
        process.communicate()
    server.shutdown()
    server.server_close()


def test_seeds_that_find_no_room_keep_no_bound_from_ending_the_run(commands: Commands) -> None:
    """A full queue that blocks: --for counts, a signal ends it, and the same command goes on."""
    file = commands.file("small", "a", "b", "c", "d", queue=BOUNDED % "block", more=PACED)
    began_s = time.monotonic()
    code, said = commands.run("run", file, "--for", "1s")
    assert code == 5, said
    assert time.monotonic() - began_s < 15.0
    process = commands.start("-m", "scrapeq", "run", file)
    assert process.stdout is not None
    assert process.stdout.readline()  # it is under way
    process.send_signal(signal.SIGINT)
    began_s = time.monotonic()
    assert commands.ended(process)[0] == 5
    assert time.monotonic() - began_s < 10.0
    code, said = commands.run("run", file)
    assert code == 0, said


def test_seeds_that_find_no_room_and_are_rejected_end_the_run(commands: Commands) -> None:
    """6, and why."""
    file = commands.file("small", "a", "b", "c", queue=BOUNDED % "reject", more=SLOW)
    code, said = commands.run("run", file)
    assert code == 6, said
    assert "the seeds cannot be pushed" in said
    assert "full (max_tasks is 1)" in said


def test_two_files_whose_names_begin_alike(commands: Commands) -> None:
    """Each has its own writer and its own items."""
    names = ["n" * 32 + end for end in "ab"]
    files = [commands.file(name, "1", "2") for name in names]
    code, said = commands.run("run", *files)
    assert code == 0, said
    for name in names:
        assert (commands.folder / f"{name}/page.jsonl").exists()


def test_two_files_of_one_name(commands: Commands) -> None:
    """2, both files and the remedy are named, and nothing was begun."""
    file = commands.file("same", "1")
    (commands.folder / "other.yaml").write_bytes((commands.folder / file).read_bytes())
    code, said = commands.run("run", file, "other.yaml")
    assert code == 2, said
    for part in ("same.yaml", "other.yaml", "'same'", "own `name`"):
        assert part in said
    assert not (commands.folder / ".scrapeq").exists()


def test_a_run_that_failed_drains_while_another_goes_on(commands: Commands) -> None:
    """Its fetcher and its scheduler end with it, not with the last file."""
    gone = commands.file("gone", "gone", more="run: {workers: 1}")
    slow = commands.file("slow", "1", "2", more=SLOW)
    (commands.folder / "watching.py").write_text(WATCHING)
    code, said = commands.ended(commands.start("watching.py", gone, slow))
    assert code == 8, said
    states = [json.loads(line) for line in said.splitlines() if line.startswith("[[")]
    assert any(
        first == ["failed", 0] and second[0] == "waiting" and second[1] > 0 for first, second in states
    ), states


def test_a_fetcher_that_was_started_first_ends(
    commands: Commands, store: redis.Redis, store_url: str
) -> None:
    """It sees that another machine has pushed the seeds, and that all of them are done."""
    file = commands.file("shared", "1", "2", "3")
    fetcher = commands.start("-m", "scrapeq", "--redis", store_url, "run", file, "--role", "fetcher")
    deadline_s = time.monotonic() + TIMEOUT_S
    while not store.exists("scrapeq:{shared}:run"):
        assert time.monotonic() < deadline_s
        time.sleep(0.01)
    code, said = commands.run("--redis", store_url, "run", file, "--role", "scheduler")
    assert code == 0, said
    code, said = commands.ended(fetcher)
    assert code == 0, said
    assert (commands.folder / "shared/page.jsonl").exists()
