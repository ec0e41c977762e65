"""
The embedded store: a Redis or Valkey server that scrapeq runs on a private Unix socket, for one data folder.

Files in the data folder: `lock` (held while a command needs the server; names its process and socket), `store/` (the
append-only file, the stamp `engine.json`, and `server.lock`, which the server itself holds while it lives) and
`store.log`.
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
from scrapeq.private_files import private_file, private_folder
from scrapeq.processes import launch
from scrapeq.processes.runtime_folder import runtime_folder
from scrapeq.store.server_binary import STAMP, ServerBinary, check_stamp, find_server, write_stamp

Durability = Literal["fast", "normal", "strict"]

LAUNCH_MODE = "exec" if sys.platform == "linux" else "watch"  # see launch.py
APPENDFSYNC = {"fast": "no", "normal": "everysec", "strict": "always"}
SOCKET_NAME = "s.sock"
LOCK_NAME, SERVER_LOCK_NAME = "lock", "server.lock"
START_TIMEOUT_S = 20.0  # until the server replies at all; loading the data may take longer
LOAD_TIMEOUT_S = 600.0
LOAD_NOTICE_S = 1.0  # before a loading store is logged
SHUTDOWN_TIMEOUT_S = 2.0  # after the SHUTDOWN command; then comes SIGTERM
STOP_TIMEOUT_S = 10.0  # after SIGTERM; then comes SIGKILL
COMMAND_TIMEOUT_S = 2.0
LEFTOVER_TIMEOUT_S = 5.0  # for the server of a killed run to end
SHORT_HOLD_TIMEOUT_S = 5.0  # for another command that holds the folder for a moment
POLL_S = 0.004
LOG_MAX_BYTES = 8_000_000
LOAD_FAILURE_MARKS = ("append only file", "AOF", "RDB")  # in the server's log when its data does not load
PING = b"PING\r\n"
SHUTDOWN = b"SHUTDOWN NOSAVE\r\n"  # without a snapshot: the append-only file is the stored data
PONG, LOADING = b"+PONG", b"-LOADING"


class EmbeddedStore:
    """
    The server of one data folder.

    Start it on the main thread: on Linux the server ends with the thread that started it.

    Args:
        folder: The data folder (`.scrapeq/...`); created if it is missing.
        server: Path of a server binary; empty = chosen by `find_server`.
        durability: When data reaches the disk: "fast" (when the system decides), "normal" (every second) or "strict"
            (every write).
        short_hold: Whether a command other than `run` holds the store for a moment. Other commands wait for it to
            end instead of failing.
        log: Where warnings go; None = the store's logger.
    """

    def __init__(
        self,
        folder: Path,
        *,
        server: str = "",
        durability: Durability = "normal",
        short_hold: bool = False,
        log: logging.Logger | None = None,
    ) -> None:
        self.loading = False  # the server runs and is still loading its data
        self.folder = folder.absolute()
        self.log_file = self.folder / "store.log"
        self._data = self.folder / "store"
        self._server = server
        self._durability = durability
        self._short_hold = short_hold
        self._log = log or logging.getLogger("scrapeq.store")
        self._lock: int | None = None
        self._binary: ServerBinary | None = None
        self._process: asyncio.subprocess.Process | None = None
        self._socket = Path()

    @property
    def pid(self) -> int | None:
        """The server's process id (except on Linux: its launcher's); None while it does not run."""
        running = self._process is not None and self._process.returncode is None
        return self._process.pid if running and self._process else None

    async def start(self) -> str:
        """
        Lock the data folder, start the server, and wait until it has loaded its data.

        Returns:
            The server's URL, `unix:///…/s.sock`.

        Raises:
            StoreBusy: another run holds the data folder.
            StoreError: no server binary, no permission, or data that does not load.
        """
        await self._acquire_folder()
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
            raise StoreError("the embedded store cannot be restarted before it has been started")
        await self._end_server()
        await self._launch()

    async def wait(self) -> int:
        """Wait until the server ends and return its code; negative: the signal that ended it."""
        return await self._process.wait() if self._process is not None else 0

    async def stop(self) -> None:
        """Let the server write its data and end, then unlock the folder. Repeated calls do nothing."""
        await self._end_server()
        if self._lock is not None:
            with suppress(OSError):
                self._socket.unlink(missing_ok=True)
                os.ftruncate(self._lock, 0)
                self._socket.parent.rmdir()  # fails while the folder contains another socket
            os.close(self._lock)
            self._lock = None

    async def _acquire_folder(self) -> None:
        """Lock the data folder and write this process and its socket into the lock file."""
        try:
            private_folder(self.folder)
            private_folder(self._data)
            private_file(self.log_file)
            lock = os.open(self.folder / LOCK_NAME, os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise _unusable(self.folder, error) from None
        deadline_s = time.monotonic() + SHORT_HOLD_TIMEOUT_S
        while not _try_lock(lock):
            holder = read_lock(self.folder)
            if time.monotonic() >= deadline_s or (holder and not holder.get("visit")):
                os.close(lock)
                raise _busy(self.folder, holder)
            await asyncio.sleep(POLL_S)
        self._lock = lock
        try:
            self._socket = runtime_folder(self.folder) / SOCKET_NAME
            holder = {"pid": os.getpid(), "socket": str(self._socket), "visit": self._short_hold}
            os.ftruncate(lock, 0)
            os.pwrite(lock, orjson.dumps(holder), 0)
        except OSError as error:
            await self.stop()
            raise _unusable(self.folder, error) from None
        except StoreError:
            await self.stop()
            raise

    async def _launch(self) -> None:
        """Start the server with its own lock and wait until it replies."""
        assert self._binary is not None
        try:
            server_lock = os.open(self._data / SERVER_LOCK_NAME, os.O_RDWR | os.O_CREAT, 0o600)
            try:
                await self._wait_for_leftover(server_lock)
                self._socket.unlink(missing_ok=True)
                if not (self._data / STAMP).exists():
                    write_stamp(self._data, self._binary)  # before the server writes any data
                log_start = self._rotate_log()
                self._process = await self._spawn(server_lock)
            finally:
                os.close(server_lock)  # the server inherited a copy, so the lock is free once it is dead
        except OSError as error:
            raise _unusable(self.folder, error) from None
        try:
            await self._wait_until_ready(log_start)
        finally:
            self.loading = False
        write_stamp(self._data, self._binary)

    async def _spawn(self, server_lock: int) -> asyncio.subprocess.Process:
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
        command = [sys.executable, "-I", "-S", launcher, LAUNCH_MODE, str(os.getpid()), str(server_lock)]
        return await asyncio.create_subprocess_exec(
            *command,
            str(self._binary.path),
            *settings,
            stdin=asyncio.subprocess.DEVNULL if LAUNCH_MODE == "exec" else asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.DEVNULL,
            env={"LC_ALL": "C", "PATH": os.environ.get("PATH", os.defpath)},  # keeps secrets from the server
            pass_fds=(server_lock,),
            start_new_session=True,  # Ctrl-C reaches the supervisor only
            cwd=self._data,
        )

    def _rotate_log(self) -> int:
        """Move a long log aside; return the offset (bytes) at which the next lines of the log start."""
        size = self.log_file.stat().st_size if self.log_file.exists() else 0
        if size <= LOG_MAX_BYTES:
            return size
        self.log_file.replace(self.log_file.with_suffix(".log.1"))
        return 0

    async def _wait_for_leftover(self, server_lock: int) -> None:
        """Take the server's lock; if the server of an earlier run still holds it, ask that server to shut down."""
        for may_ask in (True, False):
            deadline_s = time.monotonic() + LEFTOVER_TIMEOUT_S / 2
            while not _try_lock(server_lock):
                if time.monotonic() >= deadline_s:
                    break
                await asyncio.sleep(POLL_S)
            else:
                return
            if may_ask:
                self._log.warning(
                    "%s: the server of an earlier run is still running; asking it to shut down", self.folder
                )
                await _command(self._socket, SHUTDOWN)
        raise StoreError(
            f"{self.folder}: the server of an earlier run still holds the data and does not shut down. "
            f"Kill it (`fuser {self._data / SERVER_LOCK_NAME}` prints its process id) and run again"
        )

    async def _wait_until_ready(self, log_start: int) -> None:
        """Wait until the server replies PONG. Raises StoreError with the reason from its log if it ends before."""
        process = self._process
        assert process is not None
        started_s = time.monotonic()
        was_logged = False
        while process.returncode is None:
            reply = await _command(self._socket, PING)
            waited_s = time.monotonic() - started_s
            if reply.startswith(PONG):
                return
            self.loading = reply.startswith(LOADING)
            if self.loading:
                if not was_logged and waited_s > LOAD_NOTICE_S:
                    was_logged = True
                    self._log.info("%s: the store is loading its data", self.folder)
            elif reply:
                text = reply.decode(errors="replace").strip()
                raise StoreError(
                    f"{self.folder}: unexpected reply of the store to PING: {text}; see {self.log_file}"
                )
            if waited_s > (LOAD_TIMEOUT_S if reply else START_TIMEOUT_S):
                raise StoreError(
                    f"{self.folder}: the store is not ready after {waited_s:.0f} s; see {self.log_file}"
                )
            await asyncio.sleep(POLL_S)
        raise self._start_failure(log_start)

    def _start_failure(self, log_start: int) -> StoreError:
        """Explain from its log why the server ended during its start."""
        with suppress(OSError), self.log_file.open("rb") as file:
            file.seek(log_start)
            lines = [line for line in file.read().decode(errors="replace").splitlines() if line.strip()]
            messages = [line.partition(" # ")[2] for line in lines if " # " in line]
            last = messages[-1] if messages else (lines[-1] if lines else "it logged nothing")
            load_failures = (text for text in messages if any(mark in text for mark in LOAD_FAILURE_MARKS))
            cause = next(load_failures, "")
            if cause:
                return StoreError(
                    f"{self._data}: the store's data does not load: {cause}\n"
                    f"  See {self.log_file}. Repair a copy with `valkey-check-aof --fix` or `redis-check-aof --fix`, "
                    "or move the folder away to start with an empty store"
                )
            return StoreError(
                f"{self.folder}: the store ended during its start: {last}\n  see {self.log_file}"
            )
        code = self._process.returncode if self._process else None
        return StoreError(
            f"{self.folder}: the store ended during its start (code {code}) and wrote no {self.log_file.name}"
        )

    async def _end_server(self) -> None:
        process = self._process
        if process is None or process.returncode is not None:
            return
        await _command(self._socket, SHUTDOWN)
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
                "%s: the store has not ended within %.0f s; killing it", self.folder, STOP_TIMEOUT_S
            )
            with suppress(ProcessLookupError):
                process.kill()
            await process.wait()


