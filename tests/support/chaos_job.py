"""Shared parts of the chaos tests: a target server, runs as real processes, their children, and the final checks."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.request import urlopen

SUPPORT = Path(__file__).parent
ROOT = SUPPORT.parents[1]
# Programs that the tests start.
RUN_JOB, WORKER, TARGET = (SUPPORT / f"{name}.py" for name in ("run_job", "chaos_worker", "chaos_target"))
SCALE = float(os.environ.get("SCRAPEQ_CHAOS_SCALE", "1"))
SEED = int(os.environ.get("SCRAPEQ_CHAOS_SEED", "0")) or random.SystemRandom().randrange(1, 1 << 32)
PER_LIST = 100
START_S = 30.0
QUIET_START_S = 2.0  # from the start to the first items, on an idle machine
# Text in the command line that identifies each part of a run.
PARTS = {
    "fetcher": "scrapeq.worker.process",
    "writer": "scrapeq.writer.server",
    "scheduler": "scrapeq.supervise.scheduler_process",
    "demo": "scrapeq.demo",
    "fork server": "scrapeq: fork server",
    "store": "unixsocket",
}


def rng(name: str) -> random.Random:
    """Return the random numbers of one test; it prints their seed, and SCRAPEQ_CHAOS_SEED repeats them."""
    print(f"SCRAPEQ_CHAOS_SEED={SEED} SCRAPEQ_CHAOS_SCALE={SCALE:g}")
    return random.Random(f"{SEED}:{name}")


def scaled(small: int) -> int:
    """Scale a size by SCRAPEQ_CHAOS_SCALE: 1 in CI, more in a soak test."""
    return max(1, round(small * SCALE))


def wait_until(what: str, condition: Callable[[], Any], timeout_s: float, *, every_s: float = 0.01) -> Any:
    """Wait until a condition is true, and return its value; fail after `timeout_s` seconds."""
    deadline_s = time.monotonic() + timeout_s
    while not (found := condition()):
        assert time.monotonic() < deadline_s, f"not within {timeout_s:g} s: {what}"
        time.sleep(every_s)
    return found


def alive(pid: int) -> bool:
    """Whether a process runs; a zombie does not."""
    with suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    return False


def zombies_of(pid: int) -> list[int]:
    """Return the dead children that a process has not reaped."""
    return [child for child in _children(pid) if not alive(child)]


def _children(pid: int) -> list[int]:
    with suppress(OSError):
        return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return []


def _command(pid: int) -> str:
    with suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode("utf-8", "replace")
    return ""


def cpu_s(pid: int) -> float:
    """Return the CPU time of a process so far, seconds."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class Target:
    """The scraped server, as a process."""

    def __init__(self, latency_ms: float) -> None:
        self._process = subprocess.Popen(
            [sys.executable, str(TARGET), str(latency_ms)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout is not None
        self.url = self._process.stdout.readline().strip()
        assert self.url, "the target did not start"

    def requested(self) -> dict[str, list[float]]:
        """Return the times at which each path was requested."""
        return dict(self._log()["requested"])

    def responded(self) -> dict[str, list[float]]:
        """Return the times at which the response of each path was sent."""
        return dict(self._log()["responded"])

    def count(self) -> int:
        """Return the number of requests."""
        return sum(map(len, self.requested().values()))

    def set_latency(self, latency_ms: float) -> None:
        """From now on, delay responses by this time."""
        with urlopen(f"{self.url}/_latency/{latency_ms:g}", timeout=10):
            pass

    def _log(self) -> Any:
        with urlopen(f"{self.url}/_log", timeout=10) as response:
            return json.load(response)

    def close(self) -> None:
        """End it."""
        self._process.kill()
        self._process.communicate()


class Job:
    """
    A file that fetches `lists` lists of a hundred things each, in its own folder, and the runs of this file.

    Args:
        folder: The folder of the file and its runs.
        url: The target's URL.
        lists: The number of lists.
        redis: The URL of the store; "embedded" = its own.
    """

    def __init__(
        self,
        folder: Path,
        url: str,
        lists: int,
        *,
        workers: int = 2,
        concurrency: int = 8,
        grace: str = "10s",
        redis: str = "embedded",
        durability: str = "normal",
        lease_s: float = 2.0,
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.lists = lists
        self.concurrency = concurrency
        self.lease_s = lease_s
        self.process: subprocess.Popen[bytes] | None = None
        self.pids: set[int] = set()
        self.first_on_path: list[str] = []
        self.extra_environment: dict[str, str] = {}
        self.file = folder / "chaos.yaml"
        seeds = ", ".join(f"{{page: {n}}}" for n in range(lists))
        self.file.write_text(
            f"""
version: 1
name: chaos
redis: {{url: "{redis}", durability: {durability}}}
run: {{workers: {workers}, concurrency: {concurrency}, grace: {grace}}}
client: {{base_url: "{url}"}}
rate_limits: [{{name: open, max_concurrency: 1000, observe: none}}]
seeds: [{seeds}]
resources:
  - name: lists
    endpoint: {{path: "list/${{seed.page}}"}}
    selected: false
  - name: things
    parent: lists
    primary_key: id
    endpoint: {{path: "things/${{parent.id}}"}}
outputs: [{{type: jsonl, path: "out/${{resource}}.jsonl"}}]
"""
        )

    @property
    def tasks(self) -> int:
        """The number of requests if none is repeated."""
        return self.lists * (1 + PER_LIST)

    # --- the run as a process

    def start(self, **options: Any) -> None:
        """Start a run with these RunOptions; its output goes to files in the folder."""
        options_json = json.dumps({"lease_s": self.lease_s, **options})
        with (self.folder / "events.txt").open("a") as out, (self.folder / "errors.txt").open("a") as errors:
            self.process = subprocess.Popen(
                [sys.executable, str(RUN_JOB), str(self.file), options_json],
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=errors,
                env={
                    **os.environ,
                    **self.extra_environment,
                    "PYTHONPATH": os.pathsep.join([*self.first_on_path, str(ROOT)]),
                },
                start_new_session=True,
            )

    def start_up(self) -> float:
        """
        Start a run and wait for its first items.

        Return the seconds that this took longer than on an idle machine. Tests add them to the times that they allow.
        """
        started_s = time.monotonic()
        before = self.lines()
        self.start()
        wait_until("the first items", lambda: self.lines() > before or self._has_ended(), START_S)
        return max(0.0, time.monotonic() - started_s - QUIET_START_S)

    def _has_ended(self) -> bool:
        return self.process is not None and self.process.poll() is not None

    @property
    def pid(self) -> int:
        """The supervisor's process id."""
        assert self.process is not None
        return self.process.pid

    def children(self, part: str = "") -> list[int]:
        """Return its live child processes: of one part (a key of PARTS), or all."""
        descendants = _children(self.pid)
        descendants += [pid for child in descendants for pid in _children(child)]  # of the fork server
        found = [pid for pid in descendants if alive(pid)]
        self.pids.update(found)
        mark = PARTS[part] + (" " if part == "writer" else "") if part else ""
        return [pid for pid in found if not mark or mark in _command(pid) + " "]

    def kill(self, number: signal.Signals = signal.SIGKILL) -> None:
        """Send the supervisor a signal."""
        assert self.process is not None
        self.process.send_signal(number)

    def wait(self, timeout_s: float) -> int:
        """Wait for the end of the run, at most `timeout_s` seconds; return its exit code."""
        assert self.process is not None
        try:
            return self.process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise AssertionError(f"still running after {timeout_s:g} s; {self.last_output()}") from None

    def run(self, timeout_s: float) -> int:
        """Run the file to its end; return the exit code."""
        self.start()
        return self.wait(timeout_s)

    def last_output(self) -> str:
        """Return the end of all its output, for a failure."""
        return "\n".join(
            f"--- {name}:\n" + (self.folder / name).read_text("utf-8", "replace")[-3000:]
            for name in ("events.txt", "errors.txt", ".scrapeq/run.log")
            if (self.folder / name).exists()
        )

    def events(self) -> str:
        """Return all events of all its runs."""
        return (self.folder / "events.txt").read_text("utf-8", "replace")

    def errors(self) -> str:
        """Return what its runs wrote to standard error."""
        return (self.folder / "errors.txt").read_text("utf-8", "replace")

    # --- the outcome

    def items(self) -> list[int]:
        """Return the ids in the output, in order; every line must be complete."""
        path = self.folder / "out/things.jsonl"
        data = path.read_bytes() if path.exists() else b""
        assert not data or data.endswith(b"\n"), "an incomplete last line"
        return [json.loads(line)["id"] for line in data.splitlines()]

    def lines(self) -> int:
        """Return the number of lines in the output so far."""
        path = self.folder / "out/things.jsonl"
        return path.read_bytes().count(b"\n") if path.exists() else 0

    def assert_complete(self) -> None:
        """Check a completed run: each item once, no traceback, no process left."""
        assert_each_once(self.items(), self.lists)
        self.assert_no_traceback()
        wait_until("no process of the run is left", lambda: not any(map(alive, self.pids)), 3.0)

    def assert_no_traceback(self) -> None:
        """Check that no process of the run failed with an unexpected error."""
        for name in ("errors.txt", ".scrapeq/run.log"):
            text = (self.folder / name).read_text("utf-8", "replace")
            assert "Traceback" not in text, text[text.index("Traceback") :][:3000]


def assert_each_once(items: Iterable[int], lists: int) -> None:
    """Check that each thing was written exactly once."""
    counts = Counter(items)
    expected = set(range(lists * PER_LIST))
    lost = sorted(expected - counts.keys())
    twice = sorted(id_ for id_, n in counts.items() if n > 1)
    assert not lost, f"{len(lost)} lost, such as {lost[:5]}"
    assert not twice, f"{len(twice)} twice, such as {twice[:5]}"
    assert counts.keys() == expected, "unexpected items"


def repeats(requested: dict[str, list[float]]) -> dict[str, list[float]]:
    """Return the paths that were requested more than once."""
    return {path: times for path, times in requested.items() if len(times) > 1}


@contextmanager
def ending(job: Job) -> Iterator[Job]:
    """End all processes of a job after its test, whatever happens."""
    try:
        yield job
    finally:
        if job.process is not None:
            job.children()
            job.process.kill()
            job.process.wait()
        for pid in job.pids:
            with suppress(OSError):
                if any(mark in _command(pid) for mark in PARTS.values()):
                    os.kill(pid, signal.SIGKILL)
