"""A group of child processes that are restarted whenever they end, with growing pauses, until the group is drained."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import time
from collections.abc import Callable
from typing import Any, TextIO

import structlog

from scrapeq.processes.child import Child, RestartBackoff

log = structlog.get_logger("scrapeq.processes")

RESTART_FIRST_S, RESTART_MAX_S = 0.25, 30.0
RESTART_TASKS_S = 1.0  # for the restart tasks to see that their children have ended
CLOSE_GRACE_S = 1.0

OnMessage = Callable[[dict[str, Any]], bool]
"""Handles one JSON object that a child printed; returns whether it reports finished work."""


class ProcessGroup:
    """
    The children of one parent, each under a name.

    Args:
        on_message: Handles what a child reports. A child that reported finished work is restarted after the
            shortest pause.
        on_event: Takes a sentence for the user when a child has ended or cannot be started.
        may_restart: Whether children may still be started; called before every start.
        log_file: Where children log; None = the parent's standard error.
    """

    def __init__(
        self,
        on_message: OnMessage,
        on_event: Callable[[str], None],
        may_restart: Callable[[], bool],
        log_file: TextIO | None,
    ) -> None:
        self._on_message = on_message
        self._on_event = on_event
        self._may_restart = may_restart
        self._log_file = log_file
        self._draining = False
        self._children: list[Child] = []
        self._restart_tasks: list[asyncio.Task[None]] = []

    @property
    def running(self) -> int:
        """The number of children that run."""
        return sum(1 for child in self._children if child.running)

    def keep_running(
        self, name: str, module: str, settings: dict[str, Any], *, after: asyncio.Event | None = None
    ) -> None:
        """
        Start a child in the background and restart it whenever it ends.

        Args:
            name: Its name in events.
            module: The module that it runs.
            settings: Its settings.
            after: When this is set, `wait_for_parent` ends in the child.
        """
        task = asyncio.create_task(self._keep_running(name, module, settings, after))
        task.add_done_callback(_log_failure)
        self._restart_tasks.append(task)

    async def drain(self, grace_s: float) -> None:
        """Stop all children: SIGTERM, then SIGKILL after `grace_s` seconds. None is restarted."""
        self._draining = True
        await asyncio.gather(*(child.stop(grace_s) for child in list(self._children)))
        if self._restart_tasks:  # each ends now, or sleeps before a restart that will not happen
            await asyncio.wait(self._restart_tasks, timeout=RESTART_TASKS_S)

    def kill(self) -> None:
        """Send SIGKILL to all children."""
        for child in self._children:
            child.send_signal(signal.SIGKILL)

    async def close(self) -> None:
        """Cancel the restarts and stop whatever still runs."""
        self._draining = True
        for task in self._restart_tasks:
            task.cancel()
        for child in self._children:
            with contextlib.suppress(Exception):
                await child.stop(CLOSE_GRACE_S)

    @property
    def _restarts(self) -> bool:
        return not self._draining and self._may_restart()

    async def _keep_running(
        self, name: str, module: str, settings: dict[str, Any], after: asyncio.Event | None
    ) -> None:
        backoff = RestartBackoff(RESTART_FIRST_S, RESTART_MAX_S)
        while self._restarts:
            child = Child(module, settings, capture_stdout=True, stderr=self._log_file)
            started_s = time.monotonic()
            try:
                await child.start()
            except OSError as error:
                pause_s = backoff.next_s()
                log.warning("child not started", child=name, error=str(error))
                self._on_event(f"{name} cannot be started ({error.strerror}); next try in {pause_s:g} s")
                await asyncio.sleep(pause_s)
                continue
            if after is None:
                did_work, code = await self._run_to_end(child)
            else:
                beginning = asyncio.create_task(_let_begin(child, after))
                did_work, code = await self._run_to_end(child)
                beginning.cancel()
            if not self._restarts:
                return
            backoff.record_lifetime(time.monotonic() - started_s, did_work=did_work)
            pause_s = backoff.next_s()
            log.warning("child ended", child=name, code=code)
            see = f"; see {self._log_file.name}" if code > 0 and self._log_file else ""
            self._on_event(f"{name} ended (code {code}); restarting in {pause_s:g} s{see}")
            await asyncio.sleep(pause_s)

    async def _run_to_end(self, child: Child) -> tuple[bool, int]:
        """Handle a started child's messages until it ends; return whether it did any work, and its code."""
        self._children.append(child)
        if self._draining:  # the child was starting while the others received their signal
            child.send_signal(signal.SIGTERM)
        did_work = False
        try:
            while (message := await child.next_message()) is not None:
                did_work = self._on_message(message) or did_work
            return did_work, await child.wait()
        finally:
            self._children.remove(child)


async def _let_begin(child: Child, after: asyncio.Event) -> None:
    await after.wait()
    child.let_begin()


def _log_failure(task: asyncio.Task[None]) -> None:
    """Log an unexpected error, which would otherwise stop the restarts of a child silently."""
    if not task.cancelled() and (error := task.exception()) is not None:
        log.error("restarts of a child stopped", exc_info=error)
