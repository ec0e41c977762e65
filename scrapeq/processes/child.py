"""
Child processes that die with their parent.

The parent spawns `python -m module` in a session of its own, so that Ctrl-C in a terminal reaches the parent only. It
writes the settings as one JSON line to the child's standard input and keeps that input open. The child calls
`enter_child` first: from then on the parent's death ends the child, through the kernel's signal (Linux) and through
the end of that input (everywhere).
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
INPUT_CHUNK_BYTES = 65_536
STABLE_LIFETIME_PAUSES = 10  # a child that outlived this many of its pauses is not in a crash loop
STABLE_LIFETIME_S = 30.0  # nor is a child that lived this long

_fork_server: ForkServer | None = None
_may_begin = threading.Event()  # in a child


def use_fork_server(fork_server: ForkServer | None) -> None:
    """From now on, fork the children of this process from `fork_server`; None: spawn them."""
    global _fork_server
    _fork_server = fork_server


class _ForkedProcess:
    """A child of the fork server, with the interface of `asyncio.subprocess.Process`."""

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
        self._exit = asyncio.create_task(self._wait_for_exit(fork_server))

    async def _wait_for_exit(self, fork_server: ForkServer) -> int:
        self.returncode = await fork_server.wait(self.pid)
        self.stdin.close()
        return self.returncode

    async def wait(self) -> int:
        """Wait until the process ends and return its code."""
        return await asyncio.shield(self._exit)

    def send_signal(self, number: int) -> None:
        """Send the process a signal."""
        os.kill(self.pid, number)


async def _fork(
    fork_server: ForkServer, module: str, args: Sequence[str], *, capture_stdout: bool, stderr: int
) -> _ForkedProcess:
    """Fork a child from the fork server. Raises OSError."""
    loop = asyncio.get_running_loop()
    with contextlib.ExitStack() as open_pipes:
        ends = []
        for _ in range(2 if capture_stdout else 1):
            ends += [
                os.fdopen(fd, mode, buffering=0) for fd, mode in zip(os.pipe(), ("rb", "wb"), strict=True)
            ]
        for end in ends:
            open_pipes.callback(end.close)
        child_stdin, stdin_writer = ends[0], ends[1]
        child_stdout = ends[3].fileno() if capture_stdout else sys.stdout.fileno()
        pid = await fork_server.fork(module, args, (child_stdin.fileno(), child_stdout, stderr))
        parent_ends = [stdin_writer, *ends[2:3]]
        open_pipes.pop_all()
        for end in ends:
            if end not in parent_ends:
                end.close()
    protocol = asyncio.streams.FlowControlMixin(loop=loop)
    transport, _ = await loop.connect_write_pipe(lambda: protocol, stdin_writer)
    stdin = asyncio.StreamWriter(transport, protocol, None, loop)
    stdout = None
    if capture_stdout:
        stdout = asyncio.StreamReader(limit=LINE_MAX_BYTES)
        reader_protocol = asyncio.StreamReaderProtocol(stdout)
        await loop.connect_read_pipe(lambda: reader_protocol, ends[2])
    return _ForkedProcess(fork_server, pid, stdin, stdout)


class Child:
    """
    One child process. Start it on the main thread: on Linux a child ends with the thread that started it.

    Args:
        module: The module that `python -m` runs; its main calls `enter_child` first.
        settings: Anything orjson can serialize; `enter_child` returns it in the child.
        args: More arguments, visible in a process list.
        capture_stdout: Read the child's standard output with `next_message`; otherwise it is the parent's.
        stderr: An open file for the child's standard error; None = the parent's.
        descriptors: File descriptors to inherit under the same numbers. Such a child is always spawned.
    """

    def __init__(
        self,
        module: str,
        settings: Any = None,
        *,
        args: Sequence[str] = (),
        capture_stdout: bool = False,
        stderr: IO[str] | None = None,
        descriptors: Sequence[int] = (),
    ) -> None:
        self.module = module
        self._settings = orjson.dumps(settings) + b"\n"
        self._args = tuple(args)
        self._capture_stdout = capture_stdout
        self._stderr = stderr
        self._descriptors = tuple(descriptors)
        self._process: asyncio.subprocess.Process | _ForkedProcess | None = None

    @property
    def pid(self) -> int | None:
        """The process id; None before the start."""
        return self._process.pid if self._process else None

    @property
    def returncode(self) -> int | None:
        """The exit code; negative: the signal that ended the child; None while it runs."""
        return self._process.returncode if self._process else None

    @property
    def running(self) -> bool:
        """Whether the child has started and not ended."""
        return self._process is not None and self._process.returncode is None

    async def start(self) -> None:
        """Start the child. Raises OSError when the system cannot create a process."""
        if _fork_server is not None and not _fork_server.lost and not self._descriptors:
            stderr = (self._stderr or sys.stderr).fileno()
            self._process = await _fork(
                _fork_server, self.module, self._args, capture_stdout=self._capture_stdout, stderr=stderr
            )
        else:
            self._process = await self._spawn()
        assert self._process.stdin is not None
        if self._process.stdin.is_closing():  # the child has ended; its return code says why
            return
        with suppress(BrokenPipeError, ConnectionResetError):
            self._process.stdin.write(self._settings)
            await self._process.stdin.drain()

    async def _spawn(self) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            self.module,
            *self._args,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE if self._capture_stdout else None,
            stderr=self._stderr,
            start_new_session=True,
            pass_fds=self._descriptors,
            limit=LINE_MAX_BYTES,
        )

    async def next_message(self) -> dict[str, Any] | None:
        """
        Return the next JSON object from the child's standard output, or None at its end.

        Lines that are not JSON objects are skipped: a library or a user's hook may print anything.
        """
        if self._process is None or self._process.stdout is None:
            return None
        while True:
            try:
                line = await self._process.stdout.readline()
                if not line:
                    return None
                message = orjson.loads(line)
            except ValueError:  # not JSON, or longer than LINE_MAX_BYTES
                continue
            if isinstance(message, dict):
                return message

    async def wait(self) -> int:
        """Wait until the child ends and return its code."""
        return await self._process.wait() if self._process is not None else 0

    def let_begin(self) -> None:
        """End the child's `wait_for_parent`."""
        if self.running and self._process is not None and self._process.stdin is not None:
            self._process.stdin.write(b"\n")

    def send_signal(self, number: int) -> None:
        """Send the child a signal; do nothing if it has ended."""
        if self.running and self._process is not None:
            with suppress(ProcessLookupError):
                self._process.send_signal(number)

    async def stop(self, grace_s: float) -> int:
        """Send SIGTERM, then SIGKILL if the child still runs after `grace_s` seconds. Return its code."""
        self.send_signal(signal.SIGTERM)
        try:
            return await asyncio.wait_for(self.wait(), grace_s)
        except TimeoutError:
            self.send_signal(signal.SIGKILL)
            return await self.wait()


