"""`python -m scrapeq.worker.process`: one fetcher, a child of the supervisor."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from pathlib import Path
from typing import Any, TextIO

import orjson

from scrapeq.errors import ScrapeqError, StoreError
from scrapeq.exit_codes import FATAL_REASONS, Exit
from scrapeq.processes.child import enter_child, event_loop_runner
from scrapeq.processes.logs import configure_child_log
from scrapeq.sink import captures_responses, wants_seeds
from scrapeq.wiring import WorkerSettings, load_plan, open_queue_of
from scrapeq.worker.assemble import fetch_worker
from scrapeq.worker.loop import FetchWorker
from scrapeq.writer.client import WriterClient

TELL_S = 0.25  # how often a fetcher tells the supervisor what it did

_supervisor: TextIO = sys.stdout


def keep_channel() -> None:
    """Standard output is the supervisor's alone: what a hook prints goes to the log."""
    global _supervisor
    _supervisor = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())


def say(message: dict[str, Any]) -> None:
    """One JSON line to the supervisor."""
    _supervisor.write(orjson.dumps(message).decode() + "\n")
    _supervisor.flush()


async def _tell(worker: FetchWorker) -> None:
    while True:
        await asyncio.sleep(TELL_S)
        tell_now(worker)


def tell_now(worker: FetchWorker) -> None:
    """What it did since the last time, if anything."""
    counts = worker.tally.take()
    events, worker.events[:] = worker.events[:], []
    if counts or events:
        say({"tally": counts, "events": events})


async def serve(worker_settings: WorkerSettings, grace_s: float) -> int:
    """Fetch until SIGTERM; the exit code."""
    plan = load_plan(worker_settings)
    queue, client = open_queue_of(plan, worker_settings.store_url, lease_s=worker_settings.lease_s)
    seeds, answers = wants_seeds(plan.outputs), captures_responses(plan.outputs)
    sink = WriterClient(Path(worker_settings.writer_socket), seeds=seeds, responses=answers)
    worker = fetch_worker(worker_settings, plan, queue, client, sink)
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, worker.stop)
    say({"ready": True})
    telling = asyncio.create_task(_tell(worker))
    try:
        await worker.run(grace_s)
    except StoreError as error:
        say({"error": str(error)})
        return Exit.STORE
    finally:
        telling.cancel()
        tell_now(worker)
        with contextlib.suppress(Exception):
            await queue.close()
            await sink.close()
            await client.aclose()
    if worker.fatal is not None:
        say({"fatal": worker.fatal.kind, "message": worker.fatal.message})
        return FATAL_REASONS[worker.fatal.kind]
    return 0


def main() -> int:
    """The child's main."""
    settings = enter_child()
    keep_channel()
    grace_s = settings.pop("grace_s")
    configure_child_log()
    worker_settings = WorkerSettings(**settings)
    with event_loop_runner() as loop:
        try:
            return loop.run(serve(worker_settings, grace_s))
        except ScrapeqError as error:
            say({"error": str(error)})
            return 1


if __name__ == "__main__":
    sys.exit(main())
