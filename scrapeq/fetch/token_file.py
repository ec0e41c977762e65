"""
What logins gave, kept in a file that only this user can read, for all fetchers of a machine and for the next run.

It stands beside the store and never in it: a store may be somebody else's. Who asks for a new credential holds the
lock meanwhile, so that a rotated refresh token is never asked for twice.
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
PATIENCE_S = 120.0
_VERSION = 1
_LOOK_S = 0.02  # between tries for the lock: it cannot be waited for without a thread that nobody can stop


class TokenFile:
    """
    Args:
        path: The file; None = nothing is kept.
        digest: Of the configuration: what was kept for another one is void.
        patience_s: How long somebody else may hold it.
    """

    def __init__(self, path: Path | None, digest: str, patience_s: float = PATIENCE_S) -> None:
        self._path = path
        self._patience_s = patience_s
        self._digest = digest

    @asynccontextmanager
    async def held(self) -> AsyncIterator[None]:
        """
        Nobody else on this machine asks meanwhile. The kernel frees the lock of one that died.

        Raises:
            AuthFailed: somebody else has asked for longer than any login takes, or the folder cannot be written.
        """
        if self._path is None:
            yield
            return
        try:
            lock = os.open(self._path.with_name(self._path.name + ".lock"), os.O_RDWR | os.O_CREAT, MODE)
        except OSError as error:
            raise self._failed(error) from None
        try:
            await self._take(lock)
            yield
        finally:
            os.close(lock)

    async def _take(self, lock: int) -> None:
        try:
            async with asyncio.timeout(self._patience_s):
                while True:
                    try:
                        return fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    except BlockingIOError:
                        await asyncio.sleep(_LOOK_S)
        except TimeoutError:
            text = f"{self._path}: another process has held its lock for {self._patience_s:g} s"
            raise AuthFailed(text) from None

    def read(self) -> dict[str, Any]:
        """What is kept for this configuration; empty when there is nothing, or nothing that can be read."""
        if self._path is None:
            return {}
        with suppress(OSError, ValueError):
            kept = orjson.loads(self._path.read_bytes())
            if isinstance(kept, dict) and (kept.get("version"), kept.get("digest")) == (
                _VERSION,
                self._digest,
            ):
                return kept
        return {}

    def write(self, record: dict[str, Any]) -> None:
        """
        Keep it, whole or not at all.

        Raises:
            AuthFailed: the file cannot be written; a rotated refresh token would be lost.
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
            raise self._failed(error) from None

    def _failed(self, error: OSError) -> AuthFailed:
        return AuthFailed(
            f"{self._path}: what the login gave cannot be kept there: {error.strerror}", final=True
        )