class RestartBackoff:
    """
    The pauses before a process that died is restarted; they double while it crashes in a loop.

    A process that did work, or lived for ten of the current pauses, or for half a minute, was killed rather than
    broken. Its next pause is the shortest one again, so occasional kills never add up to a long outage.

    Args:
        first_s, max_s: The shortest and the longest pause, seconds.
    """

    def __init__(self, first_s: float, max_s: float) -> None:
        self._first_s = first_s
        self._max_s = max_s
        self._restarts = 0

    def record_lifetime(self, seconds: float, *, did_work: bool = False) -> None:
        """Note how long the process lived before it died, and whether it did any work."""
        if did_work or seconds > min(STABLE_LIFETIME_S, self._pause_s() * STABLE_LIFETIME_PAUSES):
            self._restarts = 0

    def next_s(self) -> float:
        """Return the pause before this restart (seconds) and double the next one."""
        pause_s = self._pause_s()
        self._restarts += 1
        return pause_s

    def _pause_s(self) -> float:
        return exponential_s(self._restarts + 1, self._first_s, self._max_s)


def enter_child() -> Any:
    """
    Read the settings and tie this process's life to its parent's. A child calls this before anything else.

    The child ignores SIGINT: a user interrupts the parent, which then sends SIGTERM.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    line, newline, rest = _read_line()
    if not newline:  # the parent died before it had sent all of it
        os._exit(ORPHANED_CODE)
    if rest:
        _may_begin.set()
    threading.Thread(target=_exit_at_end_of_input, name="parent-watch", daemon=True).start()
    return orjson.loads(line)


def _read_line() -> tuple[bytes, bytes, bytes]:
    """Read the first line of the input without a buffer; return it, its end, and what was read after it."""
    read = bytearray()
    while b"\n" not in read and len(read) < SETTINGS_MAX_BYTES:
        chunk = os.read(0, INPUT_CHUNK_BYTES)
        if not chunk:
            break
        read += chunk
    line, newline, rest = bytes(read).partition(b"\n")
    return line, newline, rest


async def wait_for_parent() -> None:
    """Wait until the parent calls `Child.let_begin`. A child calls this after `enter_child`."""
    await asyncio.to_thread(_may_begin.wait)


def event_loop_runner() -> asyncio.Runner:
    """Return a runner for an event loop, uvloop's where it is installed."""
    try:
        import uvloop
    except ImportError:  # uvloop does not support every platform
        return asyncio.Runner()
    return asyncio.Runner(loop_factory=uvloop.new_event_loop)


def _exit_at_end_of_input() -> None:
    """End this process when its parent is gone. Unfinished tasks are safe: their leases in the queue expire."""
    while os.read(0, INPUT_CHUNK_BYTES):
        _may_begin.set()
    os._exit(ORPHANED_CODE)
