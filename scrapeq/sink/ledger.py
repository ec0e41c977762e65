"""
The ledger beside an output folder: what of its files is committed.

A small SQLite database holds each file's committed length, a digest per item, and the newest lease token per
task. It is opened exclusively, so it is also the folder's lock, which the system frees when its holder dies.
"""

from __future__ import annotations

import re
import sqlite3
from dataclasses import dataclass
from pathlib import Path

from scrapeq.errors import OutputError, UsageError

LEDGER_NAME = ".scrapeq-ledger.db"
SCHEMA_VERSION = 1
LOCK_TIMEOUT_S = 2.0  # for a writer that was just killed to be gone
TOKEN_AGE_US = 24 * 3600 * 1_000_000  # a lease is long over by then
PRUNE_EVERY_COMMITS = 1_000
CACHE_KIB = 16_384
PRAGMAS = ("locking_mode=EXCLUSIVE", "journal_mode=WAL", "synchronous=FULL", f"cache_size=-{CACHE_KIB}")

_TOKEN = re.compile(r"([0-9]{1,18})\.([0-9]{1,18})")

_SCHEMA = """
CREATE TABLE files (id INTEGER PRIMARY KEY, path TEXT NOT NULL UNIQUE, length INTEGER NOT NULL);
CREATE TABLE items (file INTEGER NOT NULL, key BLOB NOT NULL, digest BLOB NOT NULL, PRIMARY KEY (file, key))
    WITHOUT ROWID;
CREATE TABLE tokens (task TEXT PRIMARY KEY, clock_us INTEGER NOT NULL, nonce INTEGER NOT NULL) WITHOUT ROWID;
CREATE INDEX tokens_by_age ON tokens (clock_us);
"""

Token = tuple[int, int]


def parse_token(text: str) -> Token:
    """`CLOCK_US.NONCE` as a pair to compare. Raises UsageError when it is none."""
    match = _TOKEN.fullmatch(text)
    if match is None:
        raise UsageError(f"{text!r} is no lease token: two decimal integers joined by a dot")
    return int(match[1]), int(match[2])


@dataclass(slots=True)
class FileState:
    """One output file: its row in the ledger, its path, its committed length in bytes."""

    id: int
    path: Path
    length: int


class Ledger:
    """
    The ledger of the output folder `place`. Not thread-safe beyond one call at a time.

    Raises:
        OutputError: from every method, when the folder is held by another writer or the disk refuses.
    """

    def __init__(self, place: Path) -> None:
        self.place = place
        self._commits = 0
        try:
            self._db = sqlite3.connect(
                place / LEDGER_NAME, timeout=LOCK_TIMEOUT_S, isolation_level=None, check_same_thread=False
            )
        except sqlite3.Error as error:
            raise self.refused(error) from None
        try:
            self._open()
        except sqlite3.Error as error:
            self._db.close()
            raise self.refused(error) from None
        except OutputError:
            self._db.close()
            raise

    def _open(self) -> None:
        """Exclusive and durable: with synchronous FULL a commit is on the disk when it returns."""
        for pragma in (
            "locking_mode=EXCLUSIVE",
            "journal_mode=WAL",
            "synchronous=FULL",
            f"cache_size=-{CACHE_KIB}",
        ):
            self._db.execute(f"PRAGMA {pragma}").fetchall()
        self._db.execute("BEGIN EXCLUSIVE")  # takes the lock, to be kept
        version = self._db.execute("PRAGMA user_version").fetchone()[0]
        if version == 0:
            for statement in _SCHEMA.split(";"):
                self._db.execute(statement)
            self._db.execute(f"PRAGMA user_version={SCHEMA_VERSION}")
        elif version != SCHEMA_VERSION:
            raise OutputError(
                f"{self.place / LEDGER_NAME}: has format {version}, this scrapeq reads {SCHEMA_VERSION}; "
                "use the scrapeq that wrote it, or write to another folder"
            )
        self._prune()
        self._db.execute("COMMIT")

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

    def close(self) -> None:
        """Free the folder. May be repeated."""
        self._db.close()

    def begin(self) -> None:
        """Begin a transaction."""
        self._db.execute("BEGIN")

    def rollback(self) -> None:
        """Give up the transaction, if there is one."""
        if self._db.in_transaction:
            self._db.execute("ROLLBACK")

    def commit(self) -> None:
        """Make it durable."""
        self._commits += 1
        if self._commits % PRUNE_EVERY_COMMITS == 0:
            self._prune()
        self._db.execute("COMMIT")

    def files(self) -> list[FileState]:
        """Every file the ledger knows."""
        rows = self._db.execute("SELECT id, path, length FROM files ORDER BY id").fetchall()
        return [FileState(id_, self.place / path, length) for id_, path, length in rows]

    def add_file(self, path: Path, length: int) -> FileState:
        """Know a file from now on; what it holds already counts as committed."""
        name = path.relative_to(self.place).as_posix()
        cursor = self._db.execute("INSERT INTO files (path, length) VALUES (?, ?)", (name, length))
        return FileState(int(cursor.lastrowid or 0), path, length)

    def set_length(self, file: int, length: int) -> None:
        """The file is committed up to `length` bytes."""
        self._db.execute("UPDATE files SET length = ? WHERE id = ?", (length, file))

    def forget_items(self, file: int) -> None:
        """The file lost what it held: its items are to be written again."""
        self._db.execute("DELETE FROM items WHERE file = ?", (file,))

    def digest(self, file: int, key: bytes) -> bytes | None:
        """The digest of what was last written for an item, or None."""
        row = self._db.execute("SELECT digest FROM items WHERE file = ? AND key = ?", (file, key)).fetchone()
        return row[0] if row else None

    def set_digests(self, rows: list[tuple[int, bytes, bytes]]) -> None:
        """(file, key, digest) of items written."""
        self._db.executemany("INSERT OR REPLACE INTO items (file, key, digest) VALUES (?, ?, ?)", rows)

    def token(self, task: str) -> Token | None:
        """The newest lease token that committed for a task, or None."""
        row = self._db.execute("SELECT clock_us, nonce FROM tokens WHERE task = ?", (task,)).fetchone()
        return (row[0], row[1]) if row else None

    def set_tokens(self, tokens: dict[str, Token]) -> None:
        """The newest token of each task."""
        rows = [(task, clock_us, nonce) for task, (clock_us, nonce) in tokens.items()]
        self._db.executemany("INSERT OR REPLACE INTO tokens (task, clock_us, nonce) VALUES (?, ?, ?)", rows)

    def _prune(self) -> None:
        """Forget tokens a day older than the newest, by the queue's clock, which they carry."""
        newest = self._db.execute("SELECT max(clock_us) FROM tokens").fetchone()[0]
        if newest is not None:
            self._db.execute("DELETE FROM tokens WHERE clock_us < ?", (newest - TOKEN_AGE_US,))
