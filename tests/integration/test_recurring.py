"""Schedules over a real store, a real server and real processes: they go on, and never pile up."""

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
from test_incremental import Scrape
from test_worker_rules import serving

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
PAGES = 6  # of a channel, whose walk takes more than a second under the limit


async def keeping_schedules(scrape: Scrape, until: Callable[[Queue], Any]) -> None:
    """A run with a scheduler beside it."""
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
    """Cursors of the server's own, never the same twice: a walk goes on, and none begins beside it."""
    first_pages: Counter[str] = Counter()
    ended: Counter[str] = Counter()
    asked = listed = most = 0

    async def answer(request: web.Request) -> web.Response:
        nonlocal asked, listed
        asked += 1
        if request.path == "/channels":
            listed += 1
            return web.json_response([{"id": "C1"}, {"id": "C2"}])
        channel, cursor = request.query["channel"], request.query.get("cursor")
        first_pages[channel] += cursor is None
        page = 1 if cursor is None else int(cursor.split("-")[0])
        ended[channel] += page == PAGES
        following = f"{page + 1}-{asked}" if page < PAGES else ""
        return web.json_response({"messages": [{"ts": page}], "next": following})

    async def long_enough(queue: Queue) -> bool:
        nonlocal most
        most = max(most, (await queue.counts()).live)
        assert all(first_pages[one] - ended[one] <= 1 for one in first_pages), "two walks of one channel"
        return ended["C1"] >= 2 and listed >= 6

    async with serving(answer) as url:
        scrape = Scrape(store_url, CHANNELS, url)
        await keeping_schedules(scrape, long_enough)
        states = await scrape.cursor_store()
    assert most <= 3, "the channels, and a page of each"
    assert [state["cursor"] for state in states] == [PAGES, PAGES]


CHANGING = """
version: 1
name: changing
client: {base_url: URL}
resources:
  - {name: things, endpoint: things, primary_key: id, schedule: {every: 300ms}}
  - {name: details, parent: things, endpoint: "things/${parent.id}", primary_key: id}
"""


async def test_an_occurrence_asks_for_everything_again(store_url: str) -> None:
    """The children too, and what has died is asked for again and is no dead letter any more."""
    asked: Counter[str] = Counter()

    async def answer(request: web.Request) -> web.Response:
        asked[request.path] += 1
        if request.path == "/things":
            return web.json_response([{"id": 1}, {"id": 2}])
        if request.path == "/things/2" and asked[request.path] < 3:
            return web.json_response({}, status=404)
        return web.json_response({"id": request.path, "time": asked[request.path]})

    async def often(queue: Queue) -> bool:
        return min(asked["/things"], asked["/things/1"], asked["/things/2"]) >= 4

    async with serving(answer) as url:
        scrape = Scrape(store_url, CHANGING, url)
        await keeping_schedules(scrape, often)
    client = async_client(store_url)
    async with Queue(client, "changing") as queue:
        assert (await queue.counts()).dead == 0
    await client.aclose()


class Server(BaseHTTPRequestHandler):
    """One thing, which was asked for so often."""

    asked = 0

    def do_GET(self) -> None:
        """How often."""
        Server.asked += 1
        body = json.dumps({"id": Server.asked}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Silent."""


FILE = """
version: 1
name: ticking
client: {base_url: "%s"}
run: {workers: 1}
resources: [{name: thing, endpoint: thing, primary_key: id, schedule: {every: 1s}}]
outputs: [{type: jsonl, path: out/thing.jsonl}]
"""


def _run(folder: Path, *words: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "scrapeq", *words],
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )


@pytest.fixture
def ticking(tmp_path: Path) -> Any:
    """A folder with a file whose resource is due each second, and its server."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Server)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    (tmp_path / "t.yaml").write_text(FILE % f"http://127.0.0.1:{server.server_port}/")
    Server.asked = 0
    yield tmp_path
    server.shutdown()
    server.server_close()


def test_a_plain_run_asks_once_and_one_that_keeps_running_goes_on(ticking: Path) -> None:
    """And after a stop it goes on, whether all was done or not."""
    plain = _run(ticking, "run", "t.yaml", "--progress", "lines")
    said, _ = plain.communicate(timeout=TIMEOUT_S)
    assert (plain.returncode, Server.asked) == (0, 1), said
    before = Server.asked
    for _ in range(2):
        keeping = _run(ticking, "run", "t.yaml", "--keep-running", "--progress", "lines")
        deadline_s = time.monotonic() + TIMEOUT_S
        while Server.asked < before + 2:
            assert time.monotonic() < deadline_s
            time.sleep(0.05)
        keeping.send_signal(signal.SIGINT)
        said, _ = keeping.communicate(timeout=TIMEOUT_S)
        assert keeping.returncode in (0, 5), said
        assert "due    thing: 1 first page" in said
        assert "Traceback" not in said
        before = Server.asked
    lines = (ticking / "out/thing.jsonl").read_text().splitlines()
    assert len(lines) == Server.asked


async def test_the_scheduler_of_a_file_pushes_what_is_due(ticking: Path, store_url: str) -> None:
    """Without a run; what it pushed waits for fetchers, once."""
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
    said, _ = scheduler.communicate(timeout=TIMEOUT_S)
    assert scheduler.returncode == 0
    assert "due    thing: all of it is on its way" in said
