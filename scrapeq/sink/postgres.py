"""
Items as rows of a PostgreSQL database: columns by type, nested values as jsonb, upsert by key.

The books (what each table has seen, the newest lease tokens) are tables of the same schema, so that rows, digests and
tokens are one transaction; several machines may write, and a stale lease is refused whichever of them it comes from.
A connection that is lost is made again and the commit repeated; if it had succeeded, the repeat finds its digests.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import psycopg
from psycopg import sql
from psycopg.types.json import Jsonb, set_json_dumps

from scrapeq import plan
from scrapeq.errors import OutputError, UsageError
from scrapeq.sink.columns import Columns, Kind, as_json
from scrapeq.sink.output import CapturedResponse, Record, SinkContext
from scrapeq.sink.output_paths import rendered
from scrapeq.sink.postgres_commit_log import CONNECT_TIMEOUT_S, PostgresCommitLog, refused
from scrapeq.sink.seen import Seen, disposition_of
from scrapeq.sink.staged import StagedTable, row_key, stage

KEY = "_scrapeq_key"
NAME_MAX_BYTES = 63
INSERT_MAX_VALUES = 30_000  # of one statement; the protocol has 65,535
TYPES: dict[Kind, str] = {
    "": "text",
    "bool": "boolean",
    "int": "bigint",
    "float": "double precision",
    "text": "text",
    "json": "jsonb",
}

set_json_dumps(as_json)


def quoted(*names: str) -> sql.SQL:
    """An identifier, in a statement with values: a percent sign in it is doubled for the driver."""
    return sql.SQL(".".join('"' + name.replace('"', '""').replace("%", "%%") + '"' for name in names))


class _Table(StagedTable):
    """A table of a schema."""

    def __init__(
        self,
        id_: int,
        schema: str,
        name: str,
        seen: Seen,
        columns: Columns,
        key: Callable[[Record], str] | None,
    ) -> None:
        super().__init__(seen, columns, key)
        self.id = id_
        self.schema = schema
        self.name = name

    @property
    def named(self) -> sql.SQL:
        """Its name, quoted."""
        return quoted(self.schema, self.name) if self.schema else quoted(self.name)


class PostgresSink:
    """An output of tables in one database (`output.OutputSink`)."""

    def __init__(self, output: plan.Output, context: SinkContext) -> None:
        if not output.url:
            raise UsageError("postgres: url is missing")
        self.output = output
        self.context = context
        self.mode = disposition_of(output, "merge", ("merge", "append", "append_changes"))
        self._commit_log: PostgresCommitLog | None = None
        self._tables: dict[str, _Table] = {}

    @property
    def title(self) -> str:
        """What a person calls it; never with the password."""
        return "postgres"

    @property
    def commit_log(self) -> PostgresCommitLog:
        """Those of its database, once it is open."""
        assert self._commit_log is not None
        return self._commit_log

    def open(self) -> None:
        """Connect, and make the books. Raises OutputError; OutputAway while the server cannot be reached."""
        try:
            connection = psycopg.connect(
                self.output.url,
                autocommit=True,
                connect_timeout=CONNECT_TIMEOUT_S,
                application_name="scrapeq",
            )
        except psycopg.Error as error:
            raise refused(error, self.output.url) from None
        self._commit_log = PostgresCommitLog(connection)
        self.context.join(self._commit_log)
        try:
            self._commit_log.create()
        except psycopg.Error as error:
            raise refused(error) from None

    def stage(self, records: Sequence[Record], answers: Sequence[CapturedResponse]) -> Iterable[bool]:
        """Keep the rows that are new or changed."""
        try:
            return stage([(self._table(record), record) for record in records])
        except psycopg.Error as error:
            raise refused(error) from None

    def _key(self, record: Record) -> str:
        return row_key(self.output, record).replace("\0", "\ufffd")

    def write(self) -> None:
        """Into the transaction."""
        try:
            self.commit_log.begin()
            for table in self._tables.values():
                if table.rows or table.added:
                    self._fit(table)
                    self._insert(table)
                    table.seen.save()
        except psycopg.Error as error:
            raise refused(error) from None

    def commit(self) -> None:
        """The books commit; what is staged is theirs now."""
        for table in self._tables.values():
            table.forget()

    def abandon(self) -> None:
        """The books give up the transaction; all else is forgotten by `close`."""

    def close(self) -> None:
        """Forget the connection; the context closes it."""
        self._tables, self._commit_log = {}, None

    def _table(self, record: Record) -> _Table:
        item = record.item
        name = (
            rendered(self.output.table, item.resource, _undotted(item.seed))
            if self.output.table
            else item.resource
        )
        schema, _, bare = name.rpartition(".")
        table = self._tables.get(f"{schema}.{bare}")
        if table is None:
            table = self._tables[f"{schema}.{bare}"] = self._open_table(schema, bare)
        return table

    def _open_table(self, schema: str, name: str) -> _Table:
        cut = name.replace("\0", "_").encode()[:NAME_MAX_BYTES].decode(errors="ignore")
        if not cut or cut.startswith("_scrapeq_"):
            raise OutputError(f"postgres: {name!r} is no name for a table; set table:")
        id_, meta = self.commit_log.table_id(f"{schema}.{cut}" if schema else cut)
        seen = Seen(self.commit_log, id_, append=self.mode == "append", run=self.context.run)
        there = self.commit_log.columns_of(schema, cut)
        if not there and meta:
            self.commit_log.forget_items(id_)
        if there and not meta and self.mode == "merge" and KEY not in there:
            raise OutputError(
                f"postgres: the table {name} is somebody else's: it has no column {KEY}; "
                "name another with table:, or set write_disposition: append_changes"
            )
        known = {field: column for field, column in meta.items() if column[0] in there}
        columns = Columns(known, longest=NAME_MAX_BYTES, taken=(KEY,))
        table = _Table(id_, schema, cut, seen, columns, self._key if self.mode == "merge" else None)
        table.there = bool(there)
        if there and self.mode == "merge" and self.commit_log.rows_are_missing(table.named, id_):
            self.commit_log.forget_items(id_)
        return table

    def _fit(self, table: _Table) -> None:
        """Make the table, add the columns that are new, widen those whose values are of another type now."""
        added, widened = table.columns.learn(table.changed)
        if table.there and not added and not widened:
            return
        commit_log, named, by_field = self.commit_log, table.named, table.columns.by_field
        commit_log.lock_tables()
        if table.schema:
            commit_log.run(sql.SQL("CREATE SCHEMA IF NOT EXISTS {}").format(quoted(table.schema)))
        columns = [_defined(by_field[field].name, by_field[field].kind) for field in by_field]
        if not table.there:
            if self.mode == "merge":
                columns.append(sql.SQL("{} text PRIMARY KEY").format(quoted(KEY)))
            commit_log.run(
                sql.SQL("CREATE TABLE IF NOT EXISTS {} ({})").format(named, sql.SQL(", ").join(columns))
            )
            table.there = True
            added = list(by_field)  # another machine may have made it before
        there = commit_log.columns_of(table.schema, table.name)
        for field in added:
            column = by_field[field]
            if column.name not in there:
                add = sql.SQL("ALTER TABLE {} ADD COLUMN IF NOT EXISTS {}")
                commit_log.run(add.format(named, _defined(column.name, column.kind)))
            elif column.name in there and there[column.name] != TYPES[column.kind]:
                widened[field] = column.kind
        for field in widened:
            column = by_field[field]
            if there.get(column.name, "") != TYPES[column.kind]:
                name, kind = quoted(column.name), sql.SQL(TYPES[column.kind])
                alter = sql.SQL("ALTER TABLE {} ALTER COLUMN {} TYPE {} USING {}::text::{}")
                commit_log.run(alter.format(named, name, kind, name, kind))
        commit_log.keep_columns(
            f"{table.schema}.{table.name}" if table.schema else table.name, table.columns.kept()
        )

    def _insert(self, table: _Table) -> None:
        columns = list(table.columns.by_field.values())
        names = [quoted(column.name) for column in columns]
        rows = [_values(table.columns, record) for record in table.changed]
        clash: sql.Composable = sql.SQL("")
        if self.mode == "merge":
            sets = [sql.SQL("{0} = excluded.{0}").format(name) for name in names]
            do = sql.SQL("UPDATE SET {}").format(sql.SQL(", ").join(sets)) if sets else sql.SQL("NOTHING")
            clash = sql.SQL(" ON CONFLICT ({}) DO {}").format(quoted(KEY), do)
            names.append(quoted(KEY))
            rows = sorted(
                ([*row, key] for row, key in zip(rows, table.rows, strict=True)), key=lambda row: str(row[-1])
            )
        if not names:
            for _ in rows:
                self.commit_log.run(sql.SQL("INSERT INTO {} DEFAULT VALUES").format(table.named))
            return
        one = sql.SQL("({})").format(sql.SQL(", ").join([sql.Placeholder()] * len(names)))
        step = max(1, INSERT_MAX_VALUES // len(names))
        for at in range(0, len(rows), step):
            some = rows[at : at + step]
            insert = sql.SQL("INSERT INTO {} ({}) VALUES {}{}").format(
                table.named, sql.SQL(", ").join(names), sql.SQL(", ").join([one] * len(some)), clash
            )
            self.commit_log.run(insert, [value for row in some for value in row])


def _defined(name: str, kind: Kind) -> sql.Composed:
    return sql.SQL("{} {}").format(quoted(name), sql.SQL(TYPES[kind]))


def _undotted(seed: Any) -> dict[str, Any]:
    """A dot in a value is no schema's."""
    return {key: value.replace(".", "_") if isinstance(value, str) else value for key, value in seed.items()}


def _values(columns: Columns, record: dict[str, Any]) -> list[Any]:
    """A row; PostgreSQL has no NUL in texts."""
    row: list[Any] = []
    for (field, column), value in zip(columns.by_field.items(), columns.row(record), strict=True):
        if column.kind == "json" and value is not None:
            row.append(Jsonb(_without_nul(record[field])))
        else:
            row.append(value.replace("\0", "\ufffd") if isinstance(value, str) else value)
    return row


def _without_nul(value: Any) -> Any:
    if isinstance(value, str):
        return value.replace("\0", "\ufffd")
    if isinstance(value, dict):
        return {_without_nul(key): _without_nul(inner) for key, inner in value.items()}
    return [_without_nul(inner) for inner in value] if isinstance(value, list) else value
