"""What the chaos tests share: a target, jobs as real processes, their children, and the verdict at the end."""

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

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
SCALE = float(os.environ.get("SCRAPEQ_CHAOS_SCALE", "1"))
SEED = int(os.environ.get("SCRAPEQ_CHAOS_SEED", "0")) or random.SystemRandom().randrange(1, 1 << 32)
PER_LIST = 100
START_S = 30.0
QUIET_START_S = 2.0
# How a process of a run is told from the others, in its command line.
PARTS = {
    "fetcher": "scrapeq.worker.process",
    "writer": "scrapeq.writer.server",
    "scheduler": "scrapeq.supervise.scheduler_process",
    "demo": "scrapeq.demo",
    "fork server": "scrapeq: fork server",
    "store": "unixsocket",
}


def rng(name: str) -> random.Random:
    """Chance for one test; its seed is printed, and SCRAPEQ_CHAOS_SEED repeats it."""
    print(f"SCRAPEQ_CHAOS_SEED={SEED} SCRAPEQ_CHAOS_SCALE={SCALE:g}")
    return random.Random(f"{SEED}:{name}")


def scaled(small: int) -> int:
    """A size: as given in CI, larger by SCRAPEQ_CHAOS_SCALE in a soak."""
    return max(1, round(small * SCALE))


def until(what: str, holds: Callable[[], Any], timeout_s: float, *, every_s: float = 0.01) -> Any:
    """Wait until something holds, and give it; a failure when it does not in time."""
    deadline = time.monotonic() + timeout_s
    while not (found := holds()):
        assert time.monotonic() < deadline, f"after {timeout_s:g} s still not: {what}"
        time.sleep(every_s)
    return found


def alive(pid: int) -> bool:
    """Whether a process runs; a zombie does not."""
    with suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    return False


