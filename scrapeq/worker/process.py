"""The fetcher process, a child of the supervisor: `python -m scrapeq.worker.process`."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from pathlib import Path
from typing import Any, TextIO

import orjson

from scrapeq.errors import ScrapeqError, StoreDamaged, StoreError
from scrapeq.exit_codes import FATAL_REASONS, Exit
from scrapeq.processes.child import enter_child, event_loop_runner, wait_for_parent
from scrapeq.processes.logs import configure_child_log
from scrapeq.sink import captures_responses, wants_seeds
from scrapeq.wiring import WorkerSettings, load_plan, open_queue_of
from scrapeq.worker.assemble import fetch_worker
from scrapeq.worker.loop import FetchWorker
from scrapeq.writer.client import WriterClient

REPORT_EVERY_S = 0.25

_supervisor: TextIO = sys.stdout


def reserve_stdout() -> None:
    """Reserve standard output for the supervisor, so that what a hook prints goes to the log."""
    global _supervisor
    _supervisor = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())


def send(message: dict[str, Any]) -> None:
    """Send one JSON line to the supervisor."""
    _supervisor.write(orjson.dumps(message).decode() + "\n")
    _supervisor.flush()


async def _report_regularly(worker: FetchWorker) -> None:
    while True:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(worker.context.hosts.changed.wait(), REPORT_EVERY_S)
        report(worker)


def report(worker: FetchWorker) -> None:
    """Report what the worker did since the last report, if anything."""
    counts = worker.tally.take()
    events, worker.events[:] = worker.events[:], []
    hosts = worker.context.hosts.take()
    if counts or events or hosts:
        send({"tally": counts, "events": events, "hosts": hosts})


async def serve(worker_settings: WorkerSettings, grace_s: float) -> int:
    """Fetch until SIGTERM, and return the exit code."""
    plan = load_plan(worker_settings)
    queue, client = open_queue_of(plan, worker_settings.store_url, lease_s=worker_settings.lease_s)
    seeds, responses = wants_seeds(plan.outputs), captures_responses(plan.outputs)
    notes: list[str] = []
    sink = WriterClient(Path(worker_settings.writer_socket), seeds=seeds, responses=responses, notes=notes)
    worker = fetch_worker(worker_settings, plan, queue, client, sink)
    worker.context.events = notes  # the writer's lines for the user are events of this worker
    await wait_for_parent()  # a run that fails to start must not have taken a task
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, worker.stop)
    send({"ready": True})
    reporting = asyncio.create_task(_report_regularly(worker))
    try:
        await worker.run(grace_s)
    except StoreDamaged as error:
        send({"fatal": "store", "message": str(error)})
        return Exit.STORE
    except StoreError as error:
        send({"error": str(error)})
        return Exit.STORE
    finally:
        reporting.cancel()
        report(worker)
        with contextlib.suppress(Exception):
            await queue.close()
            await sink.close()
            await client.aclose()
    if worker.fatal is not None:
        send({"fatal": worker.fatal.kind, "message": worker.fatal.message})
        return FATAL_REASONS[worker.fatal.kind]
    return 0


def main() -> int:
    """Run the child process."""
    settings = enter_child()
    reserve_stdout()
    grace_s = settings.pop("grace_s")
    configure_child_log()
    worker_settings = WorkerSettings(**settings)
    with event_loop_runner() as loop:
        try:
            return loop.run(serve(worker_settings, grace_s))
        except ScrapeqError as error:
            send({"error": str(error)})
            return Exit.INTERNAL


if __name__ == "__main__":
    sys.exit(main())
