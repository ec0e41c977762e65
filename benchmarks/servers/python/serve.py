"""
`python serve.py FRAMEWORK OPTIONS`: run one rate-limited server; its first line on stdout is JSON with the port.

This wrapper logs, outside the framework, when a request arrived, when it was decided, and its status.
A line of JSON on stdin ({"limit": 150}) replaces the limit by an unused one.
It ends when stdin is closed. It runs in a separate environment, so it must not import scrapeq.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import random
import sys
import threading
import time
from collections.abc import Callable, Iterable
from typing import Any

import waitress

THREADS = 80  # each request in progress takes one
REFUSALS = (429, 503, 403)

Application = Callable[..., Iterable[bytes]]


class Recorded:
    """A WSGI application around the framework's, which can be replaced while it runs."""

    def __init__(self, options: argparse.Namespace) -> None:
        self._make = importlib.import_module(options.framework).make
        self._options = options
        self._way_s = options.way_ms / 1000
        self._log = open(options.log, "a", buffering=1)  # noqa: SIM115 - open as long as the process
        self.replace(options.limit)

    def replace(self, limit: int) -> None:
        """Replace the limit by an unused one."""
        self._options.limit = limit
        self._app: Application = self._make(self._options)
        self._limit = limit

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
        record: dict[str, Any] = {
            "n": int(environ["PATH_INFO"].rpartition("/")[2]),
            "arrived_s": time.monotonic(),
        }
        record["limit"] = self._limit
        self._travel()
        started: list[Any] = []
        response = self._app(environ, lambda *given: started.extend(given))
        body = b"".join(response)
        record["decided_s"] = record["left_s"] = time.monotonic()
        status, headers = started[0], started[1]
        record["status"] = int(status[:3])
        record["accepted"] = record["status"] not in REFUSALS
        reported = {name.lower(): value for name, value in headers}.get("retry-after", "0")
        record["wait_s"] = 0.0 if record["accepted"] else float(reported)
        self._travel()
        record["responded_s"] = time.monotonic()
        self._log.write(json.dumps(record) + "\n")
        start_response(status, headers)
        return [body]

    def _travel(self) -> None:
        if self._way_s:
            time.sleep(random.uniform(0, self._way_s))


def main() -> None:
    """Serve until stdin is closed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("framework")
    parser.add_argument("--limit", type=int, default=30, help="requests per window")
    parser.add_argument("--window", type=float, default=3.0, help="whole seconds")
    parser.add_argument("--burst", type=int, default=10, help="size of a token bucket")
    parser.add_argument("--shape", default="", help="one of the shapes in the framework's file")
    parser.add_argument("--tells", default="none", help="header fields of every response: x or none")
    parser.add_argument("--retry-after", action="store_true", help="send Retry-After with a 429")
    parser.add_argument("--way-ms", type=float, default=0.0, help="longest travel time in each direction")
    parser.add_argument("--log", required=True, help="log file: one line of JSON per request")
    recorded = Recorded(parser.parse_args())
    server = waitress.create_server(recorded, host="127.0.0.1", port=0, threads=THREADS)
    threading.Thread(target=server.run, daemon=True).start()
    print(json.dumps({"port": server.effective_port}), flush=True)
    for line in sys.stdin:
        recorded.replace(json.loads(line)["limit"])
    os._exit(0)  # its threads would wait for requests


if __name__ == "__main__":
    main()
