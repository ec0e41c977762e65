"""
The file that stores issued credentials for all fetchers on a machine and for the next run. Only this user can read it.

It is a file beside the store, not in the store, since others may have access to the store. A process that requests
a new credential holds the lock of the file meanwhile, so that a rotating refresh token is never used twice.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import orjson

from scrapeq.errors import AuthFailed

MODE = 0o600
LOCK_TIMEOUT_S = 120.0  # longer than any login takes
_VERSION = 1
_LOCK_POLL_S = 0.02  # waiting for a file lock would need a thread that cannot be cancelled


class TokenFile:
    """
    Args:
        path: The file; None = store nothing.
        digest: A digest of the client's configuration. What was stored for another configuration is ignored.
        lock_timeout_s: How long to wait for another process that holds the lock.
    """

    def __init__(self, path: Path | None, digest: str, lock_timeout_s: float = LOCK_TIMEOUT_S) -> None:
        self._path = path
        self._lock_timeout_s = lock_timeout_s
        self._digest = digest

    @asynccontextmanager
    async def locked(self) -> AsyncIterator[None]:
        """
        Hold the lock of the file. The kernel releases it if the process dies.

        Raises:
            AuthFailed: another process holds the lock for too long, or the folder cannot be written.
        """
        if self._path is None:
            yield
            return
        try:
            lock = os.open(self._path.with_name(self._path.name + ".lock"), os.O_RDWR | os.O_CREAT, MODE)
        except OSError as error:
            raise self._write_error(error) from None
        try:
            await self._take(lock)
            yield
        finally:
            os.close(lock)

    async def _take(self, lock: int) -> None:
        try:
            async with asyncio.timeout(self._lock_timeout_s):
                while True:
                    try:
                        return fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    except BlockingIOError:
                        await asyncio.sleep(_LOCK_POLL_S)
        except TimeoutError:
            text = f"{self._path}: another process has held its lock for {self._lock_timeout_s:g} s"
            raise AuthFailed(text) from None

    def read(self) -> dict[str, Any]:
        """Return what is stored for this configuration; empty if the file is missing, damaged or of another one."""
        if self._path is None:
            return {}
        with suppress(OSError, ValueError):
            record = orjson.loads(self._path.read_bytes())
            if isinstance(record, dict):
                key = (record.get("version"), record.get("digest"))
                if key == (_VERSION, self._digest):
                    return record
        return {}

    def write(self, record: dict[str, Any]) -> None:
        """
        Replace the content of the file atomically and durably.

        Raises:
            AuthFailed: the file cannot be written, so that a rotated refresh token would be lost.
        """
        if self._path is None:
            return
        new = self._path.with_name(self._path.name + ".new")
        try:
            with suppress(FileNotFoundError):
                new.unlink()
            handle = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, MODE)
            with open(handle, "wb") as file:
                file.write(orjson.dumps({"version": _VERSION, "digest": self._digest, **record}))
                file.flush()
                os.fsync(file.fileno())
            new.replace(self._path)
        except OSError as error:
            raise self._write_error(error) from None

    def _write_error(self, error: OSError) -> AuthFailed:
        return AuthFailed(
            f"{self._path}: the issued credential cannot be stored: {error.strerror}", final=True
        )
