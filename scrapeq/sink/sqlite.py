"""
Items as rows of a SQLite database, readable by others while it is written.

The books (what each table has seen, the newest lease tokens) are tables of the same database, so that rows, digests
and tokens are one transaction. `merge` keeps one row for each item, found by the column `_scrapeq_key`.
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
from scrapeq.sink.columns import Columns, Kind
from scrapeq.sink.commit_log import SqliteCommitLog
from scrapeq.sink.durable import make_folder
from scrapeq.sink.output import CapturedResponse, OutputAway, Record, SinkContext
from scrapeq.sink.output_paths import rendered
from scrapeq.sink.seen import Seen, disposition_of
from scrapeq.sink.staged import StagedTable, row_key, stage

KEY = "_scrapeq_key"
PREFIX = "_scrapeq_"
BUSY_S = 10.0  # for others that write into the same database
LOCK_TIMEOUT_S, LOCK_POLL_S = 2.0, 0.05  # for a writer that was just killed to be gone
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
    """An identifier."""
    return '"' + name.replace('"', '""') + '"'


class Database:
    """
    A database that outputs write to, one or several, each its tables.

    Raises:
        OutputError, OSError: it cannot be opened, or another writer holds it.
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
        """One writer a database. SQLite's own locks cannot be held while others read and write."""
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
                said = "another writer holds this output; stop that run first"
                raise OutputError(f"{self.path}: {said}") from None

    def close(self) -> None:
        """Let go of it. May be repeated."""
        if hasattr(self, "books"):
            self.commit_log.close()
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1


