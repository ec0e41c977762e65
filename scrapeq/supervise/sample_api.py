"""The sample API behind demo:// as a child process; it keeps its port, because the run's tasks contain it."""

from __future__ import annotations

import asyncio
import re
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from typing import TextIO
from urllib.parse import urlsplit

from scrapeq.errors import StoreError
from scrapeq.processes.child import Child, RestartBackoff
from scrapeq.queue import Queue

READY_TIMEOUT_S = 20.0
_PORT = re.compile(r"\b127\.0\.0\.1:(\d+)\b")
RESTART_FIRST_S, RESTART_MAX_S = 0.1, 10.0


class SampleApi:
    """
    The process of the sample API.

    Args:
        stderr: Where it logs; None = the parent's standard error.
        on_event: Takes a sentence for the user when the process is restarted.
    """

    def __init__(self, stderr: TextIO | None, on_event: Callable[[str], None]) -> None:
        self._stderr = stderr
        self._on_event = on_event
        self._child: Child | None = None
        self.port = 0

    async def start(self, port: int = 0) -> str:
        """
        Start the process and return the URL of the API.

        Args:
            port: The port to listen on; 0 = any free port.

        Raises:
            StoreError: the port of an unfinished run is taken, or the process does not start.
        """
        arguments = ("--exit-with-stdin", "--port", str(port))
        child = self._child = Child(
            "scrapeq.demo.__main__", args=arguments, capture_stdout=True, stderr=self._stderr
        )
        try:
            await child.start()
        except OSError as error:
            raise StoreError(f"cannot start the process of the sample API: {error.strerror}") from None
        try:
            message = await asyncio.wait_for(child.next_message(), READY_TIMEOUT_S)
        except TimeoutError:
            message = None
        if message is None or "url" not in message:
            raise StoreError(_start_failure(port))
        url = str(message["url"])
        self.port = urlsplit(url).port or 0
        return url

    async def keep_running(self) -> None:
        """Restart the process whenever it ends, on the same port."""
        backoff = RestartBackoff(RESTART_FIRST_S, RESTART_MAX_S)
        while self._child is not None:
            started_s = time.monotonic()
            code = await self._child.wait()
            backoff.record_lifetime(time.monotonic() - started_s)
            self._on_event(f"the sample API ended (code {code}); restarting it")
            await asyncio.sleep(backoff.next_s())
            with suppress(StoreError):  # it failed again: the next turn of the loop sees its end
                await self.start(self.port)

    def kill(self) -> None:
        """Send the process SIGKILL."""
        if self._child is not None:
            self._child.send_signal(signal.SIGKILL)

    async def stop(self, grace_s: float) -> None:
        """Send SIGTERM, then SIGKILL if the process still runs after `grace_s` seconds."""
        if self._child is not None:
            await self._child.stop(grace_s)


def _start_failure(port: int) -> str:
    if not port:
        return "the sample API did not start; see .scrapeq/run.log"
    return (
        f"the sample API cannot listen on port {port}, which the tasks of this unfinished run use. "
        f"If another run on this machine uses it, join that run: set client.base_url to http://127.0.0.1:{port} "
        "(API_URL in the sample file). Otherwise free the port and run again"
    )


async def forget_ports(queue: Queue, keep: int) -> None:
    """
    Forget the limits of the ports that the sample API had in earlier runs: nothing listens there any more.

    Args:
        queue: The queue of a configuration with `demo://`.
        keep: The port of the current run.
    """
    ports = {instance: _PORT.search(instance) for instance in await queue.limit_instances()}
    old = [instance for instance, port in ports.items() if port is not None and int(port[1]) != keep]
    if old:
        await queue.forget_limits(old)
