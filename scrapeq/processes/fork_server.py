"""
Where the children of a run are forked from: a process that has imported what they need, once for all of them.

Five interpreters that each import the same packages cost two CPU seconds before the first request. The nursery is
forked before the supervisor has a loop or a thread, stays single-threaded, and forks a child for each request on its
socket. It dies with the supervisor, and its children with it. Where it cannot be had, children are spawned.
"""

from __future__ import annotations

import asyncio
import ctypes
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
FAILED_CODE = 1
ENDING = (signal.SIGINT, signal.SIGTERM)


class ForkServer:
    """
    The supervisor's end.

    Args:
        link: The socket to the process.
        pid: The process.
    """

    def __init__(self, link: socket.socket, pid: int) -> None:
        self._link = link
        self._pid = pid
        self._turn = asyncio.Lock()
        self._born: asyncio.Future[int] | None = None
        self._ends: dict[int, asyncio.Future[int]] = {}
        self._rest = b""
        self._listening = False
        self.gone = False

    async def fork(self, module: str, args: Sequence[str], fds: Sequence[int]) -> int:
        """
        A new child that runs `module.main()`; its process id.

        Args:
            module: Its `main` is called without arguments, and its result is the exit code.
            args: To be seen in `sys.argv` and in a process list.
            fds: Its standard input, output and error.

        Raises:
            OSError: no process is left to give, or the nursery has gone.
        """
        loop = asyncio.get_running_loop()
        async with self._turn:
            if not self._listening:
                loop.add_reader(self._link, self._read)
                self._listening = True
            self._born = loop.create_future()
            try:
                socket.send_fds(self._link, [orjson.dumps([module, list(args)]) + b"\n"], list(fds))
                pid = await self._born
            finally:
                self._born = None
        if pid < 0:
            raise OSError(-pid, os.strerror(-pid))
        self._ends.setdefault(pid, loop.create_future())
        return pid

    async def wait(self, pid: int) -> int:
        """Until it ends; its return code, negative: the signal that ended it."""
        code = await asyncio.shield(self._ends[pid])
        self._ends.pop(pid, None)
        return code

    def close(self) -> None:
        """Let it go, once the loop has ended: it ends when the socket does."""
        self._link.close()
        with suppress(ChildProcessError):
            os.waitpid(self._pid, 0)

    def _read(self) -> None:
        data = b""
        with suppress(ConnectionResetError):
            data = self._link.recv(MESSAGE_MAX_BYTES)
        if not data:
            self._lost()
            return
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            kind, number, code = orjson.loads(line)
            if kind == "born" and self._born is not None and not self._born.done():
                self._born.set_result(number)
            elif kind == "ended":
                end = self._ends.setdefault(number, asyncio.get_running_loop().create_future())
                if not end.done():
                    end.set_result(code)

    def _lost(self) -> None:
        """It was killed, and its children with it."""
        self.gone = True
        asyncio.get_running_loop().remove_reader(self._link)
        self._listening = False
        if self._born is not None and not self._born.done():
            self._born.set_result(-1)
        for end in self._ends.values():
            if not end.done():
                end.set_result(-signal.SIGKILL)


def open_fork_server(modules: Sequence[str]) -> ForkServer:
    """
    Fork it. To be called while this process has neither a loop nor a thread of its own.

    Args:
        modules: What its children run; imported before the fork.
    """
    for module in modules:
        importlib.import_module(module)
    ours, theirs = socket.socketpair()
    parent = os.getpid()
    gc.collect()
    gc.freeze()  # what is there already is never looked at again, so that children share its memory
    pid = os.fork()
    if pid == 0:
        ours.close()
        _tend(theirs, parent)
    theirs.close()
    ours.setblocking(False)
    return ForkServer(ours, pid)


def _tie_to(parent: int) -> None:
    """The kernel ends us when our parent ends."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:  # it died before the kernel was asked
        os._exit(FAILED_CODE)


def _tend(link: socket.socket, parent: int) -> NoReturn:
    """The nursery's life: fork what is asked for, tell of what ends."""
    try:
        os.setsid()  # Ctrl-C in a terminal reaches the supervisor alone
        _tie_to(parent)
        # Held back, not ignored: what reaches a child before it has become itself is delivered then.
        signal.pthread_sigmask(signal.SIG_BLOCK, ENDING)
        setproctitle("scrapeq: fork server")
        woken, wake = socket.socketpair()
        for end in (woken, wake):
            end.setblocking(False)
        signal.set_wakeup_fd(wake.fileno(), warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        _serve(link, woken, wake)
    finally:
        os._exit(0)


def _serve(link: socket.socket, woken: socket.socket, wake: socket.socket) -> None:
    import select

    while True:
        ready, _, _ = select.select([link, woken], [], [])
        if woken in ready:
            with suppress(BlockingIOError):
                woken.recv(MESSAGE_MAX_BYTES)
            _reap(link)
        if link in ready:
            data, fds, _, _ = socket.recv_fds(link, MESSAGE_MAX_BYTES, 3)
            if not data:
                return
            module, args = orjson.loads(data)
            try:
                pid = os.fork()
            except OSError as error:
                pid = -(error.errno or 1)
            if pid == 0:
                for end in (link, woken, wake):
                    end.close()
                _live(module, args, fds)
            for fd in fds:
                os.close(fd)
            _say(link, "born", pid, 0)


def _reap(link: socket.socket) -> None:
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            return
        _say(link, "ended", pid, os.waitstatus_to_exitcode(status))


def _say(link: socket.socket, kind: str, number: int, code: int) -> None:
    with suppress(BrokenPipeError, ConnectionResetError):
        link.sendall(orjson.dumps([kind, number, code]) + b"\n")


def _live(module: str, args: list[str], fds: Sequence[int]) -> NoReturn:
    """In the child: become what was asked for."""
    code = FAILED_CODE
    try:
        signal.set_wakeup_fd(-1)
        for number in (*ENDING, signal.SIGCHLD):
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, ENDING)
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
