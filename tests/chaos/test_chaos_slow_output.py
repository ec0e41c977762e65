"""An output that accepts nothing: commits wait, slots stay full, no further task is taken, and memory does not grow."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import orjson
from chaos_job import ROOT, Job, Target, assert_each_once, wait_until

PAUSE_S = 0.5
GROWTH_MAX_BYTES = 8_000_000


def _resident_bytes(pids: list[int]) -> int:
    pages = [int(Path(f"/proc/{pid}/statm").read_text().split()[1]) for pid in pids]
    return sum(pages) * os.sysconf("SC_PAGE_SIZE")


def test_a_pipe_without_a_reader_stops_the_requests(
    target: Callable[..., Target], job: Callable[..., Job]
) -> None:
    """No more requests are in flight than there are slots; once the pipe is read, the run completes."""
    server = target(0)
    lists = 12
    work = job(server.url, lists)
    text = work.file.read_text()
    before, _, _ = text.partition("outputs:")
    work.file.write_text(f"{before}outputs: stdout\n")
    with (work.folder / "errors.txt").open("w") as errors:
        work.process = process = subprocess.Popen(
            [sys.executable, "-m", "scrapeq", "run", str(work.file)],
            cwd=work.folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=errors,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            start_new_session=True,
        )
    slots = 2 * work.concurrency

    def has_stopped() -> bool:
        requests = server.count()
        time.sleep(PAUSE_S)
        return requests > lists and server.count() == requests

    wait_until("requests stop", has_stopped, 40.0)
    requests = server.count()
    pids = work.children()
    resident = _resident_bytes(pids)
    time.sleep(PAUSE_S)
    assert server.count() == requests
    assert _resident_bytes(pids) - resident < GROWTH_MAX_BYTES
    assert process.stdout is not None
    buffered = os.read(process.stdout.fileno(), 1_000_000)  # what the pipe contains
    assert requests < work.tasks
    assert requests <= lists + buffered.count(b"\n") + 1 + slots
    rest, _ = process.communicate(timeout=60.0)
    assert process.returncode == 0
    assert_each_once((orjson.loads(line)["id"] for line in (buffered + rest).splitlines()), lists)
