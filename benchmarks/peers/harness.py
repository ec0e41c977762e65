"""
What the scripts of the rivals share: they take a store's socket and sizes, and print one JSON line.

They run in a virtual environment of their own, so nothing here may import scrapeq.
"""

from __future__ import annotations

import argparse
import json
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass

PAYLOAD_BYTES = 100  # as JSON


@dataclass(frozen=True)
class Sizes:
    """
    Args:
        socket: Path of the store's unix socket.
        tasks: How many tasks to push and process.
        slots: How many tasks a worker processes at once.
        parked: Tasks in the closed group, for rivals that have groups.
    """

    socket: str
    tasks: int
    slots: int
    parked: int


def payload(i: int) -> dict[str, str]:
    """Return a payload whose JSON has PAYLOAD_BYTES bytes."""
    path = f"https://example.org/items/{i}?"
    return {"url": path + "x" * (PAYLOAD_BYTES - len(path) - len('{"url":""}'))}


def main(measure: Callable[[Sizes], dict[str, float]]) -> None:
    """Measure, and print figures by name: push, single, pop_ack and loop in tasks/s; bytes per task; park in us."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--socket", required=True)
    for name in ("tasks", "slots", "parked"):
        parser.add_argument(f"--{name}", type=int, required=True)
    logging.disable(logging.CRITICAL)  # do not measure what rivals log
    print(json.dumps(measure(Sizes(**vars(parser.parse_args())))))


class Stopwatch:
    """Measures a block: `with Stopwatch() as watch: …`, then `watch.rate(n)`."""

    def __enter__(self) -> Stopwatch:
        self.started = time.perf_counter()
        return self

    def __exit__(self, *_: object) -> None:
        self.elapsed = time.perf_counter() - self.started

    def rate(self, count: int) -> float:
        """Return how many per second `count` is."""
        return count / self.elapsed


class Countdown:
    """An empty job that counts its calls and stores the time of the last one."""

    def __init__(self, count: int) -> None:
        self.left = count
        self.ended = 0.0

    def __call__(self) -> None:
        self.left -= 1
        if self.left == 0:
            self.ended = time.perf_counter()
