"""
The supervisor of one `scrapeq run`: it starts the store and one `PlanRun` for each file, and restarts the store.

A first signal drains the runs, a second one ends everything at once. The exit code says how the runs ended.
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
from scrapeq.private_files import private_file
from scrapeq.processes.child import RestartBackoff, event_loop_runner, use_fork_server
from scrapeq.processes.fork_server import open_fork_server
from scrapeq.processes.logs import open_log
from scrapeq.protocols import Progress
from scrapeq.sink import locked_paths
from scrapeq.store.embedded import EmbeddedStore
from scrapeq.supervise.options import RunOptions
from scrapeq.supervise.run import PlanRun
from scrapeq.wiring import output_base

log = structlog.get_logger("scrapeq.supervisor")

DATA_FOLDER = Path(".scrapeq")
TICK_S = 0.2
STORE_AWAY_MAX_S = 30.0  # without a store before the run gives up
RESTART_FIRST_S, RESTART_MAX_S = 0.1, 10.0
SIGNALS = (signal.SIGINT, signal.SIGTERM)
CHILD_MODULES = (
    "scrapeq.worker.process",
    "scrapeq.supervise.scheduler_process",
    "scrapeq.writer.server",
    "scrapeq.demo.__main__",
)


@dataclass
class Supervisor:
    """
    Runs plans to their end.

    Args:
        plans: The plans, one per file.
        options: The options of the command line.
        progress: Shows how the runs stand.
        folder: The data folder.
    """

    plans: Sequence[Plan]
    options: RunOptions
    progress: Progress
    folder: Path
    _stop: asyncio.Event = field(default_factory=asyncio.Event)
    _signals: int = 0
    _runs: list[PlanRun] = field(default_factory=list)
    _store: EmbeddedStore | None = None
    _store_task: asyncio.Task[None] | None = None
    _log: TextIO | None = None

    async def run(self) -> int:
        """Run the plans and return the exit code. Raises ScrapeqError when they cannot start."""
        loop = asyncio.get_running_loop()
        for number in SIGNALS:
            loop.add_signal_handler(number, self._on_signal)
        try:
            self._check_names()
            self._check_outputs()
            self._prepare_folder()
            embedded_url = await self._start_store()
            for plan in self.plans:
                store_url = embedded_url or plan.redis.url
                run = PlanRun(plan, self.options, self.folder, store_url, self.progress, self._log)
                self._runs.append(run)
                await run.prepare()
            for run in self._runs:  # only now, since a run that cannot start ends all of them
                await run.begin()
            await self._watch()
            return await self._end()
        finally:
            for number in SIGNALS:
                loop.remove_signal_handler(number)
            await self._close()

    def _check_names(self) -> None:
        """Refuse two files with one name."""
        files: dict[str, str] = {}
        for plan in self.plans:
            if plan.name in files:
                raise UsageError(
                    f"{files[plan.name]} and {plan.file} have the same name, {plan.name!r}, so they would share one "
                    "queue, which is not supported yet. Give each file its own `name`"
                )
            files[plan.name] = plan.file

    def _check_outputs(self) -> None:
        """Refuse two files that write to one folder or database: each output has one writer."""
        owners: dict[Path, str] = {}
        for plan in self.plans:
            for path in sorted(locked_paths(plan.outputs, output_base())):
                if path in owners:
                    own_path = path.parent / plan.name / path.name if path.suffix else path / plan.name
                    raise UsageError(
                        f"{owners[path]} and {plan.file} both write to {path}, but only one run can write there. "
                        f"Give each file its own output folder, such as {own_path}"
                    )
                owners[path] = plan.file

    def _prepare_folder(self) -> None:
        """Create the data folder, open the log, and note the files of this run for other commands."""
        try:
            self._log = open_log(self.folder)
            run_files = {"files": [str(Path(plan.file).absolute()) for plan in self.plans]}
            private_file(self.folder / "run.json")
            (self.folder / "run.json").write_bytes(orjson.dumps(run_files))
        except OSError as error:
            raise StoreError(
                f"{self.folder}: cannot write to the data folder: {error.strerror}. "
                "Make it a folder that this user can write to, or run the command in another folder"
            ) from None

    def _on_signal(self) -> None:
        self._signals += 1
        if self._signals == 1:
            self._stop.set()
            return
        for run in self._runs:  # tasks in flight return to the queue when their leases expire
            run.kill()
        with contextlib.suppress(Exception):  # nothing may delay the exit
            self.progress.close()
        if self._store is not None and self._store.pid is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._store.pid, signal.SIGTERM)
        os._exit(Exit.SECOND_SIGNAL)

    async def _start_store(self) -> str:
        """Start the embedded store if a plan uses it; return its URL, or an empty string."""
        embedded = [plan for plan in self.plans if plan.redis.url == "embedded"]
        if not embedded:
            return ""
        redis = embedded[0].redis
        self._store = EmbeddedStore(self.folder, server=redis.server, durability=redis.durability)
        url = await self._store.start()
        self._store_task = asyncio.create_task(self._keep_store_running(self._store))
        return url

    async def _keep_store_running(self, store: EmbeddedStore) -> None:
        """Restart the store whenever it ends."""
        backoff = RestartBackoff(RESTART_FIRST_S, RESTART_MAX_S)
        while True:
            started_s = time.monotonic()
            code = await store.wait()
            backoff.record_lifetime(time.monotonic() - started_s)
            log.error("store ended", code=code)
            self.progress.event(f"the store ended (code {code}); restarting it")
            while True:
                await asyncio.sleep(backoff.next_s())
                try:
                    await store.restart()
                    break
                except ScrapeqError as error:
                    log.error("store not restarted", error=str(error))

    async def _watch(self) -> None:
        """Update the runs until all of them are over, a signal arrives, or the store stays away."""
        away_since_s: float | None = None
        while not self._stop.is_set() and not all(run.over for run in self._runs):
            try:
                await self._tick()
                away_since_s = None
            except StoreError as error:
                is_loading = self._store is not None and self._store.loading
                if away_since_s is None or is_loading:  # a store that loads its data will come back
                    away_since_s = time.monotonic()
                if time.monotonic() - away_since_s > STORE_AWAY_MAX_S:
                    for run in self._runs:
                        run.fail(Exit.STORE, str(error))
                    return
            self.progress.update([run.snapshot for run in self._runs])
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stop.wait(), TICK_S)

    async def _tick(self) -> None:
        """Update each run. Raises StoreError."""
        for run in self._runs:
            await run.tick()
            if run.over and len(self._runs) > 1:  # stop its fetchers while other runs continue
                run.end()

    async def _end(self) -> int:
        """Drain the runs, show the summary, and return the exit code."""
        self.progress.update([run.snapshot for run in self._runs])
        codes = await asyncio.gather(*(run.end() for run in self._runs))
        self.progress.finish([run.snapshot for run in self._runs])
        return most_important(codes)

    async def _close(self) -> None:
        if self._store_task is not None:
            self._store_task.cancel()
        for run in self._runs:
            await run.close()
        if self._store is not None:
            await self._store.stop()
        if self._log is not None:
            self._log.flush()


async def run_plans(
    plans: Sequence[Plan], options: RunOptions, progress: Progress, *, folder: Path = DATA_FOLDER
) -> int:
    """
    Run plans until they are done, a signal arrives, or a bound is reached; return the exit code.

    Args:
        plans: The plans, one per file.
        options: The options of the command line.
        progress: Shows how the runs stand.
        folder: The data folder.

    Raises:
        ScrapeqError: the run cannot start: a wrong option, or a store or an output that cannot be used.
    """
    return await Supervisor(plans, options, progress, folder).run()


def run_plans_blocking(
    plans: Sequence[Plan], options: RunOptions, progress: Progress, *, folder: Path = DATA_FOLDER
) -> int:
    """
    Run plans as `run_plans` does, in a new event loop, with children that are forked instead of spawned.

    Call it while this process has a single thread: the fork server cannot be started otherwise.
    """
    fork_server = open_fork_server(CHILD_MODULES)
    use_fork_server(fork_server)
    try:
        with event_loop_runner() as runner:
            return runner.run(run_plans(plans, options, progress, folder=folder))
    finally:
        use_fork_server(None)
        fork_server.close()
