"""Starts and stops the servers and the measured run, each with a time limit."""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any

from benchmarks.foreign_figures import environment

START_S = 20.0
STOP_S = 15.0
DRAIN_S = 40.0
TICK_S = 0.05


class Server:
    """A third-party server: its port, and the log of its requests."""

    def __init__(self, port: int, stdin: IO[bytes], log: Path) -> None:
        self.port, self._stdin, self._log = port, stdin, log

    def change(self, limit: int) -> None:
        """Replace the limit by an unused one."""
        self._stdin.write(json.dumps({"limit": limit}).encode() + b"\n")
        self._stdin.flush()

    def was_requested(self) -> bool:
        """Return whether the server has received a request."""
        return self._log.exists() and self._log.stat().st_size > 0

    def log(self) -> list[dict[str, Any]]:
        """Return its requests in the order of their decisions."""
        with self._log.open() as file:
            return sorted(
                (json.loads(line) for line in file), key=lambda was_requested: was_requested["decided_s"]
            )


@contextlib.contextmanager
def server(kind: str, name: str, options: Mapping[str, Any], log: Path) -> Iterator[Server]:
    """Run a server; closing its stdin ends it, else it is killed."""
    arguments = [name, "--log", str(log)]
    for option, value in options.items():
        if value is True:
            arguments.append(f"--{option}")
        elif value is not False:
            arguments += [f"--{option}", str(value)]
    with subprocess.Popen(
        [*environment.command(kind), *arguments],
        env={**os.environ, **environment.variables(kind)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdin is not None and process.stdout is not None
        try:
            yield Server(_port(process), process.stdin, log)
        finally:
            with contextlib.suppress(BrokenPipeError):
                process.stdin.close()
            try:
                process.wait(STOP_S)
            except subprocess.TimeoutExpired:
                process.kill()


def _port(process: subprocess.Popen[bytes]) -> int:
    assert process.stdout is not None
    with selectors.DefaultSelector() as ready:
        ready.register(process.stdout, selectors.EVENT_READ)
        if not ready.select(START_S):
            raise environment.MissingError(f"the server did not start within {START_S:g} s")
    line = process.stdout.readline()
    if not line:
        raise environment.MissingError(f"the server exited with code {process.wait(STOP_S)}")
    return int(json.loads(line)["port"])


class Run:
    """`scrapeq run` in a folder."""

    def __init__(self, folder: Path) -> None:
        with (folder / "events").open("w") as events:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "scrapeq", "run", "quota.yaml", "--progress", "lines"],
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=events,
                stderr=events,
                start_new_session=True,
            )

    def wait(self, until_s: float) -> bool:
        """Return whether it ended by itself before this time of the monotonic clock."""
        try:
            self._process.wait(max(0.0, until_s - time.monotonic()))
        except subprocess.TimeoutExpired:
            return False
        return True

    def stop(self) -> int:
        """Let it drain and return its exit code; kill all its processes if it does not."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            if not self.wait(time.monotonic() + DRAIN_S):
                os.killpg(self._process.pid, signal.SIGKILL)
        return self._process.wait()


def first_request(server: Server, run: Run, wait_s: float) -> float | None:
    """Return when the first response arrived, on the monotonic clock; None: there was none."""
    ends_s = time.monotonic() + wait_s
    while time.monotonic() < ends_s:
        if server.was_requested():
            return time.monotonic()
        if run.wait(time.monotonic() + TICK_S):
            return time.monotonic() if server.was_requested() else None
    return None
