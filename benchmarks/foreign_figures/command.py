"""
Measure quota use against third-party servers, which count the requests.

    python benchmarks/foreign.py [--small] [--json FILE] [--keep FOLDER] [--list] [CASE...]

Each case starts a server, runs `scrapeq run` with four fetcher processes of 16 slots each against it for ten windows
or more, and prints the server's counts beside their targets. A CASE may be a pattern: `express/*`.
The exit code is 1 if a figure misses its target. A server that cannot be installed or started is skipped with a
message; the exit code is then 2 if CI is set in the environment or no case ran.
"""

from __future__ import annotations

import argparse
import fnmatch
import json
import os
import signal
import sys
import tempfile
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from benchmarks.foreign_figures import environment, figures, launch
from benchmarks.foreign_figures.cases import FULL, ITEMS, SMALL, WINDOWS, Case, cases
from benchmarks.quota_figures.cases import Figure

WORKERS, SLOTS = 4, 16
FIRST_S = 30.0  # time limit for the first request
AHEAD_WINDOWS = 3  # more work than the run can finish
COLUMN, NAME = 17, 27


def configuration(case: Case, port: int) -> dict[str, Any]:
    """Return the configuration of a case, as the values that YAML would contain."""
    most = max(case.limit, case.becomes or 0)
    count = ITEMS if case.mode == "items" else round(most * (case.windows + AHEAD_WINDOWS)) + case.burst
    if case.mode.startswith("places"):
        count = round(case.limit / case.options["service"] * case.window_s * (case.windows + AHEAD_WINDOWS))
    items = {
        "name": "items",
        "primary_key": ["id"],
        "seeds": [{"n": n} for n in range(count)],
        "endpoint": "item/${seed.n}",
    }
    return {
        "version": 1,
        "name": "quota",
        "client": {"base_url": f"http://127.0.0.1:{port}"},
        "run": {"workers": WORKERS, "concurrency": SLOTS},
        "rate_limits": case.rate_limits,
        "resources": [items],
        "outputs": [{"type": "jsonl", "path": "out/items.jsonl", "resources": ["items"]}],
    }


def run_case(case: Case, folder: Path) -> list[Figure]:
    """Run a case against a fresh server; the log, the events and the output stay in the folder."""
    folder.mkdir(parents=True)
    changed_s = None
    with launch.server(case.kind, case.app, case.options, folder / "log") as server:
        (folder / "quota.yaml").write_text(json.dumps(configuration(case, server.port)))  # JSON is YAML
        run = launch.Run(folder)
        try:
            first_s = launch.first_request(server, run, FIRST_S)
            if first_s is not None:
                if case.becomes is not None and not run.wait(first_s + WINDOWS * case.window_s):
                    server.change(case.becomes)
                    changed_s = time.monotonic()
                run.wait(first_s + case.windows * case.window_s)
        finally:
            code = run.stop()
    log = server.log() if server.was_requested() else []
    if not log:
        return [Figure("requests", 0, "", ">=", 1), Figure("exit code", code, "", "<=", 0)]
    written = folder / "out" / "items.jsonl"
    lines = len(set(written.read_text().splitlines())) if written.exists() else 0
    return figures.judge(case, log, lines, changed_s, time.time() - time.monotonic())


def show(name: str, found: list[Figure]) -> None:
    """Print the figures of one case with their targets in one row."""
    cells = []
    for figure in found:
        value = f"{figure.value:.2f}".rstrip("0").rstrip(".")
        promised = "" if figure.promised is None else f" ({figure.reach}{figure.promised:g})"
        cells.append(f"{figure.name} {value}{promised}{'' if figure.reached else ' MISSED'}")
    status = "ok" if all(figure.reached for figure in found) else "MISSED"
    print(f"{name:<{NAME}} {status:<7} {'; '.join(cells)}", flush=True)


def chosen(patterns: list[str], known: dict[str, Case]) -> list[str]:
    """Return the names of the requested cases, in the order of the table."""
    for pattern in patterns:
        if not fnmatch.filter(known, pattern):
            raise LookupError(f"no case matches {pattern!r}; use one of: {', '.join(known)}")
    return [name for name in known if not patterns or any(fnmatch.fnmatch(name, p) for p in patterns)]


def main() -> int:
    """Run the requested cases."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--small", action="store_true", help="windows of 2 s: about half a minute a case")
    parser.add_argument("--way-ms", type=float, help="longest travel time in each direction")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    parser.add_argument("--keep", type=Path, help="keep the folders of the runs in this one")
    parser.add_argument("--list", action="store_true", help="only list the cases")
    parser.add_argument("cases", nargs="*", metavar="CASE")
    arguments = parser.parse_args()
    size = SMALL if arguments.small else FULL
    if arguments.way_ms is not None:
        size = replace(size, way_ms=arguments.way_ms)
    known = cases(size)
    try:
        names = chosen(arguments.cases, known)
    except LookupError as error:
        parser.error(error.args[0])
    if arguments.list:
        print("\n".join(names))
        return 0
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # end the child processes, too
    table: dict[str, Any] = {}
    missed, missing = 0, []
    with tempfile.TemporaryDirectory(prefix="sq-") as temporary:
        for name in names:
            try:
                found = run_case(known[name], (arguments.keep or Path(temporary)) / name.replace("/", "-"))
            except environment.MissingError as error:
                print(f"{name:<{NAME}} SKIPPED {error}", flush=True)
                missing.append(name)
                continue
            show(name, found)
            missed += sum(not figure.reached for figure in found)
            table[name] = [{**asdict(figure), "reached": figure.reached} for figure in found]
            if arguments.json:  # after each case, because all of them take an hour
                report = {"small": arguments.small, "cases": table, "skipped": missing}
                arguments.json.write_text(json.dumps(report, indent=1))
    if missing and (os.environ.get("CI") or not table):
        return 2
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
