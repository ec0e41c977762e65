"""
The embedded store: a Redis or Valkey server of our own on a private Unix socket, for one data folder.

In the folder: `lock` (held while a server is wanted; says who and which socket), `store/` (the append-only
file, the stamp `engine.json`, `server.lock`, which the server itself holds while it lives) and `store.log`.
"""

from __future__ import annotations

import asyncio
import fcntl
import logging
import os
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, Literal

import orjson

from scrapeq import plan
from scrapeq.errors import StoreBusy, StoreError
from scrapeq.processes import launch
from scrapeq.processes.runtime_folder import runtime_folder
from scrapeq.store.server_binary import ServerBinary, check_stamp, find_server, write_stamp

Durability = Literal["fast", "normal", "strict"]

LAUNCH_MODE = "exec" if sys.platform == "linux" else "watch"  # see launch.py
APPENDFSYNC = {"fast": "no", "normal": "everysec", "strict": "always"}
START_TIMEOUT_S = 20.0  # to answer at all; loading the data may take longer
LOAD_TIMEOUT_S = 600.0
SHUTDOWN_TIMEOUT_S = 2.0  # after the command; then comes the signal
STOP_TIMEOUT_S = 10.0  # after SIGTERM; then it is killed
SAY_TIMEOUT_S = 2.0
LEFTOVER_TIMEOUT_S = 5.0  # for the server of a killed run to end
VISIT_TIMEOUT_S = 5.0  # for another command that holds the store for a moment
POLL_S = 0.004
LOG_MAX_BYTES = 8_000_000
LOAD_MARKS = ("append only file", "AOF", "RDB")  # in the server's last words when its data does not load


