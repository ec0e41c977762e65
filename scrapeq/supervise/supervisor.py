"""
The supervisor: starts the store, the sample API, the writer, the scheduler and the fetchers; restarts what dies;
drains on a signal; says how it ended. One `PlanRun` a file, one supervisor a command.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TextIO

import orjson
import structlog

from scrapeq.errors import ScrapeqError, StoreError, UsageError
from scrapeq.exit_codes import Exit, most_important
from scrapeq.plan import Plan
from scrapeq.processes.child import RestartPause, runner, use_fork_server
from scrapeq.processes.fork_server import open_fork_server
from scrapeq.processes.logs import open_log
from scrapeq.protocols import Progress
from scrapeq.sink import locked_paths
from scrapeq.store.embedded import EmbeddedStore
from scrapeq.supervise.options import RunOptions
from scrapeq.supervise.run import PlanRun
from scrapeq.wiring import output_base

log = structlog.get_logger("scrapeq.supervisor")

TICK_S = 0.2
CHILDREN = (
    "scrapeq.worker.process",
    "scrapeq.supervise.scheduler_process",
    "scrapeq.writer.server",
    "scrapeq.demo.__main__",
)
STORE_GONE_S = 30.0  # without a store before the run gives up
RESTART_FIRST_S, RESTART_MAX_S = 0.1, 10.0


@dataclass
class Supervisor:
    """Runs plans to their end."""

    plans: Sequence[Plan]
    options: RunOptions
    progress: Progress
    folder: Path
    _stop: asyncio.Event = field(default_factory=asyncio.Event)
    _signals: int = 0
    _runs: list[PlanRun] = field(default_factory=list)
    _store: EmbeddedStore | None = None
    _restarter: asyncio.Task[None] | None = None
    _log: TextIO | None = None

    async def run(self) -> int:
        """Run; the exit code. Raises ScrapeqError for what never could have begun."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._on_signal)
        try:
            self._check_names()
            self._prepare_folder()
            url = await self._start_store()
            for plan in self.plans:
                run = PlanRun(
                    plan, self.options, self.folder, url or plan.redis.url, self.progress, self._log
                )
                self._runs.append(run)
                await run.start()
            await self._watch()
            return await self._end()
        finally:
            for number in (signal.SIGINT, signal.SIGTERM):
                loop.remove_signal_handler(number)
            await self._close()

    def _check_names(self) -> None:
        seen: dict[str, str] = {}
        for plan in self.plans:
            if plan.name in seen:
                raise UsageError(
                    f"{seen[plan.name]} and {plan.file} have the same name, {plan.name!r}, so they would be one run "
                    "of one queue: give each file its own `name`; that files share a queue is not built yet"
                )
            seen[plan.name] = plan.file
        self._check_outputs()

    def _check_outputs(self) -> None:
        """A folder has one writer, and each file its own."""
        holders: dict[Path, str] = {}
        for plan in self.plans:
            for place in sorted(locked_paths(plan.outputs, output_base())):
                if place in holders:
                    raise UsageError(
                        f"{holders[place]} and {plan.file} both write to {place}, which one run holds at a time: "
                        "give each file a folder of its own, such as "
                        f"{place.parent / plan.name / place.name if place.suffix else place / plan.name}"
                    )
                holders[place] = plan.file

    def _prepare_folder(self) -> None:
        try:
            self._log = open_log(self.folder)
            remembered = {"files": [str(Path(plan.file).absolute()) for plan in self.plans]}
            (self.folder / "run.json").write_bytes(orjson.dumps(remembered))
        except OSError as error:
            raise StoreError(f"{self.folder}: the data folder cannot be written: {error.strerror}") from None

    def _on_signal(self) -> None:
        self._signals += 1
        if self._signals == 1:
            self._stop.set()
            return
        for run in self._runs:  # at once: what was in flight comes back by its lease
            run.kill()
        with contextlib.suppress(Exception):  # nothing may keep us from ending now
            self.progress.close()
        if self._store is not None and self._store.pid is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._store.pid, signal.SIGTERM)
        os._exit(Exit.SECOND_SIGNAL)

    async def _start_store(self) -> str:
        embedded = [plan for plan in self.plans if plan.redis.url == "embedded"]
        if not embedded:
            return ""
        redis = embedded[0].redis
        self._store = EmbeddedStore(self.folder, server=redis.server, durability=redis.durability)
        url = await self._store.start()
        self._restarter = asyncio.create_task(self._keep_store(self._store))
        return url

    async def _keep_store(self, store: EmbeddedStore) -> None:
        """The store is started again whenever it dies."""
        pause = RestartPause(RESTART_FIRST_S, RESTART_MAX_S)
        while True:
            started_s = time.monotonic()
            code = await store.wait()
            pause.lived(time.monotonic() - started_s)
            log.error("store ended", code=code)
            self.progress.event(f"the store ended (code {code}) and is started again")
            while True:
                await asyncio.sleep(pause.next_s())
                try:
                    await store.restart()
                    break
                except ScrapeqError as error:
                    log.error("store not restarted", error=str(error))

    async def _watch(self) -> None:
        """Until all is done, or something ends it."""
        away_since_s: float | None = None
        while not self._stop.is_set() and not all(run.over for run in self._runs):
            try:
                for run in self._runs:
                    await run.tick()
                    if run.over and len(self._runs) > 1:  # its fetchers do not work on while others run
                        run.end()
                away_since_s = None
            except StoreError as error:
                away_since_s = away_since_s or time.monotonic()
                if self._store is not None and self._store.loading:  # its data are large: it comes back
                    away_since_s = time.monotonic()
                if time.monotonic() - away_since_s > STORE_GONE_S:
                    for run in self._runs:
                        run.fail(Exit.STORE, str(error))
                    return
            self.progress.update([run.snapshot for run in self._runs])
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stop.wait(), TICK_S)

    async def _end(self) -> int:
        """Drain, and say how it ended."""
        self.progress.update([run.snapshot for run in self._runs])
        codes = await asyncio.gather(*(run.end() for run in self._runs))
        self.progress.finish([run.snapshot for run in self._runs])
        return most_important(codes)

    async def _close(self) -> None:
        if self._restarter is not None:
            self._restarter.cancel()
        for run in self._runs:
            await run.close()
        if self._store is not None:
            await self._store.stop()
        if self._log is not None:
            self._log.flush()


async def run(
    plans: Sequence[Plan], options: RunOptions, progress: Progress, *, folder: Path = Path(".scrapeq")
) -> int:
    """
    Run plans to their end, a signal, or a bound; the exit code.

    Raises:
        ScrapeqError: it could not begin: no store, no output, no sense.
    """
    return await Supervisor(plans, options, progress, folder).run()


def run_here(
    plans: Sequence[Plan], options: RunOptions, progress: Progress, *, folder: Path = Path(".scrapeq")
) -> int:
    """The same as `run`, in a loop of its own, for a process without threads: its children are forked."""
    fork_server = open_fork_server(CHILDREN)
    use_fork_server(fork_server)
    try:
        with runner() as loop:
            return loop.run(run(plans, options, progress, folder=folder))
    finally:
        use_fork_server(None)
        fork_server.close()
