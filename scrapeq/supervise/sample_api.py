"""The sample API behind demo://, a child of the run whose tasks hold its port."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from typing import TextIO
from urllib.parse import urlsplit

from scrapeq.errors import StoreError
from scrapeq.processes.child import Child, RestartPause

READY_S = 20.0
RESTART_FIRST_S, RESTART_MAX_S = 0.1, 10.0


class SampleApi:
    """
    Args:
        stderr: Where it logs.
        tell: Told when it is started again.
    """

    def __init__(self, stderr: TextIO | None, tell: Callable[[str], None]) -> None:
        self._stderr = stderr
        self._tell = tell
        self._child: Child | None = None
        self.port = 0

    async def start(self, port: int = 0) -> str:
        """
        Start it on a port (0: any) and give its URL.

        Raises:
            StoreError: the port of an unfinished run is taken, or it does not start at all.
        """
        arguments = ("--exit-with-stdin", "--port", str(port))
        child = self._child = Child("scrapeq.demo.__main__", args=arguments, listen=True, stderr=self._stderr)
        try:
            await child.start()
        except OSError as error:
            raise StoreError(f"the sample API cannot be started: {error.strerror}") from None
        try:
            said = await asyncio.wait_for(child.line(), READY_S)
        except TimeoutError:
            said = None
        if said is None or "url" not in said:
            raise StoreError(
                f"the sample API of this unfinished run cannot listen on port {port} again: if another run goes on "
                f"here, join that with API_URL=http://127.0.0.1:{port}, else free the port"
                if port
                else "the sample API does not start; see .scrapeq/run.log"
            )
        url = str(said["url"])
        self.port = urlsplit(url).port or 0
        return url

    async def keep(self) -> None:
        """Start it again whenever it dies, on its port: the tasks hold it."""
        pause = RestartPause(RESTART_FIRST_S, RESTART_MAX_S)
        while self._child is not None:
            started_s = time.monotonic()
            code = await self._child.wait()
            pause.lived(time.monotonic() - started_s)
            self._tell(f"the sample API ended (code {code}) and starts again")
            await asyncio.sleep(pause.next_s())
            with suppress(StoreError):  # it has ended again, then
                await self.start(self.port)

    def kill(self) -> None:
        """At once."""
        if self._child is not None:
            self._child.send_signal(signal.SIGKILL)

    async def stop(self, grace_s: float) -> None:
        """SIGTERM, and SIGKILL after `grace_s` seconds."""
        if self._child is not None:
            await self._child.stop(grace_s)
