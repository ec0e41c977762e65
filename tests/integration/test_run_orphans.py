"""A killed run leaves leases behind; the next run on the same embedded store does not wait for them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import redis.asyncio

from scrapeq.queue import Queue
from scrapeq.task import NewTask

ROOT = Path(__file__).parents[2]
FILE = """
version: 1
name: orphans
client: {{base_url: "{url}"}}
run: {{workers: 1, concurrency: 4}}
rate_limits: [{{name: wide, max_concurrency: 4}}]
seeds: [{{n: 1}}, {{n: 2}}, {{n: 3}}, {{n: 4}}]
resources: [{{name: page, endpoint: "pages/${{seed.n}}"}}]
outputs: [{{type: jsonl, path: "out/page.jsonl"}}]
"""
LEASE_S = 60.0  # of a fetcher
TIMEOUT_S = 40.0


class Pages(BaseHTTPRequestHandler):
    """Responds once `may_respond` is set; `requested` is set when a request waits."""

    may_respond = threading.Event()
    requested = threading.Event()

    def do_GET(self) -> None:
        """Respond with one item."""
        self.requested.set()
        self.may_respond.wait(TIMEOUT_S)
        body = b'{"id": "%b"}' % self.path.encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Log nothing."""


@pytest.fixture
def url() -> Iterator[str]:
    """Start a server whose responses wait for `may_respond`."""
    Pages.may_respond.clear()
    Pages.requested.clear()
    server = ThreadingHTTPServer(("127.0.0.1", 0), Pages)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    Pages.may_respond.set()
    server.shutdown()


def test_a_rerun_does_not_wait_for_the_leases_of_a_killed_run(tmp_path: Path, url: str) -> None:
    """Requests that were in flight are sent again at once, and each item is written once."""
    (tmp_path / "o.yaml").write_text(FILE.format(url=url))
    command = [sys.executable, "-m", "scrapeq", "run", "o.yaml", "--progress", "none"]
    process = subprocess.Popen(command, cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)})
    assert Pages.requested.wait(TIMEOUT_S)
    process.send_signal(signal.SIGKILL)
    process.wait()
    Pages.may_respond.set()
    started_s = time.monotonic()
    done = subprocess.run(
        command, cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)}, timeout=TIMEOUT_S, check=False
    )
    assert done.returncode == 0
    assert time.monotonic() - started_s < LEASE_S / 2
    lines = (tmp_path / "out/page.jsonl").read_bytes().splitlines()
    assert len(lines) == len(set(lines)) == 4


async def test_end_leases_ends_more_than_one_batch(astore: redis.asyncio.Redis) -> None:
    """All leases end, and each counts as expired, so that a poison task is still detected."""
    async with Queue(astore, "many", lease_s=LEASE_S) as queue:
        await queue.push_many([NewTask({"n": n}) for n in range(1_200)])
        while await queue.pop_many(100):
            pass
        await queue.end_leases()
        counts = await queue.counts()
    assert (counts.leased, counts.expired, counts.live) == (0, 1_200, 1_200)