@asynccontextmanager
async def open_store(
    redis: plan.Redis, folder: Path, *, log: logging.Logger | None = None
) -> AsyncIterator[str]:
    """
    Yield the URL of the store for a command other than `run`.

    That is the URL of the file, the socket of a run that holds the data folder, or the socket of a server that is
    started for as long as the command needs it.

    Args:
        redis: The plan's store settings.
        folder: The data folder.
        log: Where warnings go; None = the store's logger.

    Raises:
        StoreError: as `EmbeddedStore.start` does.
    """
    if redis.url != "embedded":
        yield redis.url
        return
    store = EmbeddedStore(folder, server=redis.server, durability=redis.durability, short_hold=True, log=log)
    deadline_s = time.monotonic() + START_TIMEOUT_S
    while True:
        try:
            url = await store.start()
            break
        except StoreBusy:
            socket = str(read_lock(folder).get("socket", ""))
            if socket and (await _command(Path(socket), PING)).startswith((PONG, LOADING)):
                yield f"unix://{socket}"
                return
            if time.monotonic() > deadline_s:
                raise
            await asyncio.sleep(POLL_S)  # the holder is starting or ending
    try:
        yield url
    finally:
        await store.stop()


def read_lock(folder: Path) -> dict[str, Any]:
    """
    Return what the holder of the data folder wrote into its lock; empty when nobody holds it.

    Keys: `pid`, `socket`, and `visit` (whether a command other than `run` holds it for a moment).
    """
    with suppress(OSError, ValueError):
        holder = orjson.loads((folder / LOCK_NAME).read_bytes())
        if isinstance(holder, dict):
            return holder
    return {}


def _try_lock(fd: int) -> bool:
    """Try to lock an open file. The lock lasts as long as any copy of the descriptor is open."""
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


async def _command(socket: Path, command: bytes) -> bytes:
    """Send one inline command and return the first line of the reply; empty when no server replies."""
    writer = None
    try:
        reader, writer = await asyncio.open_unix_connection(socket)
        writer.write(command)
        return await asyncio.wait_for(reader.readline(), COMMAND_TIMEOUT_S)
    except (OSError, TimeoutError):
        return b""
    finally:
        if writer is not None:
            writer.close()


def _busy(folder: Path, holder: dict[str, Any]) -> StoreBusy:
    process = f"process {holder['pid']}" if holder.get("pid") else "another process"
    return StoreBusy(
        f"{folder}: another run ({process}) holds this data folder. Stop that run first, "
        "or set redis.url (--redis URL) to a server that both runs can share"
    )


def _unusable(folder: Path, error: OSError) -> StoreError:
    path = error.filename or folder
    return StoreError(
        f"{path}: cannot use the data folder: {error.strerror}. "
        "Make it a folder that this user can write to, or run the command in another folder"
    )
