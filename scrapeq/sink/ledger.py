"""
The ledger beside an output folder: what of its files is committed.

A small SQLite database holds each file's committed length, a digest per item, and the newest lease token per
task. It is opened exclusively, so it is also the folder's lock, which the system frees when its holder dies.
"""

from __future__ import annotations

import json
import sqlite3
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from scrapeq.errors import OutputError
from scrapeq.sink.commit_log import SqliteCommitLog

LEDGER_NAME = ".scrapeq-ledger.db"
SCHEMA_VERSION = 2
LOCK_TIMEOUT_S = 2.0  # for a writer that was just killed to be gone
CACHE_KIB = 16_384
PRAGMAS = ("locking_mode=EXCLUSIVE", "journal_mode=WAL", "synchronous=FULL", f"cache_size=-{CACHE_KIB}")

_FILES = "SELECT id, path, length, part, meta FROM files"


@dataclass(slots=True)
class FileState:
    """
    One output file: its row in the ledger, its path, its committed length in bytes.

    `part`: the number of its part that is open; 0 = it has none, and is `path` itself. `meta`: what its type keeps.
    """

    id: int
    path: Path
    length: int
    part: int = 0
    meta: dict[str, Any] = field(default_factory=dict)


class Ledger(SqliteCommitLog):
    """
    The ledger of the output folder `place` (`output.CommitLog`). Not thread-safe beyond one call at a time.

    Raises:
        OutputError: the folder is held by another writer, the disk refuses, or the ledger is damaged.
    """

    def __init__(self, place: Path) -> None:
        self.place = place
        try:
            database = sqlite3.connect(
                place / LEDGER_NAME, timeout=LOCK_TIMEOUT_S, isolation_level=None, check_same_thread=False
            )
        except sqlite3.Error as error:
            raise self.refused(error) from None
        super().__init__(database)
        try:
            self._open()
        except sqlite3.Error as error:
            database.close()
            raise self.refused(error) from None
        except OutputError:
            database.close()
            raise

    def _open(self) -> None:
        """Exclusive and durable: with synchronous FULL a commit is on the disk when it returns."""
        for pragma in PRAGMAS:
            self.database.execute(f"PRAGMA {pragma}").fetchall()
        self.database.execute("BEGIN EXCLUSIVE")  # takes the lock, to be kept
        version = self.database.execute("PRAGMA user_version").fetchone()[0]
        if version > SCHEMA_VERSION:
            raise OutputError(
                f"{self.place / LEDGER_NAME}: has format {version}, this scrapeq reads {SCHEMA_VERSION}; "
                "use the scrapeq that wrote it, or write to another folder"
            )
        if version == 0:
            self.database.execute(
                "CREATE TABLE files (id INTEGER PRIMARY KEY, path TEXT NOT NULL UNIQUE, length INTEGER NOT NULL)"
            )
            self.create_items()
        if version < SCHEMA_VERSION:
            self.database.execute("ALTER TABLE files ADD COLUMN part INTEGER NOT NULL DEFAULT 0")
            self.database.execute("ALTER TABLE files ADD COLUMN meta TEXT NOT NULL DEFAULT '{}'")
            self.create_appended()
            self.database.execute(f"PRAGMA user_version={SCHEMA_VERSION}")
        self.prune_tokens()
        self.prune_appended()
        self.database.execute("COMMIT")

    def refused(self, error: Exception) -> OutputError:
        """What SQLite or the system said, as the one error of an output."""
        if "locked" in str(error):
            return OutputError(f"{self.place}: another writer holds this output folder; stop that run first")
        if isinstance(error, sqlite3.DatabaseError) and "not a database" in str(error):
            return OutputError(
                f"{self.place / LEDGER_NAME}: is damaged; remove it (the next run writes every item again)"
            )
        reason = error.strerror if isinstance(error, OSError) else str(error)
        return OutputError(f"{self.place}: the output cannot be written: {reason}")

    def files(self) -> list[FileState]:
        """Every file the ledger knows."""
        return [self._state(row) for row in self.database.execute(f"{_FILES} ORDER BY id").fetchall()]

    def file(self, path: Path) -> FileState | None:
        """One file, or None when the ledger does not know it."""
        name = path.relative_to(self.place).as_posix()
        row = self.database.execute(f"{_FILES} WHERE path = ?", (name,)).fetchone()
        return self._state(row) if row else None

    def _state(self, row: tuple[int, str, int, int, str]) -> FileState:
        id_, path, length, part, meta = row
        return FileState(id_, self.place / path, length, part, json.loads(meta))

    def add_file(self, path: Path, length: int, part: int = 0) -> FileState:
        """Know a file from now on; what it holds already counts as committed."""
        name = path.relative_to(self.place).as_posix()
        cursor = self.database.execute(
            "INSERT INTO files (path, length, part) VALUES (?, ?, ?)", (name, length, part)
        )
        return FileState(int(cursor.lastrowid or 0), path, length, part)

    def set_file(self, state: FileState) -> None:
        """What is committed of a file now: its length, its part, its meta."""
        self.database.execute(
            "UPDATE files SET length = ?, part = ?, meta = ? WHERE id = ?",
            (state.length, state.part, json.dumps(state.meta), state.id),
        )
