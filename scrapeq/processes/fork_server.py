"""
The fork server: a process that has imported everything a run's children need and forks them on request.

Five interpreters that each import the same packages cost two CPU seconds before the first request. The supervisor
forks this process before it has an event loop or a thread. The fork server stays single-threaded and forks one child
for each request on its socket. It dies with the supervisor, and its children die with it. If it is gone, children are
spawned instead.
"""

from __future__ import annotations

import asyncio
import ctypes
import errno
import gc
import importlib
import os
import signal
import socket
import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import NoReturn

import orjson
from setproctitle import setproctitle

from scrapeq.processes.launch import PR_SET_PDEATHSIG

MESSAGE_MAX_BYTES = 65_536
STANDARD_STREAMS = 3  # descriptors that travel with a request
FAILED_CODE = 1
STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class ForkServer:
    """
    The supervisor's side of the fork server.

    Args:
        link: The socket to the fork server.
        pid: The fork server's process id.
    """

    def __init__(self, link: socket.socket, pid: int) -> None:
        self.lost = False  # the fork server was killed
        self._link = link
        self._pid = pid
        self._one_fork = asyncio.Lock()
        self._forked_pid: asyncio.Future[int] | None = None
        self._exit_codes: dict[int, asyncio.Future[int]] = {}
        self._partial_line = b""
        self._reading = False

    async def fork(self, module: str, args: Sequence[str], fds: Sequence[int]) -> int:
        """
        Fork a child that runs `module.main()`, and return its process id.

        Args:
            module: Its `main` is called without arguments; the result is the exit code.
            args: Arguments for `sys.argv` and the process list.
            fds: The child's standard input, output and error.

        Raises:
            OSError: the system cannot create a process, or the fork server is gone.
        """
        loop = asyncio.get_running_loop()
        async with self._one_fork:
            if not self._reading:
                loop.add_reader(self._link, self._read)
                self._reading = True
            self._forked_pid = loop.create_future()
            try:
                socket.send_fds(self._link, [orjson.dumps([module, list(args)]) + b"\n"], list(fds))
                pid = await self._forked_pid
            finally:
                self._forked_pid = None
        if pid < 0:
            raise OSError(-pid, os.strerror(-pid))
        self._exit_codes.setdefault(pid, loop.create_future())
        return pid

    async def wait(self, pid: int) -> int:
        """Wait until a child ends and return its code; negative: the signal that ended it."""
        code = await asyncio.shield(self._exit_codes[pid])
        self._exit_codes.pop(pid, None)
        return code

    def close(self) -> None:
        """End the fork server by closing its socket. Call this after the event loop has ended."""
        self._link.close()
        with suppress(ChildProcessError):
            os.waitpid(self._pid, 0)

    def _read(self) -> None:
        data = b""
        with suppress(ConnectionResetError):
            data = self._link.recv(MESSAGE_MAX_BYTES)
        if not data:
            self._on_lost()
            return
        *lines, self._partial_line = (self._partial_line + data).split(b"\n")
        for line in lines:
            kind, pid, code = orjson.loads(line)
            if kind == "forked" and self._forked_pid is not None and not self._forked_pid.done():
                self._forked_pid.set_result(pid)
            elif kind == "exited":
                future = self._exit_codes.setdefault(pid, asyncio.get_running_loop().create_future())
                if not future.done():
                    future.set_result(code)

    def _on_lost(self) -> None:
        """The fork server was killed, and its children with it."""
        self.lost = True
        asyncio.get_running_loop().remove_reader(self._link)
        self._reading = False
        if self._forked_pid is not None and not self._forked_pid.done():
            self._forked_pid.set_result(-errno.ECONNRESET)
        for future in self._exit_codes.values():
            if not future.done():
                future.set_result(-signal.SIGKILL)


def open_fork_server(modules: Sequence[str]) -> ForkServer:
    """
    Start a fork server. Call this while this process has neither an event loop nor a second thread.

    Args:
        modules: The modules its children run; imported once, before the fork.
    """
    for module in modules:
        importlib.import_module(module)
    parent_end, server_end = socket.socketpair()
    parent = os.getpid()
    gc.collect()
    gc.freeze()  # the collector skips these objects from now on, so children keep sharing their memory
    pid = os.fork()
    if pid == 0:
        parent_end.close()
        _run_fork_server(server_end, parent)
    server_end.close()
    parent_end.setblocking(False)
    return ForkServer(parent_end, pid)


def _die_with_parent(parent: int) -> None:
    """Have the kernel kill this process when its parent ends."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:  # the parent died before the call above
        os._exit(FAILED_CODE)


def _run_fork_server(link: socket.socket, parent: int) -> NoReturn:
    """Fork children on request and report their exits, until the supervisor closes the socket."""
    try:
        os.setsid()  # Ctrl-C in a terminal reaches the supervisor only
        _die_with_parent(parent)
        # Blocked, not ignored: a child receives a pending signal once it has restored its own handlers.
        signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
        setproctitle("scrapeq: fork server")
        wakeup_read, wakeup_write = socket.socketpair()
        for end in (wakeup_read, wakeup_write):
            end.setblocking(False)
        signal.set_wakeup_fd(wakeup_write.fileno(), warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        _serve(link, wakeup_read, wakeup_write)
    finally:
        os._exit(0)


def _serve(link: socket.socket, wakeup_read: socket.socket, wakeup_write: socket.socket) -> None:
    import select

    while True:
        ready, _, _ = select.select([link, wakeup_read], [], [])
        if wakeup_read in ready:
            with suppress(BlockingIOError):
                wakeup_read.recv(MESSAGE_MAX_BYTES)
            _reap(link)
        if link in ready:
            data, fds, _, _ = socket.recv_fds(link, MESSAGE_MAX_BYTES, STANDARD_STREAMS)
            if not data:
                return
            module, args = orjson.loads(data)
            try:
                pid = os.fork()
            except OSError as error:
                pid = -(error.errno or 1)
            if pid == 0:
                for end in (link, wakeup_read, wakeup_write):
                    end.close()
                _run_child(module, args, fds)
            for fd in fds:
                os.close(fd)
            _send(link, "forked", pid, 0)


def _reap(link: socket.socket) -> None:
    """Report every child that has ended."""
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            return
        _send(link, "exited", pid, os.waitstatus_to_exitcode(status))


def _send(link: socket.socket, kind: str, pid: int, code: int) -> None:
    with suppress(BrokenPipeError, ConnectionResetError):
        link.sendall(orjson.dumps([kind, pid, code]) + b"\n")


def _run_child(module: str, args: list[str], fds: Sequence[int]) -> NoReturn:
    """In the new child: take over the standard streams and the process title, then run the module's main."""
    code = FAILED_CODE
    try:
        signal.set_wakeup_fd(-1)
        for number in (*STOP_SIGNALS, signal.SIGCHLD):
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)
        os.setsid()
        for fd, target in zip(fds, (0, 1, 2), strict=True):
            os.dup2(fd, target)
            os.close(fd)
        sys.stdin = os.fdopen(0, "r", closefd=False)
        sys.stdout = os.fdopen(1, "w", closefd=False)
        sys.stderr = os.fdopen(2, "w", buffering=1, closefd=False)
        sys.argv = [module, *args]
        setproctitle(" ".join((sys.executable, "-m", module, *args)))
        code = int(importlib.import_module(module).main() or 0)
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else FAILED_CODE
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        with suppress(Exception):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)
