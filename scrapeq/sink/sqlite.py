"""
Items as rows in a SQLite database, which other programs can read meanwhile.

The commit log is stored in the same database, so that rows, digests and lease tokens are one transaction. `merge`
keeps one row per item, identified by the column `_scrapeq_key`.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import sqlite3
import time
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path

from scrapeq import plan
from scrapeq.errors import OutputError, UsageError
from scrapeq.sink.columns import REST_FIELD, Columns, Kind, rest_note
from scrapeq.sink.commit_log import SqliteCommitLog
from scrapeq.sink.durable import make_folder
from scrapeq.sink.output import CapturedResponse, OutputUnavailable, Record, SinkContext
from scrapeq.sink.output_paths import render_name
from scrapeq.sink.seen import Seen, disposition_of
from scrapeq.sink.staged import StagedTable, row_key, stage

KEY = "_scrapeq_key"
PREFIX = "_scrapeq_"
BUSY_S = 10.0  # how long to wait for other programs that write to the database
LOCK_TIMEOUT_S, LOCK_POLL_S = 2.0, 0.05  # a writer that was just killed may hold the lock for a moment
CACHE_KIB = 16_384
TYPES: dict[Kind, str] = {
    "": "",
    "bool": "BOOLEAN",
    "int": "INTEGER",
    "float": "REAL",
    "text": "TEXT",
    "json": "TEXT",
}
NUMBERS = ("bool", "int", "float")


def quoted(name: str) -> str:
    """Return a quoted identifier."""
    return '"' + name.replace('"', '""') + '"'


class Database:
    """
    A database for one output or several, each with its own tables.

    Args:
        path: The file; it is created if it is missing.

    Raises:
        OutputError, OSError: the database cannot be opened, or another writer has locked it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        make_folder(path.parent)
        self._lock = self._take_lock()
        try:
            database = sqlite3.connect(path, timeout=BUSY_S, isolation_level=None, check_same_thread=False)
            self.commit_log = SqliteCommitLog(database, PREFIX)
            for pragma in ("journal_mode=WAL", "synchronous=FULL", f"cache_size=-{CACHE_KIB}"):
                database.execute(f"PRAGMA {pragma}").fetchall()
            self.commit_log.begin()
            self.commit_log.create_items()
            self.commit_log.create_appended()
            database.execute(
                f"CREATE TABLE IF NOT EXISTS {PREFIX}tables (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, "
                "columns TEXT NOT NULL DEFAULT '{}')"
            )
            self.commit_log.prune_tokens()
            self.commit_log.prune_appended()
            self.commit_log.commit()
        except sqlite3.Error as error:
            self.close()
            raise OutputError(f"{path}: the output cannot be written: {error}") from None

    def _take_lock(self) -> int:
        """Lock the database against other writers. SQLite's own locks would also lock out every other program."""
        lock = os.open(
            self.path.with_name(f".{self.path.name}.lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644
        )
        until_s = time.monotonic() + LOCK_TIMEOUT_S
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return lock
            except OSError as error:
                busy = error.errno in (errno.EAGAIN, errno.EACCES)
                if busy and time.monotonic() < until_s:
                    time.sleep(LOCK_POLL_S)
                    continue
                os.close(lock)
                if not busy:
                    raise
                message = f"{self.path}: another writer holds this output; stop that run first"
                raise OutputError(message) from None

    def close(self) -> None:
        """Close the database and release the lock. Safe to call twice."""
        if hasattr(self, "commit_log"):
            self.commit_log.close()
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1


class _Table(StagedTable):
    """One table of the database."""

    def __init__(
        self, id_: int, name: str, seen: Seen, columns: Columns, key: Callable[[Record], str] | None
    ) -> None:
        super().__init__(seen, columns, key)
        self.id = id_
        self.name = name


class SqliteSink:
    """An output of tables in one database (`output.OutputSink`)."""

    def __init__(self, output: plan.Output, context: SinkContext) -> None:
        if output.path is None:
            raise UsageError("sqlite: path is missing")
        if not output.path.is_literal:
            raise UsageError(
                f"sqlite: path: {output.path.source!r} has a placeholder; use one database, and placeholders in table"
            )
        self.output = output
        self.context = context
        self.path = Path(os.path.normpath(context.base / str(output.path.render({}))))
        self.mode = disposition_of(output, "merge", ("merge", "append", "append_changes"))
        self._database: Database | None = None
        self._tables: dict[str, _Table] = {}

    @property
    def title(self) -> str:
        """The name of the output in error messages."""
        return str(self.path)

    @property
    def commit_log(self) -> SqliteCommitLog:
        """The commit log of the database, once it is open."""
        assert self._database is not None
        return self._database.commit_log

    def open(self) -> None:
        """Open and lock the database. Raises OutputError, OSError, sqlite3.Error."""
        self._database = self.context.shared(self.path, Database)

    def stage(self, records: Sequence[Record], responses: Sequence[CapturedResponse]) -> Iterable[bool]:
        """Stage the rows that are new or changed."""
        return stage([(self._table(record), record) for record in records])

    def write(self) -> None:
        """Write the staged rows, in the transaction of the commit log."""
        try:
            self.commit_log.begin()
            for table in self._tables.values():
                if table.rows or table.appended:
                    self._migrate(table)
                    self._insert(table)
                    table.seen.save()
        except sqlite3.OperationalError as error:
            if "locked" in str(error) or "busy" in str(error):
                raise OutputUnavailable(
                    f"{self.path}: another program has locked the database: {error}"
                ) from None
            raise OutputError(f"{self.path}: the output cannot be written: {error}") from error
        except sqlite3.Error as error:
            raise OutputError(f"{self.path}: the output cannot be written: {error}") from error

    def commit(self) -> None:
        """Forget the staged rows: the commit log commits them."""
        for table in self._tables.values():
            table.clear()

    def abandon(self) -> None:
        """Do nothing: the commit log rolls back, and `close` drops the staged rows."""

    def close(self) -> None:
        """Drop the staged rows; the context closes the database."""
        self._tables, self._database = {}, None

    def _table(self, record: Record) -> _Table:
        item = record.item
        name = (
            render_name(self.output.table, item.resource, item.seed) if self.output.table else item.resource
        )
        table = self._tables.get(name)
        if table is None:
            table = self._tables[name] = self._open_table(name)
        return table

    def _open_table(self, name: str) -> _Table:
        """Return a table as it is. If the user has dropped it or deleted rows, all its items are written again."""
        if name.lower().startswith((PREFIX, "sqlite_")) or "\0" in name:
            raise OutputError(f"{self.path}: {name!r} is not allowed as the name of a table; set table:")
        if self.context.claim(self.path / name, self) is not self:
            raise OutputError(f"{self.path}: two outputs write to the table {name}; give each its own table")
        database = self.commit_log.database
        row = database.execute(f"SELECT id, columns FROM {PREFIX}tables WHERE name = ?", (name,)).fetchone()
        existing = {column[1] for column in database.execute(f"PRAGMA table_info({quoted(name)})")}
        if row is None:
            if existing and self.mode == "merge" and KEY not in existing:
                raise OutputError(
                    f"{self.path}: the table {name} was not created by scrapeq (it lacks the column {KEY}); "
                    "choose another with table:, or set write_disposition: append_changes"
                )
            self.commit_log.begin()
            cursor = database.execute(f"INSERT INTO {PREFIX}tables (name) VALUES (?)", (name,))
            row = (int(cursor.lastrowid or 0), "{}")
        elif not existing:
            self.commit_log.begin()
            self.commit_log.forget_items(row[0])
            row = (row[0], "{}")
        elif self.mode == "merge" and self._has_lost_rows(name, row[0]):
            self.commit_log.begin()
            self.commit_log.forget_items(row[0])
        meta = {field: column for field, column in json.loads(row[1]).items() if column[0] in existing}
        seen = Seen(self.commit_log, row[0], append=self.mode == "append", run=self.context.run)
        most = (
            database.getlimit(sqlite3.SQLITE_LIMIT_COLUMN) - 1
        )  # one is needed to change the type of another
        columns = Columns(meta, fold_case=True, taken=(KEY,), most=most)
        key = partial(row_key, self.output) if self.mode == "merge" else None
        table = _Table(row[0], name, seen, columns, key)
        table.exists = bool(existing)
        return table

    def _has_lost_rows(self, name: str, id_: int) -> bool:
        """Return whether rows were deleted: their items have to be written again when they come again."""
        database = self.commit_log.database
        rows = database.execute(f"SELECT count(*) FROM {quoted(name)}").fetchone()[0]
        return bool(rows < self.commit_log.count_items(id_))

    def _migrate(self, table: _Table) -> None:
        """Create the table, add missing columns, and change the type of columns whose values no longer fit."""
        database, name = self.commit_log.database, quoted(table.name)
        added, widened = table.columns.update(table.changed)
        if REST_FIELD in added:
            self.context.note(rest_note(table.name, len(table.columns.by_field) - 1))
        by_field = table.columns.by_field
        if not table.exists:
            columns = [f"{quoted(column.name)} {TYPES[column.kind]}" for column in by_field.values()]
            if self.mode == "merge":
                columns.append(f"{quoted(KEY)} TEXT NOT NULL PRIMARY KEY")
            database.execute(f"CREATE TABLE {name} ({', '.join(columns) or quoted('_')})")
            table.exists = True
        else:
            existing = {column[1].lower() for column in database.execute(f"PRAGMA table_info({name})")}
            for field in added:
                column = by_field[field]
                if column.name.lower() not in existing:
                    database.execute(
                        f"ALTER TABLE {name} ADD COLUMN {quoted(column.name)} {TYPES[column.kind]}"
                    )
            for field, old in widened.items():
                if old in NUMBERS and by_field[field].kind == "text":
                    self._change_to_text(name, quoted(by_field[field].name), old)
        if added or widened:
            database.execute(
                f"UPDATE {PREFIX}tables SET columns = ? WHERE id = ?",
                (json.dumps(table.columns.as_meta()), table.id),
            )

    def _change_to_text(self, table: str, column: str, old: Kind) -> None:
        """Turn a column of numbers into text: with numeric affinity, the text `007` would become 7."""
        database, wider = self.commit_log.database, quoted(f"{PREFIX}wider")
        as_text = (
            f"CASE {column} WHEN 1 THEN 'true' WHEN 0 THEN 'false' END"
            if old == "bool"
            else f"CAST({column} AS TEXT)"
        )
        database.execute(f"ALTER TABLE {table} ADD COLUMN {wider} TEXT")
        database.execute(f"UPDATE {table} SET {wider} = {as_text}")
        database.execute(f"ALTER TABLE {table} DROP COLUMN {column}")
        database.execute(f"ALTER TABLE {table} RENAME COLUMN {wider} TO {column}")

    def _insert(self, table: _Table) -> None:
        names = [quoted(column.name) for column in table.columns.by_field.values()]
        rows = [table.columns.row(record) for record in table.changed]
        if self.mode == "merge":
            sets = ", ".join(f"{name} = excluded.{name}" for name in names)
            on_conflict = f" ON CONFLICT ({quoted(KEY)}) DO " + (f"UPDATE SET {sets}" if sets else "NOTHING")
            names.append(quoted(KEY))
            rows = [[*row, key] for row, key in zip(rows, table.rows, strict=True)]
        else:
            on_conflict = ""
        if not names:  # every record is empty
            self.commit_log.database.executemany(
                f"INSERT INTO {quoted(table.name)} DEFAULT VALUES", [()] * len(rows)
            )
            return
        marks = ", ".join("?" * len(names))
        self.commit_log.database.executemany(
            f"INSERT INTO {quoted(table.name)} ({', '.join(names)}) VALUES ({marks}){on_conflict}", rows
        )
