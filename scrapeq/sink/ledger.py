"""
The ledger of an output folder: a small SQLite file that records what is committed.

It stores the committed length of each file, a digest per item, and the newest lease token per task. It is opened
exclusively, so it is also the lock of the folder; the operating system releases it when its process dies.
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
LOCK_TIMEOUT_S = 2.0  # a writer that was just killed may hold the lock for a moment
CACHE_KIB = 16_384
PRAGMAS = ("locking_mode=EXCLUSIVE", "journal_mode=WAL", "synchronous=FULL", f"cache_size=-{CACHE_KIB}")

_SELECT_FILES = "SELECT id, path, length, part, meta FROM files"


@dataclass(slots=True)
class FileState:
    """
    The committed state of one output file.

    Args:
        id: Its number in the ledger.
        path: Its path, without the number of a part.
        length: The committed length of the open part, in bytes.
        part: The number of the open part; 0 = the file is not divided into parts.
        meta: What its output type stores with it.
    """

    id: int
    path: Path
    length: int
    part: int = 0
    meta: dict[str, Any] = field(default_factory=dict)


class Ledger(SqliteCommitLog):
    """
    The ledger of one output folder (`output.CommitLog`). Not thread-safe: one call at a time.

    Args:
        folder: The output folder; it exists.

    Raises:
        OutputError: another writer has locked the folder, the ledger is damaged, or the disk fails.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        try:
            database = sqlite3.connect(
                folder / LEDGER_NAME, timeout=LOCK_TIMEOUT_S, isolation_level=None, check_same_thread=False
            )
        except sqlite3.Error as error:
            raise self.output_error(error) from None
        super().__init__(database)
        try:
            self._open()
        except sqlite3.Error as error:
            database.close()
            raise self.output_error(error) from None
        except OutputError:
            database.close()
            raise

    def _open(self) -> None:
        """Take the lock and create or migrate the tables. With synchronous=FULL every commit is durable."""
        for pragma in PRAGMAS:
            self.database.execute(f"PRAGMA {pragma}").fetchall()
        self.database.execute("BEGIN EXCLUSIVE")  # locking_mode=EXCLUSIVE keeps this lock
        version = self.database.execute("PRAGMA user_version").fetchone()[0]
        if version > SCHEMA_VERSION:
            raise OutputError(
                f"{self.folder / LEDGER_NAME}: has format {version}, but this scrapeq reads {SCHEMA_VERSION}; "
                "use the scrapeq version that wrote it, or write to another folder"
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

    def output_error(self, error: Exception) -> OutputError:
        """Return an error of SQLite or of the system as an OutputError that names the folder."""
        if "locked" in str(error):
            return OutputError(f"{self.folder}: another writer holds this output folder; stop that run first")
        if isinstance(error, sqlite3.DatabaseError) and "not a database" in str(error):
            return OutputError(
                f"{self.folder / LEDGER_NAME}: damaged; remove it (the next run writes every item again)"
            )
        reason = error.strerror if isinstance(error, OSError) else str(error)
        return OutputError(f"{self.folder}: the output cannot be written: {reason}")

    def files(self) -> list[FileState]:
        """Return the state of every file in the ledger, oldest first."""
        return [self._state(row) for row in self.database.execute(f"{_SELECT_FILES} ORDER BY id").fetchall()]

    def file(self, path: Path) -> FileState | None:
        """Return the state of one file; None if it is not in the ledger."""
        name = path.relative_to(self.folder).as_posix()
        row = self.database.execute(f"{_SELECT_FILES} WHERE path = ?", (name,)).fetchone()
        return self._state(row) if row else None

    def _state(self, row: tuple[int, str, int, int, str]) -> FileState:
        id_, path, length, part, meta = row
        return FileState(id_, self.folder / path, length, part, json.loads(meta))

    def add_file(self, path: Path, length: int, part: int = 0) -> FileState:
        """Add a file, in the open transaction. Its present content counts as committed."""
        name = path.relative_to(self.folder).as_posix()
        cursor = self.database.execute(
            "INSERT INTO files (path, length, part) VALUES (?, ?, ?)", (name, length, part)
        )
        return FileState(int(cursor.lastrowid or 0), path, length, part)

    def set_file(self, state: FileState) -> None:
        """Update the length, part and meta of a file, in the open transaction."""
        self.database.execute(
            "UPDATE files SET length = ?, part = ?, meta = ? WHERE id = ?",
            (state.length, state.part, json.dumps(state.meta), state.id),
        )
