"""The children of one run: started, listened to, started again when they die, drained, ended."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import time
from collections.abc import Callable
from typing import Any, TextIO

import structlog

from scrapeq.errors import OutputError
from scrapeq.exit_codes import FATAL_REASONS, Exit
from scrapeq.processes.child import Child, RestartPause
from scrapeq.writer.client import WriterProcess

log = structlog.get_logger("scrapeq.run")

RESTART_FIRST_S, RESTART_MAX_S = 0.25, 30.0
WRITER_RESTART_FIRST_S = 0.1  # every fetcher waits for it
RESTARTERS_S = 1.0
WRITER_GRACE_S = 600.0  # at its end it may have files to close that are large
CLOSE_GRACE_S = 30.0  # when the run has failed already
FOUND = ("check  ", "auto   ")  # how events of extraction begin that are about the file


class ChildSupervision:
    """
    Args:
        log_file: Where children log; None = the parent's standard error.
        event: Told what a person should see.
        fail: Told why the run ends: an exit code and a message.
        over: Is the run over? Then nothing is started again.
    """

    def __init__(
        self,
        log_file: TextIO | None,
        event: Callable[[str], None],
        fail: Callable[[int, str], None],
        over: Callable[[], bool],
    ) -> None:
        self.ready = False  # a fetcher has come up
        self._log_file = log_file
        self._event = event
        self._fail = fail
        self._over = over
        self._draining = False
        self._tally: dict[str, float] = {}
        self._told: set[str] = set()
        self._children: list[Child] = []
        self._restarters: list[asyncio.Task[None]] = []
        self._writer: WriterProcess | None = None
        self._writer_restarter: asyncio.Task[None] | None = None

    @property
    def running(self) -> int:
        """How many run."""
        return sum(1 for child in self._children if child.running)

    def take_tally(self) -> dict[str, float]:
        """What they said they did since it was last taken."""
        tally, self._tally = self._tally, {}
        return tally

    def add_tally(self, tally: dict[str, float]) -> None:
        """Count this, too."""
        for name, count in tally.items():
            self._tally[name] = self._tally.get(name, 0) + count

    def keep(self, name: str, module: str, settings: dict[str, Any]) -> None:
        """Start a child and keep it."""
        self._restarters.append(asyncio.create_task(self._keep_child(name, module, settings)))

    async def keep_writer(self, writer: WriterProcess) -> None:
        """Start the writer, wait until it listens, and keep it. Raises OutputError."""
        self._writer = writer
        try:
            await writer.start()
        except OSError as error:
            raise OutputError(f"the writer of the output files cannot be started: {error.strerror}") from None
        self._writer_restarter = asyncio.create_task(self._keep_writer(writer))

    async def _keep_child(self, name: str, module: str, settings: dict[str, Any]) -> None:
        """Start a child, listen to it, start it again when it dies, after a pause that doubles."""
        pause = RestartPause(RESTART_FIRST_S, RESTART_MAX_S)
        while not self._draining and not self._over():
            child = Child(module, settings, listen=True, stderr=self._log_file)
            started_s = time.monotonic()
            try:
                await child.start()
            except OSError as error:
                pause_s = pause.next_s()
                log.warning("child not started", child=name, error=str(error))
                self._event(f"{name} cannot be started ({error.strerror}); again in {pause_s:g} s")
                await asyncio.sleep(pause_s)
                continue
            self._children.append(child)
            if self._draining:  # it was being started while the others were told to stop
                child.send_signal(signal.SIGTERM)
            try:
                worked = await self._listen(child)
                code = await child.wait()
            finally:
                self._children.remove(child)
            if self._draining or self._over():
                return
            pause.lived(time.monotonic() - started_s, worked=worked)
            pause_s = pause.next_s()
            log.warning("child ended", child=name, code=code)
            why = f"; {self._log_file.name} says why" if code > 0 and self._log_file else ""
            self._event(f"{name} ended (code {code}) and starts again in {pause_s:g} s{why}")
            await asyncio.sleep(pause_s)

    async def _listen(self, child: Child) -> bool:
        """Until it ends; whether it finished any task."""
        worked = False
        while (said := await child.line()) is not None:
            tally = said.get("tally", {})
            worked = worked or "done" in tally
            self.ready = self.ready or "ready" in said
            self.add_tally(tally)
            for event in said.get("events", ()):
                self._tell(event)
            if "fatal" in said:
                self._fail(FATAL_REASONS[said["fatal"]], said["message"])
            if "error" in said:
                log.error("child", error=said["error"])
        return worked

    def _tell(self, event: str) -> None:
        """What each process and each walk finds for itself, a person reads once, whatever the numbers in it."""
        if event.startswith(FOUND):
            what = "".join(letter for letter in event.partition(";")[0] if not letter.isdecimal())
            if what in self._told:
                return
            self._told.add(what)
        self._event(event)

    async def _keep_writer(self, writer: WriterProcess) -> None:
        pause = RestartPause(WRITER_RESTART_FIRST_S, RESTART_MAX_S)
        while not self._draining:
            started_s = time.monotonic()
            code = await writer.wait()
            if self._draining:
                return
            pause.lived(time.monotonic() - started_s)
            log.error("writer ended", code=code)
            self._event(f"the writer ended (code {code}) and starts again")
            await asyncio.sleep(pause.next_s())
            try:
                await writer.start()
            except OutputError as error:
                self._fail(Exit.OUTPUT, str(error))
                return
            except OSError as error:  # no process to be had: again after the next pause
                log.error("writer not started", error=str(error))

    async def drain(self, grace_s: float) -> None:
        """No child takes tasks any more; what is in flight ends within `grace_s` seconds, and is written."""
        self._draining = True
        await asyncio.gather(*(child.stop(grace_s) for child in list(self._children)))
        if self._restarters:  # they have seen their children end, or sleep before they start one again
            await asyncio.wait(self._restarters, timeout=RESTARTERS_S)
        if self._writer is not None:
            await self._end_writer(self._writer)

    async def _end_writer(self, writer: WriterProcess) -> None:
        """It ends when all is written; one that was killed meanwhile is started again to finish what waits."""
        code = await writer.stop(WRITER_GRACE_S)
        if code < 0:
            try:
                await writer.start()
                code = await writer.stop(WRITER_GRACE_S)
            except (OutputError, OSError) as error:
                self._fail(Exit.OUTPUT, str(error))
                return
        if code:
            self._fail(
                Exit.OUTPUT, f"the output could not be finished (code {code}); .scrapeq/run.log says more"
            )

    def kill(self) -> None:
        """At once."""
        for child in self._children:
            child.send_signal(signal.SIGKILL)

    async def close(self) -> None:
        """Whatever still runs ends."""
        self._draining = True
        for keeper in (*self._restarters, self._writer_restarter):
            if keeper is not None:
                keeper.cancel()
        for child in self._children:
            with contextlib.suppress(Exception):
                await child.stop(1.0)
        if self._writer is not None:
            with contextlib.suppress(Exception):
                await self._writer.stop(CLOSE_GRACE_S)
