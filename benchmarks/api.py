"""
What a record of an API costs, beside dlt's REST source doing the same.

    python benchmarks/api.py [--small] [--rounds N] [--json FILE]

CPU seconds of all processes of each side (the store, the writer and the supervisor among them), by turns, the best of
the rounds. The server is a process of its own, which does not count. dlt is installed in an environment of its own.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
import venv
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
ENVIRONMENT = ROOT / "benchmarks" / ".env" / "dlt"
DLT = "dlt==1.31.0"
ROUNDS = 3
TIMEOUT_S = 300

CONFIG = """\
version: 1
name: bench
client: {{base_url: "{url}"}}
resources:
  - name: items
    endpoint: {{path: items, data_selector: data, paginator: {{type: page_number, total_path: total_pages}}}}
    primary_key: id
{child}
outputs: [{{type: jsonl, path: "out/${{resource}}.jsonl"}}]
"""
NESTED = """\
  - name: labels
    parent: {resource: items, each: labels}
    include_from_parent: [id]
    primary_key: [_items_id, name]
"""
PAGES = """\
  - name: children
    parent: items
    endpoint: {path: "items/${parent.id}/children", data_selector: data}
    include_from_parent: [id]
    primary_key: id
"""


@dataclass(frozen=True)
class Shape:
    """How much there is, and where the children are: inside the records, or on a page of their own each."""

    name: str
    pages: int
    size: int
    children: int

    @property
    def records(self) -> int:
        """How many records there are in the pages, without the children."""
        return self.pages * self.size


@dataclass(frozen=True)
class Cost:
    """One side's cost of one shape."""

    shape: str
    side: str
    items: int
    cpu_s: float
    wall_s: float

    @property
    def us(self) -> float:
        """CPU microseconds an item."""
        return self.cpu_s / self.items * 1e6 if self.items else float("nan")


SHAPES = (Shape("nested", 100, 100, 0), Shape("pages", 10, 100, 10))
SMALL = (Shape("nested", 3, 10, 0), Shape("pages", 2, 5, 3))


@contextmanager
def served(shape: Shape) -> Iterator[str]:
    """The API of a shape; its base URL."""
    every = 1 if shape.children else shape.records + 1
    numbers = [str(n) for n in (shape.pages, shape.size, every, shape.children)]
    command = [sys.executable, "-m", "benchmarks.api_figures.server", *numbers]
    with subprocess.Popen(
        command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None and process.stdout is not None
        try:
            yield f"http://127.0.0.1:{process.stdout.readline().strip()}"
        finally:
            process.stdin.close()


def _timed(command: list[str], folder: Path) -> tuple[float, float, str]:
    """CPU seconds of a command and all its children, wall seconds, and what it printed."""
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith(("SCRAPEQ_", "PYTHONDONT"))
    }
    done = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, timeout=TIMEOUT_S, check=False, env=environment
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} ended with {done.returncode}:\n{done.stderr[-2000:]}")
    cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return cpu_s, time.monotonic() - began, done.stdout


def ours(shape: Shape, url: str) -> Cost:
    """`scrapeq run`, one fetcher, the embedded store, JSON Lines."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        child = PAGES if shape.children else NESTED
        (folder / "bench.yaml").write_text(CONFIG.format(url=url, child=child))
        command = [
            sys.executable,
            "-m",
            "scrapeq",
            "run",
            "bench.yaml",
            "--workers",
            "1",
            "--progress",
            "none",
        ]
        cpu_s, wall_s, _ = _timed(command, folder)
        items = sum(path.read_bytes().count(b"\n") for path in (folder / "out").glob("*.jsonl"))
        return Cost(shape.name, "scrapeq", items, cpu_s, wall_s)


def theirs(shape: Shape, url: str, kind: str) -> Cost:
    """dlt's REST source: its whole pipeline into JSON Lines, or its records asked for and thrown away."""
    with tempfile.TemporaryDirectory() as name:
        script = ROOT / "benchmarks" / "api_figures" / "dlt_rest.py"
        where = "pages" if shape.children else "nested"
        command = [str(ENVIRONMENT / "bin" / "python"), str(script), url, name, kind, where]
        cpu_s, wall_s, said = _timed(command, Path(name))
        return Cost(shape.name, f"dlt, {kind}", json.loads(said.splitlines()[-1])["items"], cpu_s, wall_s)


def install() -> None:
    """dlt in an environment of its own, once."""
    if not (ENVIRONMENT / "bin" / "python").exists():
        venv.create(ENVIRONMENT, clear=True, with_pip=True)
    pip = [str(ENVIRONMENT / "bin" / "python"), "-m", "pip", "install", "-q", DLT]
    subprocess.run(pip, check=True, timeout=TIMEOUT_S)


def measure(shapes: tuple[Shape, ...], rounds: int, *, rivals: bool) -> list[Cost]:
    """Each side's best of the rounds."""
    best: dict[tuple[str, str], Cost] = {}
    for shape in shapes:
        with served(shape) as url:
            for _ in range(rounds):
                costs = [ours(shape, url)]
                costs += [theirs(shape, url, kind) for kind in ("pipeline", "source") if rivals]
                for cost in costs:
                    key = (cost.shape, cost.side)
                    best[key] = min(best.get(key, cost), cost, key=lambda one: one.cpu_s)
    return list(best.values())


def main() -> int:
    """Measure and print; 1 when an item is missing on our side."""
    arguments = argparse.ArgumentParser(description=(__doc__ or "").strip().splitlines()[0])
    arguments.add_argument(
        "--small", action="store_true", help="seconds, without dlt; its figures say nothing"
    )
    arguments.add_argument("--rounds", type=int, default=ROUNDS)
    arguments.add_argument("--json", type=Path, help="write the figures there, too")
    given = arguments.parse_args()
    shapes = SMALL if given.small else SHAPES
    if not given.small:
        install()
    costs = measure(shapes, 1 if given.small else given.rounds, rivals=not given.small)
    print(f"{'children':<10} {'side':<16} {'items':>7} {'CPU s':>7} {'us an item':>11} {'wall s':>7}")
    for cost in costs:
        row = f"{cost.items:>7} {cost.cpu_s:>7.2f} {cost.us:>11.1f} {cost.wall_s:>7.2f}"
        print(f"{cost.shape:<10} {cost.side:<16} {row}")
    if given.json:
        given.json.write_text(json.dumps([{**asdict(cost), "us": cost.us} for cost in costs], indent=1))
    wanted = {s.name: s.records * (1 + s.children) if s.children else _nested(s) for s in shapes}
    missing = [cost for cost in costs if cost.side == "scrapeq" and cost.items != wanted[cost.shape]]
    for cost in missing:
        print(f"{cost.shape}: {cost.items} items instead of {wanted[cost.shape]}", file=sys.stderr)
    return int(bool(missing))


def _nested(shape: Shape) -> int:
    """Records and their labels: record n has n modulo 5."""
    return sum(1 + number % 5 for number in range(1, shape.records + 1))


if __name__ == "__main__":
    sys.exit(main())
