"""Schedules over a real store, a real server and real processes: they continue, and never pile up."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from incremental_runs import Scrape
from worker_runs import serving

import scrapeq
from scrapeq.queue import Queue
from scrapeq.queue.connect import async_client
from scrapeq.queue.worker_queue import WorkerQueue
from scrapeq.supervise.scheduler_process import scheduler_of
from scrapeq.supervise.schedules import due_times_of

ROOT = Path(scrapeq.__file__).parents[1]
TIMEOUT_S = 40.0
CHANNELS = """
version: 1
name: channels
client: {base_url: URL}
rate_limits: [{name: slow, partition_by: [], rates: [{limit: 8, interval: 1s}]}]
resources:
  - {name: channels, endpoint: channels, primary_key: id, schedule: {every: 500ms}}
  - name: messages
    parent: channels
    endpoint:
      path: history
      params: {channel: "${parent.id}", oldest: "${incremental.start_value}"}
      paginator: {type: cursor, cursor_path: next, cursor_param: cursor}
      data_selector: messages
      incremental: {cursor_path: ts, initial_value: 0}
    include_from_parent: [id]
    primary_key: [_channels_id, ts]
"""
PAGES = 6  # of a channel; all of them take more than a second under the limit


async def run_with_scheduler(scrape: Scrape, until: Callable[[Queue], Any]) -> None:
    """Run a scrape with a scheduler beside it."""
    client = async_client(scrape.store_url)
    stop = asyncio.Event()
    async with WorkerQueue(client, scrape.plan().name) as queue:
        scheduler = scheduler_of(queue, client, scrape.plan(), lambda _: None)
        scheduling = asyncio.create_task(scheduler.run(stop))
        await scrape.run(until)
        stop.set()
        await scheduling
    await client.aclose()


async def test_a_schedule_that_is_faster_than_its_limit_never_piles_up(store_url: str) -> None:
    """The server's cursors never repeat, so only the schedule can prevent a second page sequence."""
    first_pages: Counter[str] = Counter()
    ended: Counter[str] = Counter()
    requests = listed = most = 0

    async def respond(request: web.Request) -> web.Response:
        nonlocal requests, listed
        requests += 1
        if request.path == "/channels":
            listed += 1
            return web.json_response([{"id": "C1"}, {"id": "C2"}])
        channel, cursor = request.query["channel"], request.query.get("cursor")
        first_pages[channel] += cursor is None
        page = 1 if cursor is None else int(cursor.split("-")[0])
        ended[channel] += page == PAGES
        following = f"{page + 1}-{requests}" if page < PAGES else ""
        return web.json_response({"messages": [{"ts": page}], "next": following})

    async def long_enough(queue: Queue) -> bool:
        nonlocal most
        most = max(most, (await queue.counts()).live)
        assert all(first_pages[one] - ended[one] <= 1 for one in first_pages), (
            "two page sequences of one channel"
        )
        return min(ended["C1"], ended["C2"]) >= 2 and listed >= 6

    async with serving(respond) as url:
        scrape = Scrape(store_url, CHANNELS, url)
        await run_with_scheduler(scrape, long_enough)
        states = await scrape.stored_states()
    assert most <= 3, "the list of channels, and one page of each"
    assert [state["cursor"] for state in states] == [PAGES, PAGES]


CHANGING = """
version: 1
name: changing
client: {base_url: URL}
resources:
  - {name: things, endpoint: things, primary_key: id, schedule: {every: 300ms}}
  - {name: details, parent: things, endpoint: "things/${parent.id}", primary_key: id}
"""


async def test_a_scheduled_run_fetches_everything_again(store_url: str) -> None:
    """Children are fetched again, too; a dead letter is replaced by its next fetch."""
    requests: Counter[str] = Counter()

    async def respond(request: web.Request) -> web.Response:
        requests[request.path] += 1
        if request.path == "/things":
            return web.json_response([{"id": 1}, {"id": 2}])
        if request.path == "/things/2" and requests[request.path] < 3:
            return web.json_response({}, status=404)
        return web.json_response({"id": request.path, "time": requests[request.path]})

    async def often(queue: Queue) -> bool:
        return min(requests["/things"], requests["/things/1"], requests["/things/2"]) >= 4

    async with serving(respond) as url:
        scrape = Scrape(store_url, CHANGING, url)
        await run_with_scheduler(scrape, often)
    client = async_client(store_url)
    async with Queue(client, "changing") as queue:
        assert (await queue.counts()).dead == 0
    await client.aclose()


class Server(BaseHTTPRequestHandler):
    """Serves one thing whose id is the number of requests so far."""

    requests = 0

    def do_GET(self) -> None:
        """Respond with the number of requests."""
        Server.requests += 1
        body = json.dumps({"id": Server.requests}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Log nothing."""


FILE = """
version: 1
name: ticking
client: {base_url: "%s"}
run: {workers: 1}
resources: [{name: thing, endpoint: thing, primary_key: id, schedule: {every: 1s}}]
outputs: [{type: jsonl, path: out/thing.jsonl}]
"""


def _run(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "scrapeq", *arguments],
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )


@pytest.fixture
def ticking(tmp_path: Path) -> Any:
    """Create a folder with a file whose resource is due every second, and start its server."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Server)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    (tmp_path / "t.yaml").write_text(FILE % f"http://127.0.0.1:{server.server_port}/")
    Server.requests = 0
    yield tmp_path
    server.shutdown()
    server.server_close()


def test_keep_running_keeps_the_schedules(ticking: Path) -> None:
    """A plain run fetches once. With --keep-running the schedule continues, also after a stop."""
    plain = _run(ticking, "run", "t.yaml", "--progress", "lines")
    output, _ = plain.communicate(timeout=TIMEOUT_S)
    assert (plain.returncode, Server.requests) == (0, 1), output
    before = Server.requests
    for _ in range(2):
        keeping = _run(ticking, "run", "t.yaml", "--keep-running", "--progress", "lines")
        deadline_s = time.monotonic() + TIMEOUT_S
        while Server.requests < before + 2:
            assert time.monotonic() < deadline_s
            time.sleep(0.05)
        keeping.send_signal(signal.SIGINT)
        output, _ = keeping.communicate(timeout=TIMEOUT_S)
        assert keeping.returncode in (0, 5), output
        assert "due    thing: 1 first page" in output
        assert "Traceback" not in output
        before = Server.requests
    lines = (ticking / "out/thing.jsonl").read_text().splitlines()
    assert len(lines) == Server.requests


async def test_the_scheduler_command_pushes_what_is_due(ticking: Path, store_url: str) -> None:
    """The command works without a run; the pushed task waits for a fetcher and is not pushed twice."""
    scheduler = _run(ticking, "--redis", store_url, "-c", "t.yaml", "scheduler")
    client = async_client(store_url)
    async with Queue(client, "ticking") as queue:
        first_s = 0.0
        async with asyncio.timeout(TIMEOUT_S):
            while True:
                due = (await due_times_of(queue, client).all()).get("thing")
                if due is not None and not due.occurrence:
                    first_s = first_s or due.due_s
                    if due.due_s >= first_s + 2:
                        break
                await asyncio.sleep(0.05)
        assert (await queue.counts()).live == 1
    await client.aclose()
    scheduler.send_signal(signal.SIGTERM)
    output, _ = scheduler.communicate(timeout=TIMEOUT_S)
    assert scheduler.returncode == 0
    assert "due    thing: still in progress, nothing pushed" in output
