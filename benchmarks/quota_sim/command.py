"""
Measure quota use in simulation: the real limit engine against simulated servers, much faster than real time.

    python benchmarks/quota.py --simulated [--engine python|valkey|redis] [--seeds N] [--size 100/10] [CASE...]

Each case runs once per seed. The worst run is judged; the mean is shown beside it. A CASE is a name or its beginning,
such as `unknown/fixed`. The exit code is 1 if a figure misses its target.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from benchmarks.quota_figures.cases import Figure
from benchmarks.quota_sim.cases import Case, Size
from benchmarks.quota_sim.engines import Engine, PythonEngine
from benchmarks.quota_sim.hardships import hardships
from benchmarks.quota_sim.queueing import queueing
from benchmarks.quota_sim.spending import spending
from benchmarks.quota_sim.store import ScriptEngine, Store
from benchmarks.quota_sim.world import World


def run_case(case: Case, fresh: Callable[[], Engine], seed: int) -> tuple[list[Figure], float, int]:
    """Run a case once; return its figures, the simulated seconds and the number of requests."""
    before, simulated_s = None, 0.0
    if case.before is not None:
        engine = fresh()
        before = World(engine, case.before(seed)).run()
        engine.close()
        simulated_s += before.ended_s
    engine, setting = fresh(), case.setting(seed)
    log = World(engine, setting).run()
    engine.close()
    return case.judge(setting, log, before), simulated_s + log.ended_s, len(log.records)


def joined(runs: Sequence[Sequence[Figure]]) -> list[tuple[Figure, float]]:
    """Return the worst value and the mean of each figure over all runs."""
    found = []
    for same in zip(*runs, strict=True):
        values = [figure.value for figure in same]
        worst = min(values) if same[0].reach == ">=" else max(values)
        mean = sum(values) / len(values)
        found.append((replace(same[0], value=worst if same[0].promised is not None else mean), mean))
    return found


def show(name: str, figures: Sequence[tuple[Figure, float]], *, only_missed: bool) -> None:
    """Print the rows of one case."""
    for figure, mean in figures:
        if only_missed and figure.reached:
            continue
        status = "" if figure.promised is None else "ok" if figure.reached else "MISSED"
        promised = "" if figure.promised is None else f"{figure.reach} {figure.promised:g}"
        both = f"{figure.value:9.2f} {mean:9.2f} {figure.unit:<9}"
        print(f"{name:<36} {figure.name:<26} {both} {promised:<9} {status}", flush=True)
        name = ""


def parsed_size(text: str) -> tuple[int, float]:
    """Parse `100/10`: requests per seconds."""
    limit, _, window = text.partition("/")
    return int(limit), float(window)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the requested cases."""
    parser = argparse.ArgumentParser(
        prog="quota.py --simulated", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--engine", choices=("python", "valkey", "redis"), default="python")
    parser.add_argument("--seeds", type=int, default=3, help="runs of each case")
    parser.add_argument("--size", type=parsed_size, default=(100, 10.0), help="the limit: requests/seconds")
    parser.add_argument("--windows", type=int, default=30, help="windows in each run")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    parser.add_argument("--missed", action="store_true", help="show only figures that miss their target")
    parser.add_argument("--list", action="store_true", help="only list the cases")
    parser.add_argument("cases", nargs="*", metavar="CASE")
    o = parser.parse_args(arguments)
    size = Size(o.size[0], o.size[1], o.windows)
    known = {**spending(size), **hardships(size), **queueing(size)}
    chosen = [name for name in known if not o.cases or any(name.startswith(prefix) for prefix in o.cases)]
    unmatched = [prefix for prefix in o.cases if not any(name.startswith(prefix) for name in known)]
    if unmatched:
        parser.error(f"no case begins with {unmatched[0]!r}; use --list to see all cases")
    if o.list:
        print("\n".join(chosen))
        return 0
    with contextlib.ExitStack() as stack:
        if o.engine == "python":
            return measure(o, {name: known[name] for name in chosen}, PythonEngine)
        store = stack.enter_context(Store(o.engine))
        return measure(o, {name: known[name] for name in chosen}, lambda: ScriptEngine(store))


def measure(o: argparse.Namespace, chosen: Mapping[str, Case], fresh: Callable[[], Engine]) -> int:
    """Run the cases and print the table."""
    table: dict[str, Any] = {}
    missed, simulated_s, started_s = 0, 0.0, time.monotonic()
    print(f"{'case':<36} {'figure':<26} {'worst':>9} {'mean':>9}")
    for name, case in chosen.items():
        runs = [run_case(case, fresh, seed) for seed in range(1, o.seeds + 1)]
        figures = joined([figures for figures, *_ in runs])
        simulated_s += sum(run[1] for run in runs)
        show(name, figures, only_missed=o.missed)
        missed += sum(not figure.reached for figure, _ in figures)
        table[name] = [{**asdict(f), "mean": mean, "reached": f.reached} for f, mean in figures]
    took_s = time.monotonic() - started_s
    times = simulated_s / took_s
    print(f"{missed} missed; {simulated_s:.0f} s simulated in {took_s:.1f} s: {times:.0f} times real time")
    if o.json:
        about = {"engine": o.engine, "size": o.size, "seeds": o.seeds, "windows": o.windows, "times": times}
        o.json.write_text(json.dumps({**about, "cases": table}, indent=1))
    return 1 if missed else 0
