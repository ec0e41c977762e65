"""
The commit log in SQLite: what a commit records so that a repetition changes nothing.

It stores the newest lease token of each task, a digest of each item, and the records that tasks have appended.
"""

from __future__ import annotations

import re
import sqlite3
import time
from collections.abc import Iterable, Sequence

from scrapeq.errors import UsageError

TOKEN_AGE_US = 24 * 3600 * 1_000_000  # every lease has ended long before
APPENDED_AGE_DAYS = (
    30  # a task may run again when its run is resumed, so its records are remembered this long
)
PRUNE_EVERY_COMMITS = 1_000
DAY_S = 86_400
KEYS_PER_QUERY = 500  # older versions of SQLite allow 999 parameters

_TOKEN = re.compile(r"([0-9]{1,18})\.([0-9]{1,18})")

Token = tuple[int, int]
"""A lease token: the queue's clock when the lease began, in microseconds, and a nonce. The larger token is newer."""


def parse_token(text: str) -> Token:
    """Parse the lease token `CLOCK_US.NONCE`. Raises UsageError for other text."""
    match = _TOKEN.fullmatch(text)
    if match is None:
        raise UsageError(
            f"{text!r} is not a lease token; expected two decimal integers with a dot between them"
        )
    return int(match[1]), int(match[2])


class SqliteCommitLog:
    """
    The commit log in one database (`output.CommitLog`). Its methods may raise sqlite3.Error.

    Args:
        database: A connection in autocommit mode. `close` closes it.
        prefix: The start of the names of its tables.
    """

    shared = False  # a lock keeps out other writers

    def __init__(self, database: sqlite3.Connection, prefix: str = "") -> None:
        self.database = database
        self._commits = 0
        self._items = f"{prefix}items"
        self._appended = f"{prefix}appended"
        self._tokens = f"{prefix}tokens"
        self._one_token = f"SELECT clock_us, nonce FROM {self._tokens} WHERE task = ?"

    def create_items(self) -> None:
        """Create the tables of schema version 1: items and tokens."""
        self.database.execute(
            f"CREATE TABLE IF NOT EXISTS {self._items} (file INTEGER NOT NULL, key BLOB NOT NULL, "
            "digest BLOB NOT NULL, PRIMARY KEY (file, key)) WITHOUT ROWID"
        )
        self.database.execute(
            f"CREATE TABLE IF NOT EXISTS {self._tokens} (task TEXT PRIMARY KEY, clock_us INTEGER NOT NULL, "
            "nonce INTEGER NOT NULL) WITHOUT ROWID"
        )
        self.database.execute(
            f"CREATE INDEX IF NOT EXISTS {self._tokens}_by_age ON {self._tokens} (clock_us)"
        )

    def create_appended(self) -> None:
        """Create the table that schema version 2 added: appended records."""
        self.database.execute(
            f"CREATE TABLE IF NOT EXISTS {self._appended} (file INTEGER NOT NULL, key BLOB NOT NULL, "
            "day INTEGER NOT NULL, PRIMARY KEY (file, key)) WITHOUT ROWID"
        )

    def close(self) -> None:
        """Close the database. Safe to call twice."""
        self.database.close()

    def begin(self) -> None:
        """Begin a transaction, unless one is open."""
        if not self.database.in_transaction:
            self.database.execute("BEGIN IMMEDIATE")

    def rollback(self) -> None:
        """Roll back the open transaction, if there is one."""
        if self.database.in_transaction:
            self.database.execute("ROLLBACK")

    def commit(self) -> None:
        """Commit the open transaction durably, if there is one."""
        if not self.database.in_transaction:
            return
        self._commits += 1
        if self._commits % PRUNE_EVERY_COMMITS == 0:
            self.prune_tokens()
        self.database.execute("COMMIT")

    def forget_items(self, file: int) -> None:
        """Forget the items of a file that lost its content, so that they are written again."""
        self.database.execute(f"DELETE FROM {self._items} WHERE file = ?", (file,))
        self.database.execute(f"DELETE FROM {self._appended} WHERE file = ?", (file,))

    def count_items(self, file: int) -> int:
        """Return the number of items of a file or table."""
        found = self.database.execute(f"SELECT count(*) FROM {self._items} WHERE file = ?", (file,))
        return int(found.fetchone()[0])

    def known(self, file: int, keys: Sequence[bytes], *, append: bool) -> dict[bytes, bytes]:
        """Return the digest of each of these records that was written; b"" for appended ones."""
        table, value = (self._appended, "x''") if append else (self._items, "digest")
        found: dict[bytes, bytes] = {}
        for start in range(0, len(keys), KEYS_PER_QUERY):
            some = keys[start : start + KEYS_PER_QUERY]
            marks = ",".join("?" * len(some))
            find = f"SELECT key, {value} FROM {table} WHERE file = ? AND key IN ({marks})"
            found.update(self.database.execute(find, (file, *some)).fetchall())
        return found

    def set_digests(self, rows: list[tuple[int, bytes, bytes]]) -> None:
        """Remember (file, key, digest) of written items."""
        insert = f"INSERT OR REPLACE INTO {self._items} (file, key, digest) VALUES (?, ?, ?)"
        self.database.executemany(insert, rows)

    def set_appended(self, file: int, keys: Iterable[bytes]) -> None:
        """Remember the keys of appended records."""
        day = int(time.time() // DAY_S)
        insert = f"INSERT OR REPLACE INTO {self._appended} (file, key, day) VALUES (?, ?, ?)"
        self.database.executemany(insert, [(file, key, day) for key in keys])

    def tokens(self, tasks: Iterable[str]) -> dict[str, Token]:
        """Return the newest lease token that has committed, for each task that has one."""
        found: dict[str, Token] = {}
        for task in tasks:
            row = self.database.execute(self._one_token, (task,)).fetchone()
            if row:
                found[task] = (row[0], row[1])
        return found

    def set_tokens(self, tokens: dict[str, Token]) -> None:
        """Store the newest token of each task."""
        rows = [(task, clock_us, nonce) for task, (clock_us, nonce) in tokens.items()]
        insert = f"INSERT OR REPLACE INTO {self._tokens} (task, clock_us, nonce) VALUES (?, ?, ?)"
        self.database.executemany(insert, rows)

    def prune_tokens(self) -> None:
        """Delete tokens that are a day older than the newest one, by the queue's clock in the tokens."""
        newest = self.database.execute(f"SELECT max(clock_us) FROM {self._tokens}").fetchone()[0]
        if newest is not None:
            self.database.execute(f"DELETE FROM {self._tokens} WHERE clock_us < ?", (newest - TOKEN_AGE_US,))

    def prune_appended(self) -> None:
        """Delete the appended records that are older than `APPENDED_AGE_DAYS`."""
        newest = self.database.execute(f"SELECT max(day) FROM {self._appended}").fetchone()[0] or 0
        self.database.execute(f"DELETE FROM {self._appended} WHERE day < ?", (newest - APPENDED_AGE_DAYS,))
