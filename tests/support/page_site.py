"""A site of numbered pages in threads of this process, and the real command that scrapes it in a folder."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import scrapeq

ROOT = Path(scrapeq.__file__).parents[1]
TIMEOUT_S = 60.0
CONFIG = """\
version: 1
name: site
client: {{base_url: "{url}"}}
run: {{workers: 1, concurrency: {concurrency}, grace: 2s}}
rate_limits: [{{name: open, max_concurrency: 1000, observe: none}}]
seeds: {seeds}
resources:
  - {{name: pages, endpoint: "p/${{seed.n}}", primary_key: id}}
outputs: [{{type: jsonl, path: "out/${{resource}}.jsonl"}}]
"""


class _Server(ThreadingHTTPServer):
    def handle_error(self, request: Any, client_address: Any) -> None:
        """Be quiet when a killed client has gone."""


class Site:
    """The site: `/p/N` is a page with one record; `requested` has the paths in order."""

    def __init__(self, latency_s: float) -> None:
        self.latency_s = latency_s
        self.requested: list[str] = []
        site = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                site.requested.append(self.path)
                time.sleep(site.latency_s)
                body = json.dumps([{"id": self.path}]).encode()
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: Any) -> None:
                """Be quiet."""

        self.server = _Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"


@contextmanager
def page_site(latency_s: float = 0.0) -> Iterator[Site]:
    """Run a site."""
    site = Site(latency_s)
    thread = threading.Thread(target=site.server.serve_forever, daemon=True)
    thread.start()
    try:
        yield site
    finally:
        site.server.shutdown()
        site.server.server_close()


class Folder:
    """
    A folder with a configuration of the site, `site.yaml`, and the commands that run in it.

    Args:
        path: The folder.
        site: The site.
        pages: The number of seeds.
        concurrency: Requests at once.
    """

    def __init__(self, path: Path, site: Site, pages: int, *, concurrency: int = 4) -> None:
        self.path = path
        self.started: list[subprocess.Popen[str]] = []
        self.write(site, [{"n": n} for n in range(pages)], concurrency=concurrency)

    def write(
        self, site: Site, seeds: list[Any], *, concurrency: int = 4, change: Callable[[str], str] = str
    ) -> None:
        """Write the configuration, with a change."""
        text = CONFIG.format(url=site.url, seeds=json.dumps(seeds), concurrency=concurrency)
        (self.path / "site.yaml").write_text(change(text))

    def start(self, *words: str) -> subprocess.Popen[str]:
        """Start a command; `end` kills what still runs."""
        process = subprocess.Popen(
            [sys.executable, "-m", "scrapeq", *words],
            cwd=self.path,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        self.started.append(process)
        return process

    def run(self, *words: str) -> tuple[int, str]:
        """Return the exit code and the output of a command."""
        return finish(self.start(*words))

    def ids(self) -> list[str]:
        """Return the ids of all records that were written, sorted."""
        file = self.path / "out/pages.jsonl"
        return (
            sorted(json.loads(line)["id"] for line in file.read_text().splitlines()) if file.exists() else []
        )

    def end(self) -> None:
        """Kill the commands that still run."""
        for process in self.started:
            process.kill()
            process.communicate()


def finish(process: subprocess.Popen[str]) -> tuple[int, str]:
    """Wait for the end of a command; return its exit code and output, which has no traceback."""
    out, _ = process.communicate(timeout=TIMEOUT_S)
    assert "Traceback" not in out, out
    return process.returncode, out


def until(condition: Callable[[], Any]) -> None:
    """Wait until a condition is true."""
    deadline_s = time.monotonic() + TIMEOUT_S
    while not condition():
        assert time.monotonic() < deadline_s
        time.sleep(0.01)
