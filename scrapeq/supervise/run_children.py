"""The child processes of one run: its fetchers and scheduler, which report to the run, and its writer."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from itertools import islice
from typing import Any, TextIO

import structlog

from scrapeq.backoff import pauses_s
from scrapeq.errors import OutputError
from scrapeq.exit_codes import FATAL_REASONS, Exit
from scrapeq.processes.child import RestartBackoff
from scrapeq.processes.process_group import ProcessGroup
from scrapeq.writer.client import WriterKilled, WriterProcess

log = structlog.get_logger("scrapeq.run")

WRITER_RESTART_FIRST_S, WRITER_RESTART_MAX_S = 0.1, 30.0  # short: every fetcher waits for the writer
WRITER_STARTS = 6  # tries to start a writer that is killed while it starts
WRITER_GRACE_S = 600.0  # the writer may have large files to close
CLOSE_GRACE_S = 30.0  # after the run has failed
FINDING_PREFIXES = (
    "check  ",
    "auto   ",
    "cut    ",
)  # events about the configuration file, which every fetcher finds itself

HOST_PREFIX = "host   "  # events about a host, which every fetcher may meet

Fail = Callable[[int, str], None]
"""Ends the run, with an exit code and a message."""


class RunChildren:
    """
    Starts the children of a run, adds up what they report, and stops them.

    Args:
        log_file: Where children log; None = the parent's standard error.
        on_event: Takes a sentence for the user.
        fail: Called when a child reports a reason to end the run.
        is_over: Whether the run is over; then no child is restarted.
    """

    def __init__(
        self,
        log_file: TextIO | None,
        on_event: Callable[[str], None],
        fail: Fail,
        is_over: Callable[[], bool],
    ) -> None:
        self.ready = False  # a fetcher is ready to take tasks
        self._on_event = on_event
        self._fail = fail
        self._tally: dict[str, float] = {}
        self._shown_findings: set[str] = set()
        self.down: dict[str, str] = {}  # hosts that do not answer, and why
        self._group = ProcessGroup(self._on_message, on_event, lambda: not is_over(), log_file)
        self._writer: _WriterSupervision | None = None
        self._may_fetch = asyncio.Event()

    @property
    def running(self) -> int:
        """The number of fetchers and schedulers that run."""
        return self._group.running

    def take_tally(self) -> dict[str, float]:
        """Return what the children have counted since the last call."""
        tally, self._tally = self._tally, {}
        return tally

    def add_tally(self, tally: dict[str, float]) -> None:
        """Add counts to the tally."""
        for name, count in tally.items():
            self._tally[name] = self._tally.get(name, 0) + count

    def keep_running(self, name: str, module: str, settings: dict[str, Any]) -> None:
        """Start a child, and restart it whenever it ends."""
        self._group.keep_running(name, module, settings)

    def prepare_fetcher(self, name: str, settings: dict[str, Any]) -> None:
        """Start a fetcher, which waits for `let_fetch` before it takes a task; restart it whenever it ends."""
        self._group.keep_running(name, "scrapeq.worker.process", settings, after=self._may_fetch)

    def let_fetch(self) -> None:
        """Let the fetchers take tasks: the run can no longer fail to start."""
        self._may_fetch.set()

    async def keep_writer(self, writer: WriterProcess) -> None:
        """Start the writer, wait until it listens, and restart it whenever it ends. Raises OutputError."""
        self._writer = _WriterSupervision(writer, self._on_event, self._fail)
        await self._writer.start()

    async def drain(self, grace_s: float) -> None:
        """Let tasks in flight end within `grace_s` seconds, then let the writer finish the outputs."""
        if self._writer is not None:
            self._writer.stop_restarting()
        await self._group.drain(grace_s)
        if self._writer is not None:
            await self._writer.finish()

    def kill(self) -> None:
        """Send SIGKILL to all fetchers and schedulers."""
        self._group.kill()

    async def close(self) -> None:
        """Stop whatever still runs."""
        if self._writer is not None:
            self._writer.cancel_restart()
        await self._group.close()
        if self._writer is not None:
            await self._writer.close()

    def _on_message(self, message: dict[str, Any]) -> bool:
        """Handle what a child reports; return whether it finished a task."""
        tally = message.get("tally", {})
        self.ready = self.ready or "ready" in message
        self.add_tally(tally)
        for host, reason in message.get("hosts", {}).items():
            self.down.pop(host, None)
            if reason:
                self.down[host] = reason
        for event in message.get("events", ()):
            self._show(event)
        if "fatal" in message:
            self._fail(FATAL_REASONS[message["fatal"]], message["message"])
        if "error" in message:
            log.error("child", error=message["error"])
        return "done" in tally

    def _show(self, event: str) -> None:
        """Show an event; show a finding about the file once, although every process reports it."""
        if event.startswith(FINDING_PREFIXES):
            finding = "".join(letter for letter in event.partition(";")[0] if not letter.isdecimal())
            if finding in self._shown_findings:
                return
            self._shown_findings.add(finding)
        elif event.startswith(HOST_PREFIX):
            finding = ": ".join(event.partition(";")[0].split(": ")[:2])  # the host, and what failed
            if finding in self._shown_findings:
                return
            self._shown_findings.add(finding)
        self._on_event(event)


class _WriterSupervision:
    """Restarts the writer whenever it ends before the run does."""

    def __init__(self, writer: WriterProcess, on_event: Callable[[str], None], fail: Fail) -> None:
        self._writer = writer
        self._on_event = on_event
        self._fail = fail
        self._ending = False
        self._restart_task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Start the writer and wait until it listens. Raises OutputError."""
        try:
            await self._start_writer()
        except OSError as error:
            raise OutputError(
                f"cannot start the process that writes the output files: {error.strerror}"
            ) from None
        self._restart_task = asyncio.create_task(self._keep_running())

    async def _start_writer(self) -> None:
        """Start the writer; start it again if it is killed while it starts. Raises OutputError, OSError."""
        for pause_s in islice(pauses_s(WRITER_RESTART_FIRST_S, WRITER_RESTART_MAX_S), WRITER_STARTS - 1):
            try:
                return await self._writer.start()
            except WriterKilled as error:
                log.error("writer killed during its start", error=str(error))
                self._on_event(f"{error}; restarting it")
                await asyncio.sleep(pause_s)
        return await self._writer.start()

    def stop_restarting(self) -> None:
        """From now on, let the writer end."""
        self._ending = True

    async def finish(self) -> None:
        """Wait until the writer has written everything. If it is killed meanwhile, start it once more to finish."""
        code = await self._writer.stop(WRITER_GRACE_S)
        if code < 0:
            try:
                await self._start_writer()
                code = await self._writer.stop(WRITER_GRACE_S)
            except (OutputError, OSError) as error:
                self._fail(Exit.OUTPUT, str(error))
                return
        if code:
            self._fail(Exit.OUTPUT, f"cannot finish the output files (code {code}); see .scrapeq/run.log")

    def cancel_restart(self) -> None:
        """Cancel a restart that is under way."""
        self._ending = True
        if self._restart_task is not None:
            self._restart_task.cancel()

    async def close(self) -> None:
        """Stop the writer if it still runs."""
        with contextlib.suppress(Exception):
            await self._writer.stop(CLOSE_GRACE_S)

    async def _keep_running(self) -> None:
        backoff = RestartBackoff(WRITER_RESTART_FIRST_S, WRITER_RESTART_MAX_S)
        while not self._ending:
            started_s = time.monotonic()
            code = await self._writer.wait()
            if self._ending:
                return
            backoff.record_lifetime(time.monotonic() - started_s)
            log.error("writer ended", code=code)
            self._on_event(f"the writer ended (code {code}); restarting it")
            await asyncio.sleep(backoff.next_s())
            try:
                await self._start_writer()
            except OutputError as error:
                self._fail(Exit.OUTPUT, str(error))
                return
            except OSError as error:  # the system cannot create a process: try again after the next pause
                log.error("writer not started", error=str(error))