class _Table(StagedTable):
    """A table of the database."""

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
                f"sqlite: path: {output.path.source!r} has a placeholder; one database holds all: use table"
            )
        self.output = output
        self.context = context
        self.path = Path(os.path.normpath(context.base / str(output.path.render({}))))
        self.mode = disposition_of(output, "merge", ("merge", "append", "append_changes"))
        self._database: Database | None = None
        self._tables: dict[str, _Table] = {}

    @property
    def title(self) -> str:
        """What a person calls it."""
        return str(self.path)

    @property
    def commit_log(self) -> SqliteCommitLog:
        """Those of its database, once it is open."""
        assert self._database is not None
        return self._database.commit_log

    def open(self) -> None:
        """Take the database. Raises OutputError, OSError, sqlite3.Error."""
        self._database = self.context.shared(self.path, Database)

    def stage(self, records: Sequence[Record], answers: Sequence[CapturedResponse]) -> Iterable[bool]:
        """Keep the rows that are new or changed."""
        return stage([(self._table(record), record) for record in records])

    def write(self) -> None:
        """Into the database's transaction."""
        try:
            self.commit_log.begin()
            for table in self._tables.values():
                if table.rows or table.added:
                    self._fit(table)
                    self._insert(table)
                    table.seen.save()
        except sqlite3.OperationalError as error:
            if "locked" in str(error) or "busy" in str(error):
                raise OutputAway(f"{self.path}: others hold the database: {error}") from None
            raise OutputError(f"{self.path}: the output cannot be written: {error}") from None
        except sqlite3.Error as error:
            raise OutputError(f"{self.path}: the output cannot be written: {error}") from None

    def commit(self) -> None:
        """The books commit; what is staged is theirs now."""
        for table in self._tables.values():
            table.forget()

    def abandon(self) -> None:
        """The books give up the transaction; all else is forgotten by `close`."""

    def close(self) -> None:
        """Forget it; the context closes the database."""
        self._tables, self._database = {}, None

    def _table(self, record: Record) -> _Table:
        item = record.item
        name = rendered(self.output.table, item.resource, item.seed) if self.output.table else item.resource
        table = self._tables.get(name)
        if table is None:
            table = self._tables[name] = self._open_table(name)
        return table

    def _open_table(self, name: str) -> _Table:
        """The table as it was left; one that somebody has dropped is empty again."""
        if name.lower().startswith((PREFIX, "sqlite_")) or "\0" in name:
            raise OutputError(f"{self.path}: {name!r} is no name for a table; set table:")
        if self.context.claim(self.path / name, self) is not self:
            raise OutputError(f"{self.path}: two outputs write to the table {name}; give each its own")
        database = self.commit_log.database
        row = database.execute(f"SELECT id, columns FROM {PREFIX}tables WHERE name = ?", (name,)).fetchone()
        there = {column[1] for column in database.execute(f"PRAGMA table_info({quoted(name)})")}
        if row is None:
            if there and self.mode == "merge" and KEY not in there:
                raise OutputError(
                    f"{self.path}: the table {name} is somebody else's: it has no column {KEY}; "
                    "name another with table:, or set write_disposition: append_changes"
                )
            self.commit_log.begin()
            cursor = database.execute(f"INSERT INTO {PREFIX}tables (name) VALUES (?)", (name,))
            row = (int(cursor.lastrowid or 0), "{}")
        elif not there:
            self.commit_log.begin()
            self.commit_log.forget_items(row[0])
            row = (row[0], "{}")
        elif self.mode == "merge" and self._rows_are_missing(name, row[0]):
            self.commit_log.begin()
            self.commit_log.forget_items(row[0])
        meta = {field: column for field, column in json.loads(row[1]).items() if column[0] in there}
        seen = Seen(self.commit_log, row[0], append=self.mode == "append", run=self.context.run)
        columns = Columns(meta, fold_case=True, taken=(KEY,))
        key = partial(row_key, self.output) if self.mode == "merge" else None
        table = _Table(row[0], name, seen, columns, key)
        table.there = bool(there)
        return table

    def _rows_are_missing(self, name: str, id_: int) -> bool:
        """Somebody has deleted rows: they come again when their items do."""
        database = self.commit_log.database
        rows = database.execute(f"SELECT count(*) FROM {quoted(name)}").fetchone()[0]
        return bool(rows < self.commit_log.count_items(id_))

    def _fit(self, table: _Table) -> None:
        """Make the table, add the columns that are new, widen those whose values are of another type now."""
        database, name = self.commit_log.database, quoted(table.name)
        added, widened = table.columns.learn(table.changed)
        by_field = table.columns.by_field
        if not table.there:
            columns = [f"{quoted(column.name)} {TYPES[column.kind]}" for column in by_field.values()]
            if self.mode == "merge":
                columns.append(f"{quoted(KEY)} TEXT NOT NULL PRIMARY KEY")
            database.execute(f"CREATE TABLE {name} ({', '.join(columns) or quoted('_')})")
            table.there = True
        else:
            there = {column[1].lower() for column in database.execute(f"PRAGMA table_info({name})")}
            for field in added:
                column = by_field[field]
                if column.name.lower() not in there:
                    database.execute(
                        f"ALTER TABLE {name} ADD COLUMN {quoted(column.name)} {TYPES[column.kind]}"
                    )
            for field, old in widened.items():
                if old in NUMBERS and by_field[field].kind == "text":
                    self._widen(name, quoted(by_field[field].name), old)
        if added or widened:
            database.execute(
                f"UPDATE {PREFIX}tables SET columns = ? WHERE id = ?",
                (json.dumps(table.columns.kept()), table.id),
            )

    def _widen(self, table: str, column: str, old: Kind) -> None:
        """A column of numbers would turn the text `007` into 7, so it becomes a column of text."""
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
            clash = f" ON CONFLICT ({quoted(KEY)}) DO " + (f"UPDATE SET {sets}" if sets else "NOTHING")
            names.append(quoted(KEY))
            rows = [[*row, key] for row, key in zip(rows, table.rows, strict=True)]
        else:
            clash = ""
        if not names:  # records without a field
            self.commit_log.database.executemany(
                f"INSERT INTO {quoted(table.name)} DEFAULT VALUES", [()] * len(rows)
            )
            return
        marks = ", ".join("?" * len(names))
        self.commit_log.database.executemany(
            f"INSERT INTO {quoted(table.name)} ({', '.join(names)}) VALUES ({marks}){clash}", rows
        )
