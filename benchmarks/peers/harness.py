"""
What the rivals' scripts have in common: a store's socket and sizes in, one JSON line out.

They run in an environment of their own, so nothing here may import scrapeq.
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
        tasks: How many to push and to do.
        slots: How many a worker does at once.
        parked: Tasks in the group that is closed, for those that have groups.
    """

    socket: str
    tasks: int
    slots: int
    parked: int


def payload(i: int) -> dict[str, str]:
    """A payload whose JSON has PAYLOAD_BYTES bytes."""
    path = f"https://example.org/items/{i}?"
    return {"url": path + "x" * (PAYLOAD_BYTES - len(path) - len('{"url":""}'))}


def main(measure: Callable[[Sizes], dict[str, float]]) -> None:
    """Measure, and print figures by name: push, single, pop_ack and loop in tasks/s; bytes a task; park in us."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--socket", required=True)
    for name in ("tasks", "slots", "parked"):
        parser.add_argument(f"--{name}", type=int, required=True)
    logging.disable(logging.CRITICAL)  # rivals are not measured by what they log
    print(json.dumps(measure(Sizes(**vars(parser.parse_args())))))


class Stopwatch:
    """`with Stopwatch() as watch: …; watch.rate(n)`."""

    def __enter__(self) -> Stopwatch:
        self.began = time.perf_counter()
        return self

    def __exit__(self, *_: object) -> None:
        self.elapsed = time.perf_counter() - self.began

    def rate(self, count: int) -> float:
        """So many in a second."""
        return count / self.elapsed


class Countdown:
    """A job that does nothing but count, and tells when the last was done."""

    def __init__(self, count: int) -> None:
        self.left = count
        self.ended = 0.0

    def __call__(self) -> None:
        self.left -= 1
        if self.left == 0:
            self.ended = time.perf_counter()
