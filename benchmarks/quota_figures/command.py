"""
Measure quota use against real rate-limited servers, which count the requests.

    python benchmarks/quota.py [--small] [--json FILE] [--keep FOLDER] [CASE...]

Each case starts a server, writes a configuration, runs it with four fetchers of 16 slots each in a separate folder,
and prints the server's counts beside their targets. The exit code is 1 if a figure misses its target.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import random
import sqlite3
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.quota_figures.cases import FULL, SMALL, Case, Figure, Result, cases

ROOT = Path(__file__).resolve().parents[2]
RUN_PLAN = Path(__file__).with_name("run_plan.py")
WORKERS, SLOTS = 4, 16
RUN_TIMEOUT_S = 600


@contextlib.contextmanager
def server(options: dict[str, Any]) -> Iterator[int]:
    """Run a server; return its port."""
    arguments = []
    for name, value in options.items():
        if value is not False:
            flag = f"--{name.replace('_', '-')}"
            arguments += [flag] if value is True else [flag, str(value)]
    with subprocess.Popen(
        [sys.executable, "-m", "benchmarks.servers", *arguments],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdin is not None and process.stdout is not None
        try:
            yield int(json.loads(process.stdout.readline())["port"])
        finally:
            process.stdin.close()
            process.wait(10)


def configuration(case: Case, port: int, hosts: dict[str, int]) -> dict[str, Any]:
    """Return the configuration of a case, as the values that YAML would contain."""
    base = f"http://127.0.0.1:{port}"
    resource: dict[str, Any] = {"name": "items", "primary_key": ["id", "host"]}
    resources = [resource]
    if case.listed:
        resource["endpoint"] = "item/${parent.id}"
        resource["parent"] = {"resource": "list", "priority": "parent.rank"}
        resources = [{"name": "list", "endpoint": "list", "selected": True}, resource]
    else:
        seeds = [
            {"url": f"http://{host}:{port}/item/{n}"} for host, count in hosts.items() for n in range(count)
        ]
        random.Random(1).shuffle(seeds)  # mixed hosts, as found in practice
        resource |= {"seeds": seeds, "endpoint": {"url": "${raw(seed.url)}"}}
    return {
        "version": 1,
        "name": "quota",
        "client": {"base_url": base, "allow_hosts": list(hosts)},
        "run": {"workers": WORKERS, "concurrency": SLOTS},
        "rate_limits": case.rate_limits,
        "resources": resources,
        "outputs": [{"type": "jsonl", "path": "out/items.jsonl", "resources": ["items"]}],
    }


def run_once(case: Case, hosts: dict[str, int], folder: Path) -> Result:
    """Run a case once against a fresh server."""
    folder.mkdir(parents=True)  # an existing folder contains another run
    with server(dict(case.server)) as port:
        file = folder / "quota.yaml"
        file.write_text(json.dumps(configuration(case, port, hosts)))  # JSON is YAML
        started_s = time.monotonic()
        with (folder / "events").open("w") as events:
            done = subprocess.run(
                [sys.executable, str(RUN_PLAN), file.name],
                cwd=folder,
                stderr=events,
                timeout=RUN_TIMEOUT_S,
                check=False,
            )
        took_s = time.monotonic() - started_s
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/stats") as response:
            stats = json.load(response)
        ranks = {}
        if case.listed:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/list") as response:
                ranks = {record["id"]: record["rank"] for record in json.load(response)}
    (folder / "log.json").write_text(json.dumps(stats))
    written = folder / "out" / "items.jsonl"
    lines = written.read_text().splitlines() if written.exists() else []
    items = len(set(lines))
    order = granted(folder) if case.listed else []
    return Result(stats["log"], items, order, done.returncode, took_s, stats["stalled_s"], ranks)


def granted(folder: Path) -> list[int]:
    """Return the items in the order of their grants: lease tokens count up, task ids follow the list."""
    order = []
    for ledger in folder.rglob("*"):
        if ledger.is_file() and ledger.read_bytes()[:15] == b"SQLite format 3":
            with contextlib.closing(sqlite3.connect(ledger)) as db:
                order = [int(task) for (task,) in db.execute("SELECT task FROM tokens ORDER BY nonce")]
    listing = min(order, default=0)  # the task of the list itself
    return [task - listing - 1 for task in order if task != listing]


def run_case(name: str, case: Case, folder: Path) -> tuple[list[Figure], Result]:
    """Run a case, after the run that it is compared with."""
    before = run_once(case, dict(case.compare), folder / f"{name}-before") if case.compare else None
    result = run_once(case, dict(case.hosts) or {"127.0.0.1": case.items}, folder / name)
    result.before = before
    if not result.log:
        return [Figure("requests", 0, "", ">=", 1), Figure("exit code", result.code, "", "<=", 0)], result
    return case.judge(case, result), result


def show(name: str, figures: list[Figure], result: Result) -> None:
    """Print the rows of one case."""
    for figure in figures:
        value = f"{figure.value:.2f}".rstrip("0").rstrip(".") + (f" {figure.unit}" if figure.unit else "")
        promised = "" if figure.promised is None else f"{figure.reach} {figure.promised:g}"
        status = "" if figure.promised is None else "ok" if figure.reached else "MISSED"
        print(f"{name:<20} {figure.name:<28} {value:>16}   {promised:<10} {status}", flush=True)
        name = ""
    print(
        f"{'':<20} {'requests, s, s stalled':<28} {len(result.log):>9} {result.took_s:6.1f} {result.stalled_s:5.1f}"
    )


def main() -> int:
    """Run the requested cases."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--small", action="store_true", help="windows of one second")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    parser.add_argument("--keep", type=Path, help="keep the folders of the runs in this one")
    parser.add_argument("cases", nargs="*", metavar="CASE")
    arguments = parser.parse_args()
    known = cases(SMALL if arguments.small else FULL)
    unknown = set(arguments.cases) - set(known)
    if unknown:
        parser.error(f"unknown case {sorted(unknown)[0]!r}; use one of: {', '.join(known)}")
    table: dict[str, Any] = {}
    missed = 0
    with tempfile.TemporaryDirectory(prefix="sq-") as temporary:
        for name in arguments.cases or known:
            figures, result = run_case(name, known[name], arguments.keep or Path(temporary))
            show(name, figures, result)
            missed += sum(not figure.reached for figure in figures)
            table[name] = [{**asdict(figure), "reached": figure.reached} for figure in figures]
    if arguments.json:
        arguments.json.write_text(json.dumps({"small": arguments.small, "cases": table}, indent=1))
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
