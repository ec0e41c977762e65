"""Rivals, measured on the same machine in turns with this queue; they have a virtual environment of their own."""

from __future__ import annotations

import shutil
import subprocess
import venv
from collections.abc import Callable, Iterator
from pathlib import Path

import orjson
import uvloop

from benchmarks.queue_figures import speed
from benchmarks.queue_figures import workload as w
from benchmarks.queue_figures.engine import Server
from benchmarks.queue_figures.report import Figure
from scrapeq.errors import ScrapeqError

FOLDER = Path(__file__).resolve().parents[1]
PEERS = FOLDER / "peers"
REQUIREMENTS = PEERS / "requirements.txt"
ENVIRONMENT = FOLDER / ".venv"
INSTALLED = ENVIRONMENT / "requirements.txt"  # a copy of what was installed
LOOPS = ("saq", "arq", "streaq", "bullmq", "rq")
BEANSTALKD, LOOP = 1.5, 5.0
TIMEOUT_S = 600.0
LOOP_SHARE = 2  # the loops of rivals are slower: they get one in so many of the tasks


class RivalError(ScrapeqError):
    """A rival could not be installed, or failed."""


def rivals(server: Server, sizes: w.Sizes) -> Iterator[Figure]:
    """Compare with beanstalkd, with the first design of this queue, and with the fastest worker loop."""
    python = environment()
    into = w.groups(w.GROUPS)
    if shutil.which("beanstalkd"):
        theirs: dict[str, float] = {}
        ours = 0.0
        for _ in range(sizes.repeats):
            theirs = _best(theirs, _run(python, "beanstalkd_raw", server, sizes, sizes.single))
            ours = max(ours, uvloop.run(speed.pop_ack_rate(server, sizes.tasks, into)))
        yield _ratio("pop_many(100) + ack, 1,000 groups, to beanstalkd", ours, theirs["pop_ack"], BEANSTALKD)
        ours = max(uvloop.run(speed.push_rate(server, sizes.tasks)) for _ in range(sizes.repeats))
        yield _ratio("push_many, 100 per call, to beanstalkd's, 100 pipelined", ours, theirs["push"])
        ours = max(speed.single_rate(server, sizes.single) for _ in range(sizes.repeats))
        yield _ratio("pop + ack one at a time, to beanstalkd", ours, theirs["single"])
    yield from _seed(python, server, sizes)
    yield from _loops(python, server, sizes)


def _seed(python: Path, server: Server, sizes: w.Sizes) -> Iterator[Figure]:
    theirs: dict[str, float] = {}
    ours = 0.0
    for _ in range(sizes.repeats):
        theirs = _best(theirs, _run(python, "seed_way", server, sizes, sizes.single))
        ours = max(ours, speed.single_rate(server, sizes.single))
    yield _ratio("pop + ack one at a time, to the first design", ours, theirs["single"])
    yield Figure(
        "rivals", f"the first design: a pop with a closed group of {sizes.parked:,}", theirs["park"], "us"
    )
    yield Figure("rivals", "the first design: bytes per task", theirs["bytes"], "bytes")


def _loops(python: Path, server: Server, sizes: w.Sizes) -> Iterator[Figure]:
    loops: dict[str, float] = {}
    for name in LOOPS:
        theirs: dict[str, float] = {}
        for _ in range(sizes.repeats):
            theirs = _best(theirs, _run(python, f"{name}_loop", server, sizes, sizes.single // LOOP_SHARE))
        loops[name] = theirs["loop"]
        yield Figure("rivals", f"{name}: loop on empty jobs", theirs["loop"], "tasks/s")
        yield Figure("rivals", f"{name}: push", theirs["push"], "tasks/s")
    best = max(loops, key=loops.__getitem__)
    ours = max(uvloop.run(speed.fetch_loop_rate(server, sizes.tasks)) for _ in range(sizes.repeats))
    yield _ratio(f"fetch worker's own loop, to the best of theirs ({best})", ours, loops[best], LOOP)


def _ratio(name: str, ours: float, theirs: float, target: float | None = None) -> Figure:
    note = f"{ours:,.0f} to {theirs:,.0f} tasks/s"
    return Figure("rivals", name, ours / theirs, "x", target, "least", note=note)


LESS_IS_BETTER = ("park", "bytes")


def _best(one: dict[str, float], other: dict[str, float]) -> dict[str, float]:
    """Merge two measurements, with the better of each value: rivals get their best run, too."""
    if not one:
        return other
    choose: dict[bool, Callable[[float, float], float]] = {True: min, False: max}
    return {name: choose[name in LESS_IS_BETTER](one[name], other[name]) for name in one}


def _run(python: Path, script: str, server: Server, sizes: w.Sizes, tasks: int) -> dict[str, float]:
    """Run one rival on a fresh server of the same engine."""
    with Server(server.binary) as own:
        sized = ["--tasks", str(tasks), "--slots", str(speed.SLOTS), "--parked", str(sizes.parked)]
        command = [str(python), str(PEERS / f"{script}.py"), "--socket", own.socket, *sized]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
        except subprocess.TimeoutExpired:
            raise RivalError(f"{script}: still running after {TIMEOUT_S:g} s") from None
    if done.returncode:
        raise RivalError(f"{script}: {done.stderr.strip()[-1000:]}")
    figures: dict[str, float] = orjson.loads(done.stdout)
    return figures


def environment() -> Path:
    """Return the Python of the rivals' environment; create it if it is missing or out of date."""
    python = ENVIRONMENT / "bin" / "python"
    required = REQUIREMENTS.read_text("utf-8")
    if python.exists() and INSTALLED.exists() and INSTALLED.read_text("utf-8") == required:
        return python
    print(f"  installing the rivals into {ENVIRONMENT.relative_to(FOLDER.parent)} …", flush=True)
    venv.create(ENVIRONMENT, clear=True, with_pip=True)
    install = [str(python), "-m", "pip", "install", "--quiet", "--requirement", str(REQUIREMENTS)]
    done = subprocess.run(install, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RivalError(f"the rivals could not be installed: {done.stderr.strip()[-1000:]}")
    INSTALLED.write_text(required, "utf-8")
    return python
