"""`scrapeq run` with answers that are kept: killed at any moment, and run again, it loses nothing and asks little."""

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

PAGES, ROWS = 8, 5
LIMIT_S = 60
LEASE_S = 2.0  # until a task of the killed run comes back
JOB = Path(__file__).with_name("run_job.py")
SLOW_S = 0.02
CONFIG = """\
version: 1
name: kept
client: {base_url: "http://127.0.0.1:PORT", cache: {}}
run: {workers: 2, concurrency: 4}
rate_limits: [{name: calls, max_concurrency: 8}]
resources:
  - name: rows
    endpoint: {path: rows, paginator: {type: page_number, maximum_page: 8}, data_selector: rows}
    primary_key: id
  - {name: details, parent: rows, endpoint: "rows/${parent.id}", primary_key: id}
outputs: [{type: jsonl, path: "out/${resource}.jsonl"}]
"""


class Api(BaseHTTPRequestHandler):
    """Pages of rows, each with a detail; every answer has an entity tag of its body."""

    protocol_version = "HTTP/1.1"
    statuses: ClassVar[collections.Counter[int]] = collections.Counter()

    def do_GET(self) -> None:
        """200, or 304."""
        time.sleep(SLOW_S)
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
        """Nothing is said."""


def start(folder: Path) -> subprocess.Popen[str]:
    """A run in a process group of its own."""
    command = [sys.executable, str(JOB), "kept.yaml", f'{{"lease_s": {LEASE_S}}}']
    return subprocess.Popen(
        command,
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def records(folder: Path) -> list[int]:
    """The ids of all that was written, as it stands there."""
    found = []
    for name in ("rows", "details"):
        lines = (folder / "out" / f"{name}.jsonl").read_bytes().splitlines()
        found += [orjson.loads(line)["id"] for line in lines]
    return sorted(found)


def test_a_killed_run_is_finished_and_the_next_one_asks_for_nothing_whole(tmp_path: Path) -> None:
    """kill -9 in the middle of the first run; the last run is 304s alone, and writes nothing twice."""
    Api.statuses.clear()
    server = ThreadingHTTPServer(("127.0.0.1", 0), Api)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    (tmp_path / "kept.yaml").write_text(CONFIG.replace("PORT", str(server.server_address[1])))
    whole = PAGES + PAGES * ROWS
    try:
        first = start(tmp_path)
        deadline = time.monotonic() + LIMIT_S
        while Api.statuses[200] < whole // 3 and time.monotonic() < deadline:
            time.sleep(0.01)
        os.killpg(first.pid, signal.SIGKILL)
        first.communicate(timeout=LIMIT_S)
        second = start(tmp_path)
        said, _ = second.communicate(timeout=LIMIT_S)
        assert second.returncode == 0, said
        written = records(tmp_path)
        assert written == sorted([*range(PAGES * ROWS)] * 2)
        Api.statuses.clear()
        third = start(tmp_path)
        said, _ = third.communicate(timeout=LIMIT_S)
        assert third.returncode == 0, said
        assert Api.statuses == {304: whole}
        assert records(tmp_path) == written
    finally:
        server.shutdown()
        server.server_close()
    assert (tmp_path / ".scrapeq" / "kept.cache.db").exists()
