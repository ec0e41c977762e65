"""
`python serve.py SHAPE OPTIONS`: run nginx before an upstream without a limit.

The first line on stdout is JSON with the port.

Shapes: rate (limit_req, no burst), burst (limit_req with burst and nodelay), places (limit_conn). Requests are counted
in nginx's access log. A line of JSON on stdin ({"limit": 150}) changes the limit. It ends when stdin is closed.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TextIO

ROOT = Path(__file__).resolve().parents[3]
TEMPLATE = Path(__file__).with_name("nginx.conf")
TICK_S = 0.05
RETRY_AFTER_S = 1.0  # as in the template


def configuration(options: argparse.Namespace, port: int, upstream: int) -> str:
    """Fill in the template."""
    limits = {
        "rate": "limit_req zone=rate;",
        "burst": f"limit_req zone=rate burst={options.burst} nodelay;",
        "places": f"limit_conn places {options.limit};",
    }
    values = {
        "user": "user root;" if os.geteuid() == 0 else "",  # its workers must be able to read the folder
        "port": str(port),
        "upstream": f"127.0.0.1:{upstream}",
        "rate": f"{round(options.limit / options.window)}r/s",
        "limit": limits[options.shape],
        "tell": "error_page 429 @refused;" if options.retry_after else "",
    }
    return re.sub(
        r"@(user|port|upstream|rate|limit|tell)@", lambda found: values[found[1]], TEMPLATE.read_text()
    )


class Log:
    """Converts nginx's access log to the format that all servers here write."""

    def __init__(self, source: Path, target: TextIO, states_wait: bool) -> None:
        self._source, self._target, self._states_wait = source, target, states_wait
        self._rest, self._at = "", 0
        self._wall_s = time.time() - time.monotonic()

    def carry(self, limit: int) -> None:
        """Convert the lines added since the last call."""
        if not self._source.exists():
            return
        with self._source.open() as file:
            file.seek(self._at)
            added = self._rest + file.read()
            self._at = file.tell()
        *lines, self._rest = added.split("\n")
        for line in lines:
            ended, took, status, path = line.split()
            ended_s = float(ended) - self._wall_s
            accepted = status == "200"
            record = {
                "n": int(path.rpartition("/")[2]),
                "arrived_s": ended_s - float(took),
                "decided_s": ended_s - float(took),
                "left_s": ended_s,
                "responded_s": ended_s,
                "status": int(status),
                "accepted": accepted,
                "wait_s": RETRY_AFTER_S if self._states_wait and not accepted else 0.0,
                "limit": limit,
            }
            self._target.write(json.dumps(record) + "\n")
        self._target.flush()


def free_port() -> int:
    """Return an unused port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def serve(options: argparse.Namespace, folder: Path) -> None:
    """Serve until stdin is closed."""
    command = [
        sys.executable,
        "-m",
        "benchmarks.servers",
        "--shape",
        "open",
        "--service",
        str(options.service),
    ]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as upstream:
        assert upstream.stdin is not None and upstream.stdout is not None
        upstream_port = json.loads(upstream.stdout.readline())["port"]
        port = free_port()
        file = folder / "nginx.conf"
        file.write_text(configuration(options, port, upstream_port))
        with (
            open(options.log, "a") as target,
            subprocess.Popen(["nginx", "-p", folder, "-e", "error.log", "-c", file]) as nginx,
        ):
            log = Log(folder / "access.log", target, options.retry_after)
            while not (folder / "nginx.pid").exists() and nginx.poll() is None:
                time.sleep(TICK_S)
            print(json.dumps({"port": port}), flush=True)
            while nginx.poll() is None:
                if select.select([sys.stdin], [], [], TICK_S)[0]:
                    line = sys.stdin.readline()
                    if not line:
                        break
                    options.limit = json.loads(line)["limit"]
                    file.write_text(configuration(options, port, upstream_port))
                    nginx.send_signal(signal.SIGHUP)
                log.carry(options.limit)
            nginx.terminate()
            nginx.wait()
            log.carry(options.limit)
        upstream.stdin.close()


def main() -> None:
    """Serve in a temporary folder."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("shape", choices=("rate", "burst", "places"))
    parser.add_argument("--limit", type=int, default=30, help="requests per window, or at once")
    parser.add_argument("--window", type=float, default=1.0, help="seconds")
    parser.add_argument("--burst", type=int, default=10, help="requests allowed at once beyond the rate")
    parser.add_argument("--retry-after", action="store_true", help="send Retry-After: 1 with a 429")
    parser.add_argument("--service", type=float, default=0.0, help="seconds to process a request")
    parser.add_argument("--log", required=True, help="log file: one line of JSON per request")
    options = parser.parse_args()
    if shutil.which("nginx") is None:
        sys.exit("nginx is not on PATH; install it, for example nginx-light on Debian")
    with tempfile.TemporaryDirectory(prefix="sq-nginx-") as folder:
        serve(options, Path(folder))


if __name__ == "__main__":
    main()
