"""A run that is killed during a newest-first page sequence loses nothing; the cursor is stored only at the end."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import orjson
import pytest
import redis
from chaos_job import RUN_JOB

import scrapeq

pytestmark = pytest.mark.chaos

ROOT = Path(scrapeq.__file__).parents[1]
TIMEOUT_S = 60.0
LEASE_S = 1.0  # until a page that was in flight returns to the queue
PAGES, SIZE = 12, 5
STATE = "scrapeq:{newest}:state"
FILE = """
version: 1
name: newest
redis: {url: "${env:SCRAPEQ_REDIS_URL}"}
client: {base_url: "%s"}
run: {workers: 2}
rate_limits: [{name: paced, partition_by: [], rates: [{limit: 10, interval: 1s}]}]
resources:
  - name: things
    primary_key: id
    priority: record.at
    endpoint:
      path: things
      params: {since: "${incremental.start_value}"}
      paginator: {type: page_number, page_param: page}
      incremental: {cursor_path: at, initial_value: 0}
outputs: [{type: jsonl, path: out/things.jsonl}]
"""


class Things(BaseHTTPRequestHandler):
    """Serves things, newest first; records each requested page with its `since`."""

    requested: list[tuple[int, int]]
    things: list[int]

    def do_GET(self) -> None:
        """Respond with one page of the things newer than `since`."""
        query = parse_qs(urlsplit(self.path).query)
        since, page = int(query["since"][0]), int(query["page"][0])
        self.requested.append((since, page))
        newer = sorted((at for at in self.things if at > since), reverse=True)
        body = json.dumps([{"id": at, "at": at} for at in newer[(page - 1) * SIZE : page * SIZE]]).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Log nothing."""


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """Create a folder with the file, and start its server."""
    Things.requested, Things.things = [], list(range(1, PAGES * SIZE + 1))
    server = ThreadingHTTPServer(("127.0.0.1", 0), Things)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    (tmp_path / "n.yaml").write_text(FILE % f"http://127.0.0.1:{server.server_port}/")
    yield tmp_path
    server.shutdown()
    server.server_close()


def start(folder: Path, store_url: str) -> subprocess.Popen[str]:
    """Start a run of the file."""
    options = json.dumps({"lease_s": LEASE_S})
    return subprocess.Popen(
        [sys.executable, str(RUN_JOB), "n.yaml", options],
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT), "SCRAPEQ_REDIS_URL": store_url},
    )


def stored_cursors(store: redis.Redis) -> list[int]:
    """Return the stored cursors."""
    return [orjson.loads(state)["cursor"] for state in store.hvals(STATE)]


def test_a_killed_newest_first_sequence_is_resumed_without_loss(
    folder: Path, store: redis.Redis, store_url: str
) -> None:
    """After two kills the same command completes it; the next run requests only what is newer than its first page."""
    for number in (1, 2):
        process = start(folder, store_url)
        requests_before = len(Things.requested)
        deadline_s = time.monotonic() + TIMEOUT_S
        while len(Things.requested) < requests_before + 3:
            assert time.monotonic() < deadline_s and process.poll() is None
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        process.communicate(timeout=TIMEOUT_S)
        assert stored_cursors(store) == [], f"kill {number}: the older pages are not read yet"
    Things.things.append(PAGES * SIZE + 1)  # newer than the first page of the resumed sequence
    process = start(folder, store_url)
    output, _ = process.communicate(timeout=TIMEOUT_S)
    assert process.returncode == 0, output
    assert stored_cursors(store) == [PAGES * SIZE]
    Things.requested.clear()
    process = start(folder, store_url)
    output, _ = process.communicate(timeout=TIMEOUT_S)
    assert process.returncode == 0, output
    assert Things.requested[0] == (PAGES * SIZE, 1)
    assert stored_cursors(store) == [PAGES * SIZE + 1]
    lines = [orjson.loads(line) for line in (folder / "out/things.jsonl").read_bytes().splitlines()]
    assert sorted(line["id"] for line in lines) == list(range(1, PAGES * SIZE + 2)), "each once"