class EmbeddedStore:
    """
    The server of one data folder.

    Start it on the main thread: on Linux the server ends with the thread that started it.

    Args:
        folder: The data folder (`.scrapeq/...`), made if it is missing.
        server: Path to a server binary; empty = found (`find_server`).
        durability: fast (the system writes when it likes), normal (each second), strict (each write).
        visit: Held for a moment by a command that is no run; others wait for it instead of giving up.
    """

    def __init__(
        self,
        folder: Path,
        *,
        server: str = "",
        durability: Durability = "normal",
        visit: bool = False,
        log: logging.Logger | None = None,
    ) -> None:
        self.folder = folder.absolute()
        self.log_file = self.folder / "store.log"
        self._data = self.folder / "store"
        self._server = server
        self._durability = durability
        self._visit = visit
        self._log = log or logging.getLogger("scrapeq.store")
        self._lock: int | None = None
        self._binary: ServerBinary | None = None
        self._process: asyncio.subprocess.Process | None = None
        self._socket = Path()
        self.loading = False  # the server runs and reads its data: worth waiting for

    @property
    def pid(self) -> int | None:
        """The server's process id (its launcher's except on Linux); None when not running."""
        running = self._process is not None and self._process.returncode is None
        return self._process.pid if running and self._process else None

    async def start(self) -> str:
        """
        Take the folder, start the server, wait until its data is loaded.

        Returns:
            Its URL, `unix:///…/s.sock`.

        Raises:
            StoreBusy: another run holds the folder.
            StoreError: no server, no access, or data that does not load.
        """
        await self._acquire()
        try:
            self._binary = await asyncio.to_thread(find_server, self._server)
            check_stamp(self._data, self._binary)
            await self._launch()
        except BaseException:
            await self.stop()
            raise
        return f"unix://{self._socket}"

    async def restart(self) -> None:
        """Start the server again after it died, on the same socket. Raises StoreError as `start` does."""
        if self._lock is None or self._binary is None:
            raise StoreError("the embedded store was not started")
        await self._end_server()
        await self._launch()

    async def wait(self) -> int:
        """Until the server ends, by itself or by `stop`; its return code (negative: the signal)."""
        return await self._process.wait() if self._process is not None else 0

    async def stop(self) -> None:
        """End the server after it has written its data, and leave the folder to others. May be repeated."""
        await self._end_server()
        if self._lock is not None:
            with suppress(OSError):
                self._socket.unlink(missing_ok=True)
                os.ftruncate(self._lock, 0)
                self._socket.parent.rmdir()  # refused while another socket is in it
            os.close(self._lock)
            self._lock = None

    async def _acquire(self) -> None:
        """Take the folder's lock and say in it who we are."""
        try:
            self._data.mkdir(mode=0o700, parents=True, exist_ok=True)  # tasks may hold what is private
            lock = os.open(self.folder / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise _unwritable(self.folder, error) from None
        until = time.monotonic() + VISIT_TIMEOUT_S
        while not _locked(lock):
            holder = read_lock(self.folder)
            if time.monotonic() >= until or (holder and not holder.get("visit")):
                os.close(lock)
                who = f"process {holder['pid']}" if holder.get("pid") else "another process"
                raise StoreBusy(
                    f"{self.folder}: another run ({who}) holds this data folder; stop it first, "
                    "or set redis.url (--redis URL) to a server that both may share"
                )
            await asyncio.sleep(POLL_S)
        self._lock = lock
        try:
            self._socket = runtime_folder(self.folder) / "s.sock"
            said = {"pid": os.getpid(), "socket": str(self._socket), "visit": self._visit}
            os.ftruncate(lock, 0)
            os.pwrite(lock, orjson.dumps(said), 0)
        except OSError as error:
            await self.stop()
            raise _unwritable(self.folder, error) from None
        except StoreError:
            await self.stop()
            raise

    async def _launch(self) -> None:
        """Start the server under its own lock and wait for PONG."""
        assert self._binary is not None
        try:
            held = os.open(self._data / "server.lock", os.O_RDWR | os.O_CREAT, 0o600)
            try:
                await self._outlive_leftover(held)
                self._socket.unlink(missing_ok=True)
                if not (self._data / "engine.json").exists():
                    write_stamp(self._data, self._binary)  # before there is data without one
                log_start = self._open_log()
                self._process = await self._spawn(held)
            finally:
                os.close(held)  # the server has its own copy: the lock is free when it is dead
        except OSError as error:
            raise _unwritable(self.folder, error) from None
        try:
            await self._answer(log_start)
        finally:
            self.loading = False
        write_stamp(self._data, self._binary)

    async def _spawn(self, held: int) -> asyncio.subprocess.Process:
        assert self._binary is not None
        # fmt: off
        settings = [
            "--port", "0", "--unixsocket", str(self._socket), "--unixsocketperm", "700",
            "--daemonize", "no", "--dir", str(self._data), "--logfile", str(self.log_file),
            "--appendonly", "yes", "--appendfsync", APPENDFSYNC[self._durability],
            "--no-appendfsync-on-rewrite", "no", "--aof-load-truncated", "yes", "--save", "",
            "--maxmemory-policy", "noeviction", "--databases", "1",
        ]
        # fmt: on
        launcher = str(Path(launch.__file__))
        command = [sys.executable, "-I", "-S", launcher, LAUNCH_MODE, str(os.getpid()), str(held)]
        return await asyncio.create_subprocess_exec(
            *command,
            str(self._binary.path),
            *settings,
            stdin=asyncio.subprocess.DEVNULL if LAUNCH_MODE == "exec" else asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.DEVNULL,
            env={"LC_ALL": "C", "PATH": os.environ.get("PATH", os.defpath)},  # no secrets of ours
            pass_fds=(held,),
            start_new_session=True,  # Ctrl-C is for the supervisor
            cwd=self._data,
        )

    def _open_log(self) -> int:
        """Where the next lines of the log begin (bytes); a long log is put aside first."""
        size = self.log_file.stat().st_size if self.log_file.exists() else 0
        if size <= LOG_MAX_BYTES:
            return size
        self.log_file.replace(self.log_file.with_suffix(".log.1"))
        return 0

    async def _outlive_leftover(self, held: int) -> None:
        """Wait until the server of an earlier run is dead; ask it to end if it lingers."""
        for ask in (True, False):
            until = time.monotonic() + LEFTOVER_TIMEOUT_S / 2
            while not _locked(held):
                if time.monotonic() >= until:
                    break
                await asyncio.sleep(POLL_S)
            else:
                return
            if ask:
                self._log.warning(
                    "%s: the server of an earlier run still lives; it is asked to end", self.folder
                )
                await _say(self._socket, b"SHUTDOWN NOSAVE\r\n")
        raise StoreError(
            f"{self.folder}: the server of an earlier run still holds the data and does not end; "
            f"end it (`fuser {self._data / 'server.lock'}` names it) and run again"
        )

    async def _answer(self, log_start: int) -> None:
        """Until the server answers PONG; its early end is explained from its log."""
        process = self._process
        assert process is not None
        started = time.monotonic()
        told = False
        while process.returncode is None:
            said = await _say(self._socket, b"PING\r\n")
            waited_s = time.monotonic() - started
            if said.startswith(b"+PONG"):
                return
            self.loading = said.startswith(b"-LOADING")
            if self.loading:
                if not told and waited_s > 1.0:
                    told = True
                    self._log.info("%s: the store loads its data", self.folder)
            elif said:
                raise StoreError(f"{self.folder}: the store answers {said.decode(errors='replace').strip()}")
            if waited_s > (LOAD_TIMEOUT_S if said else START_TIMEOUT_S):
                raise StoreError(
                    f"{self.folder}: the store does not answer after {waited_s:.0f} s; see {self.log_file}"
                )
            await asyncio.sleep(POLL_S)
        raise self._explain(log_start)

    def _explain(self, log_start: int) -> StoreError:
        """Why the server ended: its last words, and what to do."""
        with suppress(OSError), self.log_file.open("rb") as file:
            file.seek(log_start)
            lines = [line for line in file.read().decode(errors="replace").splitlines() if line.strip()]
            words = [line.partition(" # ")[2] for line in lines if " # " in line]
            last = words[-1] if words else (lines[-1] if lines else "it said nothing")
            cause = next((word for word in words if any(mark in word for mark in LOAD_MARKS)), "")
            if cause:
                return StoreError(
                    f"{self._data}: the data does not load: {cause}\n"
                    f"  see {self.log_file}; repair it with `valkey-check-aof` or `redis-check-aof` "
                    "(--fix, on a copy), or move the folder away to begin anew"
                )
            return StoreError(f"{self.folder}: the store ended at its start: {last}\n  see {self.log_file}")
        code = self._process.returncode if self._process else None
        return StoreError(
            f"{self.folder}: the store ended at its start (code {code}); there is no {self.log_file}"
        )

    async def _end_server(self) -> None:
        process = self._process
        if process is None or process.returncode is not None:
            return
        await _say(self._socket, b"SHUTDOWN NOSAVE\r\n")  # no snapshot: the append-only file is what is kept
        try:
            await asyncio.wait_for(process.wait(), SHUTDOWN_TIMEOUT_S)
            return
        except TimeoutError:
            with suppress(ProcessLookupError):
                process.terminate()
        try:
            await asyncio.wait_for(process.wait(), STOP_TIMEOUT_S)
        except TimeoutError:
            self._log.warning(
                "%s: the store does not end within %.0f s and is killed", self.folder, STOP_TIMEOUT_S
            )
            with suppress(ProcessLookupError):
                process.kill()
            await process.wait()


@asynccontextmanager
async def open_store(
    redis: plan.Redis, folder: Path, *, log: logging.Logger | None = None
) -> AsyncIterator[str]:
    """
    The store of a command that is no run: the URL of the file, the socket of a run that holds the folder,
    or a server started for as long as the command needs it.

    Raises:
        StoreError: as `EmbeddedStore.start` does.
    """
    if redis.url != "embedded":
        yield redis.url
        return
    store = EmbeddedStore(folder, server=redis.server, durability=redis.durability, visit=True, log=log)
    until = time.monotonic() + START_TIMEOUT_S
    while True:
        try:
            url = await store.start()
            break
        except StoreBusy:
            socket = str(read_lock(folder).get("socket", ""))
            if socket and (await _say(Path(socket), b"PING\r\n")).startswith((b"+PONG", b"-LOADING")):
                yield f"unix://{socket}"
                return
            if time.monotonic() > until:
                raise
            await asyncio.sleep(POLL_S)  # it starts, or it ends
    try:
        yield url
    finally:
        await store.stop()


def read_lock(folder: Path) -> dict[str, Any]:
    """What the holder of the folder says of itself: `pid`, `socket`, `visit`; empty when it says nothing."""
    with suppress(OSError, ValueError):
        said = orjson.loads((folder / "lock").read_bytes())
        if isinstance(said, dict):
            return said
    return {}


def _locked(fd: int) -> bool:
    """Try to take the lock of an open file; it is held as long as any copy of the descriptor is open."""
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


async def _say(socket: Path, command: bytes) -> bytes:
    """One inline command and the first line of its answer; empty when nobody answers."""
    writer = None
    try:
        reader, writer = await asyncio.open_unix_connection(socket)
        writer.write(command)
        return await asyncio.wait_for(reader.readline(), SAY_TIMEOUT_S)
    except (OSError, TimeoutError):
        return b""
    finally:
        if writer is not None:
            writer.close()


def _unwritable(folder: Path, error: OSError) -> StoreError:
    where = error.filename or folder
    return StoreError(
        f"{where}: the data folder cannot be used: {error.strerror}; give it to this user or choose another"
    )
