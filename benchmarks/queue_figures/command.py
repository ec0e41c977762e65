"""The command line of the queue benchmark: which engines, which rows, what to print and write."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson

from benchmarks.queue_figures import memory, order, rivals, scripts, speed
from benchmarks.queue_figures import workload as w
from benchmarks.queue_figures.engine import Bystanders, Server, find_engines
from benchmarks.queue_figures.report import Figure, WrongResultError, as_json, heading, line, machine
from scrapeq.errors import ScrapeqError

RIVALS = "rivals"
Row = Callable[[Server, w.Sizes], Iterator[Figure]]

ROWS: dict[str, Row] = {
    "push": speed.push,
    "pop_ack": speed.pop_ack,
    "single": speed.one_at_a_time,
    "loop": speed.loops,
    "script": scripts.per_task,
    "park": scripts.park,
    "longest": scripts.longest,
    "growth": scripts.growth,
    "order": order.order,
    "due": order.due,
    "memory": memory.memory,
    RIVALS: rivals.rivals,
}
QUIET = 0.05  # share of the cores that other processes may take before absolute figures are unreliable
OK, WRONG, USAGE, TERMINATED = 0, 1, 2, 143


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark. Exit code 0: measured, 1: the queue did something wrong, 2: bad usage or no server."""
    options = _parser().parse_args(arguments)
    signal.signal(
        signal.SIGTERM, lambda *_: sys.exit(TERMINATED)
    )  # so that context managers stop the servers
    sizes = w.SMALL if options.small else w.FULL
    if options.big:
        sizes = replace(sizes, growth=(sizes.growth[0], options.big))
    rows = options.rows or [name for name in ROWS if name != RIVALS]
    if options.peers:
        rows = [*dict.fromkeys([*rows, RIVALS])]
    reported = machine()
    engines: list[dict[str, Any]] = []
    try:
        binaries = find_engines(options.engine)
        for binary in binaries:
            print(heading(f"{binary}, unix socket, nothing persisted"), flush=True)
            figures = []
            with Server(binary) as server:
                for name in rows:
                    figures += _show(ROWS[name](server, sizes), Bystanders(server))
            engines.append({"engine": binary.engine, "version": binary.version, "figures": as_json(figures)})
            failed = [figure for figure in figures if figure.exact and figure.met is False]
            if failed:
                raise WrongResultError("; ".join(f"{figure.name}: {figure.value:g}" for figure in failed))
    except WrongResultError as error:
        print(f"wrong result: {error}", file=sys.stderr)
        return WRONG
    except ScrapeqError as error:
        print(f"queue.py: {error}", file=sys.stderr)
        return USAGE
    reported["load_after"] = os.getloadavg()[0]
    print(_closing(engines, options.small))
    if options.json:
        report = {"machine": reported, "small": options.small, "engines": engines}
        options.json.write_bytes(orjson.dumps(report, option=orjson.OPT_INDENT_2))
    return OK


def _show(figures: Iterator[Figure], bystanders: Bystanders) -> list[Figure]:
    measured = []
    for figure in figures:
        figure = replace(figure, others=bystanders.share())
        print(line(figure), flush=True)
        measured.append(figure)
    return measured


def _closing(engines: Sequence[dict[str, Any]], small: bool) -> str:
    figures = [figure for engine in engines for figure in engine["figures"]]
    with_target = [figure for figure in figures if figure["met"] is not None]
    text = f"\n{sum(figure['met'] for figure in with_target)} of {len(with_target)} targets met"
    if small:
        return text + "; --small checks correctness: its figures say nothing about speed"
    disturbed = sum(figure["others"] > QUIET for figure in figures)
    if disturbed:
        text += f"; other processes used the cores during {disturbed} of {len(figures)} figures"
        text += ": measure on an idle machine"
    return text


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "benchmarks/queue.py", description="Measure every figure that the queue promises."
    )
    parser.add_argument("--small", action="store_true", help="small sizes, to check correctness")
    parser.add_argument(
        "--engine", choices=("redis", "valkey", "both"), default="both", help="which server to measure (both)"
    )
    parser.add_argument("--peers", action="store_true", help="also measure rivals; installs them if needed")
    parser.add_argument(
        "--rows", nargs="+", choices=[*ROWS], metavar="ROW", help=f"only these rows: {' '.join(ROWS)}"
    )
    parser.add_argument("--big", type=int, metavar="N", help="tasks in the large queue of the row growth")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures to FILE")
    return parser
