"""`scrapeq run` with a response cache: killed and run again, it loses nothing and revalidates what it has cached."""

from __future__ import annotations

import collections
import hashlib
import os
import re
import signal
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

import orjson
from chaos_job import RUN_JOB

PAGES, ROWS = 8, 5
TIMEOUT_S = 60
LEASE_S = 2.0  # until a task of the killed run returns to the queue
LATENCY_S = 0.02
CONFIG = """\
version: 1
name: cached
client: {base_url: "http://127.0.0.1:PORT", cache: {}}
run: {workers: 2, concurrency: 4}
rate_limits: [{name: calls, max_concurrency: 8}]
resources:
  - name: rows
    endpoint: {path: rows, paginator: {type: page_number, stop_when: page >= 8}, data_selector: rows}
    primary_key: id
  - {name: details, parent: rows, endpoint: "rows/${parent.id}", primary_key: id}
outputs: [{type: jsonl, path: "out/${resource}.jsonl"}]
"""


class Api(BaseHTTPRequestHandler):
    """Serves pages of rows, each with a detail; every response has an ETag of its body."""

    protocol_version = "HTTP/1.1"
    statuses: ClassVar[collections.Counter[int]] = collections.Counter()

    def do_GET(self) -> None:
        """Respond with 200, or with 304 to a current ETag."""
        time.sleep(LATENCY_S)
        path, _, query = self.path.partition("?")
        if path == "/rows":
            page = int((re.search(r"page=(\d+)", query) or ["", "1"])[1])
            value: object = {"rows": [{"id": (page - 1) * ROWS + n} for n in range(ROWS)]}
        else:
            value = {"id": int(path.rpartition("/")[2]), "text": "x" * 2000}
        body = orjson.dumps(value)
        etag = f'"{hashlib.sha256(body).hexdigest()[:16]}"'
        status = 304 if self.headers["If-None-Match"] == etag else 200
        self.statuses[status] += 1
        self.send_response(status)
        self.send_header("ETag", etag)
        if status == 200:
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if status == 200:
            self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Log nothing."""


def start(folder: Path) -> subprocess.Popen[str]:
    """Start a run in its own process group."""
    command = [sys.executable, str(RUN_JOB), "cached.yaml", f'{{"lease_s": {LEASE_S}}}']
    return subprocess.Popen(
        command,
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def records(folder: Path) -> list[int]:
    """Return the ids of all written records, sorted."""
    found = []
    for name in ("rows", "details"):
        lines = (folder / "out" / f"{name}.jsonl").read_bytes().splitlines()
        found += [orjson.loads(line)["id"] for line in lines]
    return sorted(found)


def test_a_killed_run_is_completed_and_the_next_one_only_revalidates(tmp_path: Path) -> None:
    """After kill -9 and a resumed run, a third run gets only 304s and writes nothing twice."""
    Api.statuses.clear()
    server = ThreadingHTTPServer(("127.0.0.1", 0), Api)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    (tmp_path / "cached.yaml").write_text(CONFIG.replace("PORT", str(server.server_address[1])))
    requests = PAGES + PAGES * ROWS
    try:
        first = start(tmp_path)
        deadline_s = time.monotonic() + TIMEOUT_S
        while Api.statuses[200] < requests // 3 and time.monotonic() < deadline_s:
            time.sleep(0.01)
        os.killpg(first.pid, signal.SIGKILL)
        first.communicate(timeout=TIMEOUT_S)
        second = start(tmp_path)
        output, _ = second.communicate(timeout=TIMEOUT_S)
        assert second.returncode == 0, output
        written = records(tmp_path)
        assert written == sorted([*range(PAGES * ROWS)] * 2)
        Api.statuses.clear()
        third = start(tmp_path)
        output, _ = third.communicate(timeout=TIMEOUT_S)
        assert third.returncode == 0, output
        assert Api.statuses == {304: requests}
        assert records(tmp_path) == written
    finally:
        server.shutdown()
        server.server_close()
    assert (tmp_path / ".scrapeq" / "cached.cache.db").exists()
