"""
Measure the CPU time per record of an API, compared with dlt's REST source.

    python benchmarks/api.py [--small] [--rounds N] [--json FILE]

The figures are the CPU seconds of all processes of each side (including the store, the writer and the supervisor). The
sides take turns, and the best round counts. The API server is a separate process, which does not count. dlt is
installed into a separate environment.
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
    """The size of the API, and whether children are inside the records (0) or on a separate page per record."""

    name: str
    pages: int
    size: int
    children: int

    @property
    def records(self) -> int:
        """The number of records on all pages, without their children."""
        return self.pages * self.size


@dataclass(frozen=True)
class Cost:
    """The cost of one shape on one side."""

    shape: str
    side: str
    items: int
    cpu_s: float
    wall_s: float

    @property
    def us(self) -> float:
        """CPU microseconds per item."""
        return self.cpu_s / self.items * 1e6 if self.items else float("nan")


SHAPES = (Shape("nested", 100, 100, 0), Shape("pages", 10, 100, 10))
SMALL = (Shape("nested", 3, 10, 0), Shape("pages", 2, 5, 3))


@contextmanager
def served(shape: Shape) -> Iterator[str]:
    """Run the API of a shape and yield its base URL."""
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
    """Run a command; return the CPU seconds of all its processes, the wall seconds, and its standard output."""
    before, started_s = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
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
    return cpu_s, time.monotonic() - started_s, done.stdout


def run_scrapeq(shape: Shape, url: str) -> Cost:
    """Measure `scrapeq run` with one fetcher, the embedded store and JSON Lines."""
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


def run_dlt(shape: Shape, url: str, kind: str) -> Cost:
    """Measure dlt's REST source: its whole pipeline into JSON Lines, or only the iteration over its records."""
    with tempfile.TemporaryDirectory() as name:
        script = ROOT / "benchmarks" / "api_figures" / "dlt_rest.py"
        layout = "pages" if shape.children else "nested"
        command = [str(ENVIRONMENT / "bin" / "python"), str(script), url, name, kind, layout]
        cpu_s, wall_s, output = _timed(command, Path(name))
        return Cost(shape.name, f"dlt, {kind}", json.loads(output.splitlines()[-1])["items"], cpu_s, wall_s)


def install() -> None:
    """Install dlt into its environment."""
    if not (ENVIRONMENT / "bin" / "python").exists():
        venv.create(ENVIRONMENT, clear=True, with_pip=True)
    pip = [str(ENVIRONMENT / "bin" / "python"), "-m", "pip", "install", "-q", DLT]
    subprocess.run(pip, check=True, timeout=TIMEOUT_S)


def measure(shapes: tuple[Shape, ...], rounds: int, *, rivals: bool) -> list[Cost]:
    """Return the best round of each side."""
    best: dict[tuple[str, str], Cost] = {}
    for shape in shapes:
        with served(shape) as url:
            for _ in range(rounds):
                costs = [run_scrapeq(shape, url)]
                costs += [run_dlt(shape, url, kind) for kind in ("pipeline", "source") if rivals]
                for cost in costs:
                    key = (cost.shape, cost.side)
                    best[key] = min(best.get(key, cost), cost, key=lambda one: one.cpu_s)
    return list(best.values())


def main() -> int:
    """Measure and print; return 1 if scrapeq missed an item."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").strip().splitlines()[0])
    parser.add_argument("--small", action="store_true", help="small sizes without dlt, to check correctness")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    arguments = parser.parse_args()
    shapes = SMALL if arguments.small else SHAPES
    if not arguments.small:
        install()
    costs = measure(shapes, 1 if arguments.small else arguments.rounds, rivals=not arguments.small)
    print(f"{'children':<10} {'side':<16} {'items':>7} {'CPU s':>7} {'us an item':>11} {'wall s':>7}")
    for cost in costs:
        row = f"{cost.items:>7} {cost.cpu_s:>7.2f} {cost.us:>11.1f} {cost.wall_s:>7.2f}"
        print(f"{cost.shape:<10} {cost.side:<16} {row}")
    if arguments.json:
        arguments.json.write_text(json.dumps([{**asdict(cost), "us": cost.us} for cost in costs], indent=1))
    expected = {s.name: s.records * (1 + s.children) if s.children else _nested(s) for s in shapes}
    missing = [cost for cost in costs if cost.side == "scrapeq" and cost.items != expected[cost.shape]]
    for cost in missing:
        print(f"{cost.shape}: {cost.items} items instead of {expected[cost.shape]}", file=sys.stderr)
    return int(bool(missing))


def _nested(shape: Shape) -> int:
    """Return the number of records and labels: record n has n % 5 labels."""
    return sum(1 + number % 5 for number in range(1, shape.records + 1))


if __name__ == "__main__":
    sys.exit(main())