def zombies_of(pid: int) -> list[int]:
    """Dead children that a process has not reaped."""
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
    """CPU time of a process so far, seconds."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class Target:
    """The server that is scraped."""

    def __init__(self, latency_ms: float) -> None:
        self._process = subprocess.Popen(
            [sys.executable, str(HERE / "chaos_target.py"), str(latency_ms)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout is not None
        self.url = self._process.stdout.readline().strip()
        assert self.url, "the target did not start"

    def asked(self) -> dict[str, list[float]]:
        """When each path was asked for."""
        return dict(self._seen()["asked"])

    def answered(self) -> dict[str, list[float]]:
        """When each path was answered."""
        return dict(self._seen()["answered"])

    def count(self) -> int:
        """How many requests there were."""
        return sum(map(len, self.asked().values()))

    def answer_within(self, latency_ms: float) -> None:
        """From now on answers take so long."""
        with urlopen(f"{self.url}/_latency/{latency_ms:g}", timeout=10):
            pass

    def _seen(self) -> Any:
        with urlopen(f"{self.url}/_seen", timeout=10) as answer:
            return json.load(answer)

    def close(self) -> None:
        """End it."""
        self._process.kill()
        self._process.communicate()


class Job:
    """
    A file that fetches `lists` lists of a hundred things each, in a folder of its own, and the runs of it.

    Args:
        folder: Where it runs.
        url: The target.
        lists: How many.
        redis: The store; embedded unless it is a URL.
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
        self.process: subprocess.Popen[str] | None = None
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
        """Requests that it takes when each is made once."""
        return self.lists * (1 + PER_LIST)

    # --- the run as a process

    def start(self, **options: Any) -> None:
        """Start a run with these RunOptions; its output goes to files in the folder."""
        given = json.dumps({"lease_s": self.lease_s, **options})
        with (self.folder / "said.txt").open("a") as out, (self.folder / "errors.txt").open("a") as errors:
            self.process = subprocess.Popen(
                [sys.executable, str(HERE / "run_job.py"), str(self.file), given],
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

        Returns the seconds by which this took longer than on a machine that has time for us: figures that hold for such
        a machine get as much longer here.
        """
        began_s = time.monotonic()
        before = self.lines()
        self.start()
        until("the first items", lambda: self.lines() > before or self._over(), START_S)
        return max(0.0, time.monotonic() - began_s - QUIET_START_S)

    def _over(self) -> bool:
        return self.process is not None and self.process.poll() is not None

    @property
    def pid(self) -> int:
        """The supervisor's process id."""
        assert self.process is not None
        return self.process.pid

    def children(self, part: str = "") -> list[int]:
        """Its live child processes, of one part or all."""
        below = _children(self.pid)
        below += [pid for child in below for pid in _children(child)]  # most are forked by the nursery
        found = [pid for pid in below if alive(pid)]
        self.pids.update(found)
        mark = PARTS[part] + (" " if part == "writer" else "") if part else ""
        return [pid for pid in found if not mark or mark in _command(pid) + " "]

    def kill(self, number: signal.Signals = signal.SIGKILL) -> None:
        """Send the supervisor a signal."""
        assert self.process is not None
        self.process.send_signal(number)

    def ends(self, timeout_s: float) -> int:
        """Its exit code, within so many seconds."""
        assert self.process is not None
        try:
            return self.process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise AssertionError(f"still runs after {timeout_s:g} s; {self.last_words()}") from None

    def run(self, timeout_s: float) -> int:
        """A whole run; its exit code."""
        self.start()
        return self.ends(timeout_s)

    def last_words(self) -> str:
        """What it said last, for a failure."""
        return "\n".join(
            f"--- {name}:\n" + (self.folder / name).read_text("utf-8", "replace")[-3000:]
            for name in ("said.txt", "errors.txt", ".scrapeq/run.log")
            if (self.folder / name).exists()
        )

    def said(self) -> str:
        """All events of all its runs."""
        return (self.folder / "said.txt").read_text("utf-8", "replace")

    def errors(self) -> str:
        """What it wrote to standard error."""
        return (self.folder / "errors.txt").read_text("utf-8", "replace")

    # --- the outcome

    def items(self) -> list[int]:
        """The ids in the output, in order; every line must be whole."""
        path = self.folder / "out/things.jsonl"
        data = path.read_bytes() if path.exists() else b""
        assert not data or data.endswith(b"\n"), "half a line at the end"
        return [json.loads(line)["id"] for line in data.splitlines()]

    def lines(self) -> int:
        """How many lines are in the output by now."""
        path = self.folder / "out/things.jsonl"
        return path.read_bytes().count(b"\n") if path.exists() else 0

    def verdict(self) -> None:
        """After a full drain: nothing lost, nothing twice, nothing unexpected, no traceback, no orphan."""
        assert_each_once(self.items(), self.lists)
        self.assert_calm()
        until("no process of the run is left", lambda: not any(map(alive, self.pids)), 3.0)

    def assert_calm(self) -> None:
        """No process of it ended by an error that nobody foresaw."""
        for name in ("errors.txt", ".scrapeq/run.log"):
            text = (self.folder / name).read_text("utf-8", "replace")
            assert "Traceback" not in text, text[text.index("Traceback") :][:3000]


def assert_each_once(items: Iterable[int], lists: int) -> None:
    """Each thing once."""
    counts = Counter(items)
    expected = set(range(lists * PER_LIST))
    lost = sorted(expected - counts.keys())
    twice = sorted(id_ for id_, n in counts.items() if n > 1)
    assert not lost, f"{len(lost)} lost, such as {lost[:5]}"
    assert not twice, f"{len(twice)} twice, such as {twice[:5]}"
    assert counts.keys() == expected, "unexpected items"


def repeats(asked: dict[str, list[float]]) -> dict[str, list[float]]:
    """The paths that were asked for more than once."""
    return {path: times for path, times in asked.items() if len(times) > 1}


@contextmanager
def ending(job: Job) -> Iterator[Job]:
    """Whatever happens in a test, its processes end."""
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
