"""
Answers kept on this machine, for all its fetchers: one SQLite file, bounded, the least recently used dropped.

What it keeps, it may lose: whatever is wrong with the file is written to the log, and requests are sent plainly.
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

log = structlog.get_logger("scrapeq.cache")

SCHEMA_VERSION = 1
BUSY_S = 5.0  # for another fetcher's write
OPEN_AGAIN_S = 0.01
USED_STEP_S = 3600  # how exactly the last use is known; else each hit would be a write
DROP_COUNT = 64
LARGEST_SHARE = 8  # one answer takes no more than this part of the bound
ROW_BYTES = 200  # what an entry costs beside its head and its body
COMPRESSION = 1  # the fastest

_SCHEMA = (
    "CREATE TABLE answers (id INTEGER PRIMARY KEY, key BLOB NOT NULL UNIQUE, address BLOB NOT NULL,"
    " used_s INTEGER NOT NULL, size INTEGER NOT NULL, head BLOB NOT NULL)",
    "CREATE INDEX answers_by_use ON answers (used_s)",
    "CREATE INDEX answers_by_address ON answers (address)",
    # apart, so that a head that changes does not rewrite its body
    "CREATE TABLE bodies (id INTEGER PRIMARY KEY, body BLOB NOT NULL)",
    "CREATE TABLE total (size INTEGER NOT NULL)",
    "INSERT INTO total VALUES (0)",
    f"PRAGMA user_version={SCHEMA_VERSION}",
)

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class CachedResponse:
    """
    An answer that was kept.

    `head`: its page without the body; `requested_s`, `received_s`: Unix seconds, of the last time it was good;
    `stored`: the head as the file has it, which tells it from one that another fetcher has put in its place.
    """

    key: bytes
    head: Page
    requested_s: float
    received_s: float
    packed: bytes
    stored: bytes = b""

    def page(self) -> Page:
        """The answer with its body."""
        return replace(self.head, body=zlib.decompress(self.packed))

    def is_fresh(self, now_s: float) -> bool:
        """Whether it may be used without asking."""
        old_s = freshness.age_s(self.head, self.requested_s, self.received_s, now_s)
        return freshness.lifetime_s(self.head, self.received_s) > old_s

    def freshened(self, told: Page, requested_s: float, received_s: float) -> CachedResponse:
        """After a 304."""
        head = replace(self.head, headers=freshness.freshened(self.head.headers, told.headers))
        return CachedResponse(self.key, head, requested_s, received_s, self.packed, self.stored)


class ResponseCache:
    """
    Args:
        path: The file, made if it is missing.
        max_size: Bytes of what is kept, compressed.
    """

    def __init__(self, path: Path, *, max_size: int) -> None:
        self._path = path
        self._max_size = max_size
        self._db: sqlite3.Connection | None = None
        self._is_off = False
        self._thread = ThreadPoolExecutor(1, "answer-cache")

    async def get(self, key: bytes) -> CachedResponse | None:
        """What is kept under this key."""
        return await self._do(lambda db: self._get(db, key))

    async def put(
        self, key: bytes, address: bytes, page: Page, requested_s: float, received_s: float
    ) -> None:
        """Keep an answer, in place of the one before."""
        kept = CachedResponse(key, replace(page, body=b""), requested_s, received_s, b"")
        await self._do(lambda db: self._put(db, address, kept, page.body))

    async def freshen(self, kept: CachedResponse) -> None:
        """A 304 came: its head is new, if it is still the one that was asked about."""
        await self._do(lambda db: self._freshen(db, kept))

    async def forget(self, *, key: bytes | None = None, address: bytes | None = None) -> None:
        """Drop one answer, or all of one address."""
        column, value = ("key", key) if key is not None else ("address", address)
        await self._do(lambda db: self._forget(db, column, value))

    async def aclose(self) -> None:
        """Close the file. May be repeated."""
        self._is_off = True
        await asyncio.get_running_loop().run_in_executor(self._thread, self._close)

    async def _do(self, act: Callable[[sqlite3.Connection], T]) -> T | None:
        """In the cache's thread. What goes wrong costs an answer, never the task."""
        if self._is_off:
            return None
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, self._in_thread, act)
        except (sqlite3.Error, OSError, ValueError, KeyError, TypeError) as error:
            if "locked" not in str(error):
                self._is_off = True
            log.warning("cache", file=str(self._path), error=str(error))
            return None

    def _in_thread(self, act: Callable[[sqlite3.Connection], T]) -> T:
        if self._db is None:
            try:
                self._db = self._open_patiently()
            except sqlite3.DatabaseError as error:
                if "locked" in str(error):
                    raise
                log.warning("cache begun anew", file=str(self._path), error=str(error))
                self._remove()
                self._db = self._open()
        try:
            return act(self._db)
        except sqlite3.Error:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            raise

    def _open_patiently(self) -> sqlite3.Connection:
        """Of several that open a new file at once one makes it; SQLite lets the others not wait for that by itself."""
        until_s = time.monotonic() + BUSY_S
        while True:
            try:
                return self._open()
            except sqlite3.OperationalError as error:
                if "locked" not in str(error) or time.monotonic() > until_s:
                    raise
            time.sleep(OPEN_AGAIN_S)

    def _open(self) -> sqlite3.Connection:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        os.close(os.open(self._path, os.O_CREAT | os.O_RDWR, 0o600))
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
                raise sqlite3.DatabaseError(f"it has format {version}, this scrapeq reads {SCHEMA_VERSION}")
            db.execute("COMMIT")
        except sqlite3.Error:
            db.close()
            raise
        return db

    def _remove(self) -> None:
        for end in ("", "-wal", "-shm"):
            with suppress(FileNotFoundError):
                os.unlink(f"{self._path}{end}")

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
        return _read(key, head, body)

    def _put(self, db: sqlite3.Connection, address: bytes, kept: CachedResponse, body: bytes) -> None:
        packed, head = zlib.compress(body, COMPRESSION), _written(kept)
        size = len(packed) + len(head) + ROW_BYTES
        if size > self._max_size // LARGEST_SHARE:
            return
        db.execute("BEGIN IMMEDIATE")
        self._drop(db, db.execute("SELECT id, size FROM answers WHERE key = ?", (kept.key,)).fetchall())
        id_ = db.execute(
            "INSERT INTO answers (key, address, used_s, size, head) VALUES (?, ?, ?, ?, ?)",
            (kept.key, address, int(time.time()), size, head),
        ).lastrowid
        db.execute("INSERT INTO bodies (id, body) VALUES (?, ?)", (id_, packed))
        db.execute("UPDATE total SET size = size + ?", (size,))
        while db.execute("SELECT size FROM total").fetchone()[0] > self._max_size:
            oldest = db.execute(
                "SELECT id, size FROM answers WHERE id != ? ORDER BY used_s, id LIMIT ?", (id_, DROP_COUNT)
            ).fetchall()
            if not oldest:
                break
            self._drop(db, oldest)
        db.execute("COMMIT")

    def _freshen(self, db: sqlite3.Connection, kept: CachedResponse) -> None:
        db.execute(
            "UPDATE answers SET head = ?, used_s = ? WHERE key = ? AND head = ?",
            (_written(kept), int(time.time()), kept.key, kept.stored),
        )

    def _forget(self, db: sqlite3.Connection, column: str, value: bytes | None) -> None:
        found = db.execute(f"SELECT id, size FROM answers WHERE {column} = ?", (value,)).fetchall()
        if found:
            db.execute("BEGIN IMMEDIATE")
            self._drop(db, found)
            db.execute("COMMIT")

    @staticmethod
    def _drop(db: sqlite3.Connection, rows: list[tuple[int, int]]) -> None:
        for id_, size in rows:
            if db.execute("DELETE FROM answers WHERE id = ?", (id_,)).rowcount:
                db.execute("DELETE FROM bodies WHERE id = ?", (id_,))
                db.execute("UPDATE total SET size = size - ?", (size,))


def _written(kept: CachedResponse) -> bytes:
    head = kept.head
    return orjson.dumps([head.url, head.status, head.headers, kept.requested_s, kept.received_s])


def _read(key: bytes, head: bytes, packed: bytes) -> CachedResponse:
    url, status, headers, requested_s, received_s = orjson.loads(head)
    fields = tuple((name, value) for name, value in headers)
    return CachedResponse(
        key, Page(url, status, fields, b"", requested_url=url), requested_s, received_s, packed, head
    )
