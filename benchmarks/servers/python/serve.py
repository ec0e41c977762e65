"""
`python serve.py FRAMEWORK OPTIONS`: one rate-limited server; the first line on stdout is JSON with its port.

What is counted is counted here, around the framework: when a request came, when it was decided, its status.
A line of JSON on stdin ({"limit": 150}) puts another limit in the place of the first, which is forgotten.
It ends when stdin is closed. It runs in an environment of its own, so nothing here may import scrapeq.
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

THREADS = 80  # each request on its way holds one
REFUSALS = (429, 503, 403)

Application = Callable[..., Iterable[bytes]]


class Recorded:
    """A WSGI application around that of the framework, which can be put in the place of the one before."""

    def __init__(self, options: argparse.Namespace) -> None:
        self._make = importlib.import_module(options.framework).make
        self._options = options
        self._way_s = options.way_ms / 1000
        self._log = open(options.log, "a", buffering=1)  # noqa: SIM115 - as long as the process
        self.replace(options.limit)

    def replace(self, limit: int) -> None:
        """Another limit, of which nothing was used."""
        self._options.limit = limit
        self._app: Application = self._make(self._options)
        self._limit = limit

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
        seen: dict[str, Any] = {
            "n": int(environ["PATH_INFO"].rpartition("/")[2]),
            "arrived_s": time.monotonic(),
        }
        seen["limit"] = self._limit
        self._travel()
        started: list[Any] = []
        answer = self._app(environ, lambda *given: started.extend(given))
        body = b"".join(answer)
        seen["decided_s"] = seen["left_s"] = time.monotonic()
        status, headers = started[0], started[1]
        seen["status"] = int(status[:3])
        seen["accepted"] = seen["status"] not in REFUSALS
        reported = {name.lower(): value for name, value in headers}.get("retry-after", "0")
        seen["wait_s"] = 0.0 if seen["accepted"] else float(reported)
        self._travel()
        seen["answered_s"] = time.monotonic()
        self._log.write(json.dumps(seen) + "\n")
        start_response(status, headers)
        return [body]

    def _travel(self) -> None:
        if self._way_s:
            time.sleep(random.uniform(0, self._way_s))


def main() -> None:
    """Serve until stdin is closed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("framework")
    parser.add_argument("--limit", type=int, default=30, help="requests a window")
    parser.add_argument("--window", type=float, default=3.0, help="seconds, whole ones")
    parser.add_argument("--burst", type=int, default=10, help="size of a token bucket")
    parser.add_argument("--shape", default="", help="what there is, the framework's file says")
    parser.add_argument("--tells", default="none", help="the fields of every answer: x or none")
    parser.add_argument("--retry-after", action="store_true", help="a 429 says when to come back")
    parser.add_argument(
        "--way-ms", type=float, default=0.0, help="longest way to the limiter, and back from it"
    )
    parser.add_argument("--log", required=True, help="a line of JSON for each request")
    recorded = Recorded(parser.parse_args())
    server = waitress.create_server(recorded, host="127.0.0.1", port=0, threads=THREADS)
    threading.Thread(target=server.run, daemon=True).start()
    print(json.dumps({"port": server.effective_port}), flush=True)
    for line in sys.stdin:
        recorded.replace(json.loads(line)["limit"])
    os._exit(0)  # its threads wait for requests that never come


if __name__ == "__main__":
    main()
