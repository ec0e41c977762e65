"""
Books in SQLite: what a commit leaves behind so that a repeat changes nothing.

The newest lease token of each task, a digest of each item, and the records that tasks have appended.
"""

from __future__ import annotations

import re
import sqlite3
import time
from collections.abc import Iterable, Sequence

from scrapeq.errors import UsageError

TOKEN_AGE_US = 24 * 3600 * 1_000_000  # a lease is long over by then
APPENDED_AGE_DAYS = 30  # a task that gave records may be repeated when its run is resumed
PRUNE_EVERY_COMMITS = 1_000
DAY_S = 86_400
KEYS_A_QUERY = 500  # older SQLites take 999 values

_TOKEN = re.compile(r"([0-9]{1,18})\.([0-9]{1,18})")

Token = tuple[int, int]


def parse_token(text: str) -> Token:
    """`CLOCK_US.NONCE` as a pair to compare. Raises UsageError when it is none."""
    match = _TOKEN.fullmatch(text)
    if match is None:
        raise UsageError(f"{text!r} is no lease token: two decimal integers joined by a dot")
    return int(match[1]), int(match[2])


class SqliteCommitLog:
    """
    The books in one database (`output.CommitLog`). Its methods may raise sqlite3.Error.

    Args:
        database: In autocommit mode; closed by `close`.
        prefix: Of the names of its tables.
    """

    shared = False  # a lock keeps other writers away

    def __init__(self, database: sqlite3.Connection, prefix: str = "") -> None:
        self.database = database
        self._commits = 0
        self._items = f"{prefix}items"
        self._appended = f"{prefix}appended"
        self._tokens = f"{prefix}tokens"
        self._one_token = f"SELECT clock_us, nonce FROM {self._tokens} WHERE task = ?"

    def create_items(self) -> None:
        """The tables of version 1 of a ledger."""
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
        """What version 2 added."""
        self.database.execute(
            f"CREATE TABLE IF NOT EXISTS {self._appended} (file INTEGER NOT NULL, key BLOB NOT NULL, "
            "day INTEGER NOT NULL, PRIMARY KEY (file, key)) WITHOUT ROWID"
        )

    def close(self) -> None:
        """Let go of it. May be repeated."""
        self.database.close()

    def begin(self) -> None:
        """Begin a transaction, unless one is open."""
        if not self.database.in_transaction:
            self.database.execute("BEGIN IMMEDIATE")

    def rollback(self) -> None:
        """Give up the transaction, if there is one."""
        if self.database.in_transaction:
            self.database.execute("ROLLBACK")

    def commit(self) -> None:
        """Make the transaction durable, if there is one."""
        if not self.database.in_transaction:
            return
        self._commits += 1
        if self._commits % PRUNE_EVERY_COMMITS == 0:
            self.prune_tokens()
        self.database.execute("COMMIT")

    def forget_items(self, file: int) -> None:
        """The file lost what it held: its items are to be written again."""
        self.database.execute(f"DELETE FROM {self._items} WHERE file = ?", (file,))
        self.database.execute(f"DELETE FROM {self._appended} WHERE file = ?", (file,))

    def count_items(self, file: int) -> int:
        """How many items the file has."""
        found = self.database.execute(f"SELECT count(*) FROM {self._items} WHERE file = ?", (file,))
        return int(found.fetchone()[0])

    def known(self, file: int, keys: Sequence[bytes], *, append: bool) -> dict[bytes, bytes]:
        """Of these items, those that were written, with the digest of what was (`append`: with nothing)."""
        table, value = (self._appended, "x''") if append else (self._items, "digest")
        found: dict[bytes, bytes] = {}
        for start in range(0, len(keys), KEYS_A_QUERY):
            some = keys[start : start + KEYS_A_QUERY]
            marks = ",".join("?" * len(some))
            find = f"SELECT key, {value} FROM {table} WHERE file = ? AND key IN ({marks})"
            found.update(self.database.execute(find, (file, *some)).fetchall())
        return found

    def set_digests(self, rows: list[tuple[int, bytes, bytes]]) -> None:
        """(file, key, digest) of items written."""
        insert = f"INSERT OR REPLACE INTO {self._items} (file, key, digest) VALUES (?, ?, ?)"
        self.database.executemany(insert, rows)

    def set_appended(self, file: int, keys: Iterable[bytes]) -> None:
        """Records that tasks gave the file."""
        day = int(time.time() // DAY_S)
        insert = f"INSERT OR REPLACE INTO {self._appended} (file, key, day) VALUES (?, ?, ?)"
        self.database.executemany(insert, [(file, key, day) for key in keys])

    def tokens(self, tasks: Iterable[str]) -> dict[str, Token]:
        """The newest lease token that committed, for each of the tasks that has any."""
        found: dict[str, Token] = {}
        for task in tasks:
            row = self.database.execute(self._one_token, (task,)).fetchone()
            if row:
                found[task] = (row[0], row[1])
        return found

    def set_tokens(self, tokens: dict[str, Token]) -> None:
        """The newest token of each task."""
        rows = [(task, clock_us, nonce) for task, (clock_us, nonce) in tokens.items()]
        insert = f"INSERT OR REPLACE INTO {self._tokens} (task, clock_us, nonce) VALUES (?, ?, ?)"
        self.database.executemany(insert, rows)

    def prune_tokens(self) -> None:
        """Forget tokens a day older than the newest, by the queue's clock, which they carry."""
        newest = self.database.execute(f"SELECT max(clock_us) FROM {self._tokens}").fetchone()[0]
        if newest is not None:
            self.database.execute(f"DELETE FROM {self._tokens} WHERE clock_us < ?", (newest - TOKEN_AGE_US,))

    def prune_appended(self) -> None:
        """Forget what was appended long ago."""
        newest = self.database.execute(f"SELECT max(day) FROM {self._appended}").fetchone()[0] or 0
        self.database.execute(f"DELETE FROM {self._appended} WHERE day < ?", (newest - APPENDED_AGE_DAYS,))
