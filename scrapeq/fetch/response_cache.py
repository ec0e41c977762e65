"""
The response cache: one SQLite file for all fetchers of a machine, with a size limit and least-recently-used eviction.

Losing it is harmless: if anything is wrong with the file, that is logged, and requests are sent unconditionally.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
import time
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import orjson
import structlog

from scrapeq.fetch import freshness
from scrapeq.page import Page
from scrapeq.private_files import private_file

log = structlog.get_logger("scrapeq.cache")

SCHEMA_VERSION = 1
BUSY_S = 5.0  # how long to wait for the write of another fetcher
OPEN_RETRY_S = 0.01
USED_STEP_S = 3600  # the precision of the last use: a smaller one would make every hit a write
EVICT_COUNT = 64  # entries per eviction
MAX_ENTRY_SHARE = 8  # one response takes at most the size limit divided by this
ROW_BYTES = 200  # the overhead of an entry besides its head and body
COMPRESSION = 1  # the fastest level

_SCHEMA = (
    "CREATE TABLE answers (id INTEGER PRIMARY KEY, key BLOB NOT NULL UNIQUE, address BLOB NOT NULL,"
    " used_s INTEGER NOT NULL, size INTEGER NOT NULL, head BLOB NOT NULL)",
    "CREATE INDEX answers_by_use ON answers (used_s)",
    "CREATE INDEX answers_by_address ON answers (address)",
    # A separate table, so that updating a head does not rewrite the body.
    "CREATE TABLE bodies (id INTEGER PRIMARY KEY, body BLOB NOT NULL)",
    "CREATE TABLE total (size INTEGER NOT NULL)",
    "INSERT INTO total VALUES (0)",
    f"PRAGMA user_version={SCHEMA_VERSION}",
)

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class CachedResponse:
    """
    A stored response.

    Args:
        key: Its key in the cache.
        head: The response without its body.
        requested_s, received_s: When it was last requested or revalidated, and received, Unix seconds.
        compressed_body: The body, compressed.
        stored_head: The head as the file has it. An update applies only if the file still has the same head, and not
            that of a response which another fetcher has stored meanwhile.
    """

    key: bytes
    head: Page
    requested_s: float
    received_s: float
    compressed_body: bytes
    stored_head: bytes = b""

    def page(self) -> Page:
        """Return the response with its body. Raises zlib.error if the body is damaged."""
        return replace(self.head, body=zlib.decompress(self.compressed_body))

    def is_fresh(self, now_s: float) -> bool:
        """Return whether it may be used without revalidation."""
        age_s = freshness.age_s(self.head, self.requested_s, self.received_s, now_s)
        return freshness.lifetime_s(self.head, self.received_s) > age_s

    def freshened(self, not_modified: Page, requested_s: float, received_s: float) -> CachedResponse:
        """Return the stored response updated from a 304 (RFC 9111, 4.3.4)."""
        head = replace(self.head, headers=freshness.freshened(self.head.headers, not_modified.headers))
        return CachedResponse(self.key, head, requested_s, received_s, self.compressed_body, self.stored_head)


class ResponseCache:
    """
    A response cache in one SQLite file, shared by all fetchers of a machine.

    Args:
        path: The file; it is created if it is missing.
        max_size: The size limit in bytes, after compression.
    """

    def __init__(self, path: Path, *, max_size: int) -> None:
        self._path = path
        self._max_size = max_size
        self._db: sqlite3.Connection | None = None
        self._is_disabled = False
        self._thread = ThreadPoolExecutor(1, "response-cache")

    async def get(self, key: bytes) -> CachedResponse | None:
        """Return the response with this key; None if it is not stored."""
        return await self._run(lambda db: self._get(db, key))

    async def put(
        self, key: bytes, address: bytes, page: Page, requested_s: float, received_s: float
    ) -> None:
        """
        Store a response, replacing an older one with the same key.

        Args:
            key: What identifies the request: URL, credential and headers.
            address: What identifies the URL alone, for `forget`.
            page: The response.
            requested_s, received_s: When it was requested and received, Unix seconds.
        """
        stored = CachedResponse(key, replace(page, body=b""), requested_s, received_s, b"")
        await self._run(lambda db: self._put(db, address, stored, page.body))

    async def freshen(self, stored: CachedResponse) -> None:
        """Update the head of a stored response after a 304, unless another fetcher has replaced it."""
        await self._run(lambda db: self._freshen(db, stored))

    async def forget(self, *, key: bytes | None = None, address: bytes | None = None) -> None:
        """Delete the response with this key, or all responses of one address."""
        column, value = ("key", key) if key is not None else ("address", address)
        await self._run(lambda db: self._forget(db, column, value))

    async def aclose(self) -> None:
        """Close the file. Safe to call twice."""
        self._is_disabled = True
        await asyncio.get_running_loop().run_in_executor(self._thread, self._close)

    async def _run(self, operation: Callable[[sqlite3.Connection], T]) -> T | None:
        """Run an operation in the thread of the cache. An error costs a stored response, never the task."""
        if self._is_disabled:
            return None
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, self._in_thread, operation)
        except (sqlite3.Error, OSError, ValueError, KeyError, TypeError) as error:
            if "locked" not in str(error):
                self._is_disabled = True
            log.warning("response cache failed", file=str(self._path), error=str(error))
            return None

    def _in_thread(self, operation: Callable[[sqlite3.Connection], T]) -> T:
        if self._db is None:
            try:
                self._db = self._open_waiting()
            except sqlite3.DatabaseError as error:
                if "locked" in str(error):
                    raise
                log.warning("response cache recreated", file=str(self._path), error=str(error))
                self._remove()
                self._db = self._open()
        try:
            return operation(self._db)
        except sqlite3.Error:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            raise

    def _open_waiting(self) -> sqlite3.Connection:
        """Open the file. If another fetcher is creating it, SQLite fails instead of waiting, so retry for a while."""
        until_s = time.monotonic() + BUSY_S
        while True:
            try:
                return self._open()
            except sqlite3.OperationalError as error:
                if "locked" not in str(error) or time.monotonic() > until_s:
                    raise
            time.sleep(OPEN_RETRY_S)

    def _open(self) -> sqlite3.Connection:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        private_file(self._path)
        db = sqlite3.connect(self._path, timeout=BUSY_S, isolation_level=None, check_same_thread=False)
        try:
            db.execute("PRAGMA journal_mode=WAL").fetchall()
            db.execute("PRAGMA synchronous=NORMAL")
            db.execute("BEGIN IMMEDIATE")
            version = db.execute("PRAGMA user_version").fetchone()[0]
            if version == 0:
                for statement in _SCHEMA:
                    db.execute(statement)
            elif version != SCHEMA_VERSION:
                raise sqlite3.DatabaseError(f"format {version}, but this scrapeq reads {SCHEMA_VERSION}")
            db.execute("COMMIT")
        except sqlite3.Error:
            db.close()
            raise
        return db

    def _remove(self) -> None:
        for suffix in ("", "-wal", "-shm"):
            with suppress(FileNotFoundError):
                os.unlink(f"{self._path}{suffix}")

    def _close(self) -> None:
        if self._db is not None:
            self._db.close()
            self._db = None

    def _get(self, db: sqlite3.Connection, key: bytes) -> CachedResponse | None:
        row = db.execute(
            "SELECT id, used_s, head, body FROM answers JOIN bodies USING (id) WHERE key = ?", (key,)
        ).fetchone()
        if row is None:
            return None
        id_, used_s, head, body = row
        now_s = int(time.time())
        if now_s - used_s > USED_STEP_S:
            db.execute("UPDATE answers SET used_s = ? WHERE id = ?", (now_s, id_))
        return _decode_row(key, head, body)

    def _put(self, db: sqlite3.Connection, address: bytes, stored: CachedResponse, body: bytes) -> None:
        compressed_body, head = zlib.compress(body, COMPRESSION), _encode_head(stored)
        size = len(compressed_body) + len(head) + ROW_BYTES
        if size > self._max_size // MAX_ENTRY_SHARE:
            return
        db.execute("BEGIN IMMEDIATE")
        self._delete(db, db.execute("SELECT id, size FROM answers WHERE key = ?", (stored.key,)).fetchall())
        id_ = db.execute(
            "INSERT INTO answers (key, address, used_s, size, head) VALUES (?, ?, ?, ?, ?)",
            (stored.key, address, int(time.time()), size, head),
        ).lastrowid
        db.execute("INSERT INTO bodies (id, body) VALUES (?, ?)", (id_, compressed_body))
        db.execute("UPDATE total SET size = size + ?", (size,))
        while db.execute("SELECT size FROM total").fetchone()[0] > self._max_size:
            oldest = db.execute(
                "SELECT id, size FROM answers WHERE id != ? ORDER BY used_s, id LIMIT ?", (id_, EVICT_COUNT)
            ).fetchall()
            if not oldest:
                break
            self._delete(db, oldest)
        db.execute("COMMIT")

    def _freshen(self, db: sqlite3.Connection, stored: CachedResponse) -> None:
        db.execute(
            "UPDATE answers SET head = ?, used_s = ? WHERE key = ? AND head = ?",
            (_encode_head(stored), int(time.time()), stored.key, stored.stored_head),
        )

    def _forget(self, db: sqlite3.Connection, column: str, value: bytes | None) -> None:
        found = db.execute(f"SELECT id, size FROM answers WHERE {column} = ?", (value,)).fetchall()
        if found:
            db.execute("BEGIN IMMEDIATE")
            self._delete(db, found)
            db.execute("COMMIT")

    @staticmethod
    def _delete(db: sqlite3.Connection, rows: list[tuple[int, int]]) -> None:
        for id_, size in rows:
            if db.execute("DELETE FROM answers WHERE id = ?", (id_,)).rowcount:
                db.execute("DELETE FROM bodies WHERE id = ?", (id_,))
                db.execute("UPDATE total SET size = size - ?", (size,))


def _encode_head(stored: CachedResponse) -> bytes:
    head = stored.head
    return orjson.dumps([head.url, head.status, head.headers, stored.requested_s, stored.received_s])


def _decode_row(key: bytes, head: bytes, compressed_body: bytes) -> CachedResponse:
    url, status, headers, requested_s, received_s = orjson.loads(head)
    fields = tuple((name, value) for name, value in headers)
    return CachedResponse(
        key, Page(url, status, fields, b"", requested_url=url), requested_s, received_s, compressed_body, head
    )
