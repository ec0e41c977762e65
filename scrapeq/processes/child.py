"""
Child processes that die with their parent.

The parent spawns `python -m module`, in a session of its own so that Ctrl-C in a terminal reaches the parent
alone, and says the settings as one JSON line on standard input, which stays open. The child's first act is
`enter_child`: from then on the parent's death ends it, by the kernel's signal (Linux) and by the end of that
input (everywhere).
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import signal
import sys
import threading
from collections.abc import Sequence
from contextlib import suppress
from typing import IO, Any

import orjson

from scrapeq.backoff import exponential_s
from scrapeq.processes.fork_server import ForkServer
from scrapeq.processes.launch import PR_SET_PDEATHSIG

ORPHANED_CODE = 1
SETTINGS_MAX_BYTES = 16_000_000
LINE_MAX_BYTES = 16_000_000
STEADY_LIVES = 10  # a child that lived so many of its pauses does not crash in a loop
STEADY_S = 30.0  # nor does one that lived so long

_fork_server: ForkServer | None = None


def use_fork_server(fork_server: ForkServer | None) -> None:
    """Fork the children of this process there, from now on; None: spawn them."""
    global _fork_server
    _fork_server = fork_server


class _Forked:
    """A child of the nursery, with the face of an `asyncio.subprocess.Process`."""

    def __init__(
        self,
        fork_server: ForkServer,
        pid: int,
        stdin: asyncio.StreamWriter,
        stdout: asyncio.StreamReader | None,
    ) -> None:
        self.pid = pid
        self.stdin = stdin
        self.stdout = stdout
        self.returncode: int | None = None
        self._ended = asyncio.create_task(self._end(fork_server))

    async def _end(self, fork_server: ForkServer) -> int:
        self.returncode = await fork_server.wait(self.pid)
        self.stdin.close()
        return self.returncode

    async def wait(self) -> int:
        """Until it ends; its return code."""
        return await asyncio.shield(self._ended)

    def send_signal(self, number: int) -> None:
        """Send it a signal."""
        os.kill(self.pid, number)


async def _fork(
    fork_server: ForkServer, module: str, args: Sequence[str], *, listen: bool, stderr: int
) -> _Forked:
    """A child of the nursery. Raises OSError."""
    loop = asyncio.get_running_loop()
    with contextlib.ExitStack() as open_here:
        fds = []
        for _ in range(2 if listen else 1):
            fds += [
                os.fdopen(fd, mode, buffering=0) for fd, mode in zip(os.pipe(), ("rb", "wb"), strict=True)
            ]
        for file in fds:
            open_here.callback(file.close)
        child_in, our_end = fds[0], fds[1]
        child_out = fds[3].fileno() if listen else sys.stdout.fileno()
        pid = await fork_server.fork(module, args, (child_in.fileno(), child_out, stderr))
        kept = [our_end, *fds[2:3]]
        open_here.pop_all()
        for file in fds:
            if file not in kept:
                file.close()
    protocol = asyncio.streams.FlowControlMixin(loop=loop)
    transport, _ = await loop.connect_write_pipe(lambda: protocol, our_end)
    stdin = asyncio.StreamWriter(transport, protocol, None, loop)
    stdout = None
    if listen:
        stdout = asyncio.StreamReader(limit=LINE_MAX_BYTES)
        reading = asyncio.StreamReaderProtocol(stdout)
        await loop.connect_read_pipe(lambda: reading, fds[2])
    return _Forked(fork_server, pid, stdin, stdout)


class Child:
    """
    One child process. Start it on the main thread: on Linux a child ends with the thread that started it.

    Args:
        module: What `python -m` runs; its main calls `enter_child` first.
        settings: Anything orjson writes; the child gets it from `enter_child`.
        args: More arguments, to be seen in a process list.
        listen: Keep the child's standard output for `line()`; otherwise it is the parent's.
        stderr: Where its standard error goes (an open file); None = the parent's.
        descriptors: More that it inherits, under the same numbers; then it is spawned.
    """

    def __init__(
        self,
        module: str,
        settings: Any = None,
        *,
        args: Sequence[str] = (),
        listen: bool = False,
        stderr: IO[str] | None = None,
        descriptors: Sequence[int] = (),
    ) -> None:
        self.module = module
        self._settings = orjson.dumps(settings) + b"\n"
        self._args = tuple(args)
        self._listen = listen
        self._stderr = stderr
        self._descriptors = tuple(descriptors)
        self._process: asyncio.subprocess.Process | _Forked | None = None

    @property
    def pid(self) -> int | None:
        """Its process id, once started."""
        return self._process.pid if self._process else None

    @property
    def returncode(self) -> int | None:
        """None while it runs; negative: the signal that ended it."""
        return self._process.returncode if self._process else None

    @property
    def running(self) -> bool:
        """Started and not ended."""
        return self._process is not None and self._process.returncode is None

    async def start(self) -> None:
        """Start it. Raises OSError when the system has no process left to give."""
        if _fork_server is not None and not _fork_server.gone and not self._descriptors:
            stderr = (self._stderr or sys.stderr).fileno()
            self._process = await _fork(
                _fork_server, self.module, self._args, listen=self._listen, stderr=stderr
            )
        else:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                self.module,
                *self._args,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE if self._listen else None,
                stderr=self._stderr,
                start_new_session=True,
                pass_fds=self._descriptors,
                limit=LINE_MAX_BYTES,
            )
        assert self._process.stdin is not None
        with suppress(BrokenPipeError, ConnectionResetError):  # it ended already: the return code tells
            self._process.stdin.write(self._settings)
            await self._process.stdin.drain()

    async def line(self) -> dict[str, Any] | None:
        """The next JSON object that it says (`listen`), None at its end; a line of anything else is passed over."""
        if self._process is None or self._process.stdout is None:
            return None
        while True:
            try:
                line = await self._process.stdout.readline()
                if not line:
                    return None
                said = orjson.loads(line)
            except ValueError:  # no JSON, or longer than a line may be
                continue
            if isinstance(said, dict):
                return said

    async def wait(self) -> int:
        """Until it ends; its return code."""
        return await self._process.wait() if self._process is not None else 0

    def send_signal(self, number: int) -> None:
        """Send it a signal; nothing happens if it has ended."""
        if self.running and self._process is not None:
            with suppress(ProcessLookupError):
                self._process.send_signal(number)

    async def stop(self, grace_s: float) -> int:
        """SIGTERM, and SIGKILL when it still runs after `grace_s` seconds; its return code."""
        self.send_signal(signal.SIGTERM)
        try:
            return await asyncio.wait_for(self.wait(), grace_s)
        except TimeoutError:
            self.send_signal(signal.SIGKILL)
            return await self.wait()


class RestartPause:
    """
    How long to wait before something that died is started again: doubling while it crashes in a loop.

    What did its work, or lived for ten of the pauses due, or half a minute, was killed rather than broken: it starts
    over with the shortest one, so that a kill now and then never adds up to a long outage.

    Args:
        first_s, max_s: The shortest and the longest pause, seconds.
    """

    def __init__(self, first_s: float, max_s: float) -> None:
        self._first_s = first_s
        self._max_s = max_s
        self._restarts = 0

    def lived(self, seconds: float, *, worked: bool = False) -> None:
        """It has died, after so long a life, with work done or not."""
        if worked or seconds > min(STEADY_S, self._pause_s() * STEADY_LIVES):
            self._restarts = 0

    def next_s(self) -> float:
        """The pause now; the next one is twice as long."""
        pause_s = self._pause_s()
        self._restarts += 1
        return pause_s

    def _pause_s(self) -> float:
        return exponential_s(self._restarts + 1, self._first_s, self._max_s)


def enter_child() -> Any:
    """
    In the child, before anything else: read the settings and tie this process's life to its parent's.

    SIGINT is ignored: what a person interrupts is the parent, which then says SIGTERM.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    line = sys.stdin.buffer.readline(SETTINGS_MAX_BYTES)
    if not line.endswith(b"\n"):  # the parent died before it had said it
        os._exit(ORPHANED_CODE)
    threading.Thread(target=_end_with_input, name="parent-watch", daemon=True).start()
    return orjson.loads(line)


def runner() -> asyncio.Runner:
    """A loop to run in: uvloop's where there is one."""
    try:
        import uvloop
    except ImportError:  # not on every platform
        return asyncio.Runner()
    return asyncio.Runner(loop_factory=uvloop.new_event_loop)


def _end_with_input() -> None:
    """The input closes when the parent is gone. What was not finished is safe: the queue's leases run out."""
    while os.read(0, 1024):
        pass
    os._exit(ORPHANED_CODE)
