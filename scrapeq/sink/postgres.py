"""
Items as rows in a PostgreSQL database: typed columns, nested values as jsonb, upserts by key.

The commit log is stored in the same database, so that rows, digests and lease tokens are one transaction. Several
machines may write, and a stale lease is rejected whichever machine it comes from. After a lost connection the sink
reconnects and repeats the commit. If that commit had succeeded after all, the repetition finds its digests.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import psycopg
from psycopg import sql
from psycopg.types.json import Jsonb, set_json_dumps

from scrapeq import plan
from scrapeq.errors import OutputError, UsageError
from scrapeq.sink.columns import REST_FIELD, Columns, Kind, as_json, rest_note
from scrapeq.sink.output import CapturedResponse, Record, SinkContext
from scrapeq.sink.output_paths import render_name
from scrapeq.sink.postgres_commit_log import CONNECT_TIMEOUT_S, PostgresCommitLog, output_error
from scrapeq.sink.seen import Seen, disposition_of
from scrapeq.sink.staged import StagedTable, row_key, stage

KEY = "_scrapeq_key"
NAME_MAX_BYTES = 63
COLUMNS_MAX = 1000  # PostgreSQL allows 1,600, but a row must fit into 8 KB
INSERT_MAX_VALUES = 30_000  # parameters of one statement; the protocol allows 65,535
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
    """Return a quoted identifier. Percent signs are doubled, since the driver formats the statement."""
    return sql.SQL(".".join('"' + name.replace('"', '""').replace("%", "%%") + '"' for name in names))


class _Table(StagedTable):
    """One table, perhaps in a schema."""

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
    def qualified_name(self) -> sql.SQL:
        """The quoted name, with the schema."""
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
        """The name of the output in error messages; it must not contain the password."""
        return "postgres"

    @property
    def commit_log(self) -> PostgresCommitLog:
        """The commit log of the database, once it is open."""
        assert self._commit_log is not None
        return self._commit_log

    def open(self) -> None:
        """Connect and create the commit log. Raises OutputError; OutputUnavailable if the server is not reachable."""
        try:
            connection = psycopg.connect(
                self.output.url,
                autocommit=True,
                connect_timeout=CONNECT_TIMEOUT_S,
                application_name="scrapeq",
            )
        except psycopg.Error as error:
            raise output_error(error, self.output.url) from None
        self._commit_log = PostgresCommitLog(connection)
        self.context.join(self._commit_log)
        try:
            self._commit_log.create()
        except psycopg.Error as error:
            raise output_error(error) from None

    def stage(self, records: Sequence[Record], responses: Sequence[CapturedResponse]) -> Iterable[bool]:
        """Stage the rows that are new or changed."""
        try:
            return stage([(self._table(record), record) for record in records])
        except psycopg.Error as error:
            raise output_error(error) from None

    def _key(self, record: Record) -> str:
        return row_key(self.output, record).replace("\0", "\ufffd")

    def write(self) -> None:
        """Write the staged rows, in the transaction of the commit log."""
        try:
            self.commit_log.begin()
            for table in self._tables.values():
                if table.rows or table.appended:
                    self._migrate(table)
                    self._insert(table)
                    table.seen.save()
        except psycopg.Error as error:
            raise output_error(error) from None

    def commit(self) -> None:
        """Forget the staged rows: the commit log commits them."""
        for table in self._tables.values():
            table.clear()

    def abandon(self) -> None:
        """Do nothing: the commit log rolls back, and `close` drops the staged rows."""

    def close(self) -> None:
        """Drop the staged rows; the context closes the connection."""
        self._tables, self._commit_log = {}, None

    def _table(self, record: Record) -> _Table:
        item = record.item
        name = (
            render_name(self.output.table, item.resource, _without_dots(item.seed))
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
            raise OutputError(f"postgres: {name!r} is not allowed as the name of a table; set table:")
        id_, meta = self.commit_log.table_id(f"{schema}.{cut}" if schema else cut)
        seen = Seen(self.commit_log, id_, append=self.mode == "append", run=self.context.run)
        existing = self.commit_log.columns_of(schema, cut)
        if not existing and meta:
            self.commit_log.forget_items(id_)
        if existing and not meta and self.mode == "merge" and KEY not in existing:
            raise OutputError(
                f"postgres: the table {name} was not created by scrapeq (it lacks the column {KEY}); "
                "choose another with table:, or set write_disposition: append_changes"
            )
        known = {field: column for field, column in meta.items() if column[0] in existing}
        columns = Columns(known, max_name_bytes=NAME_MAX_BYTES, taken=(KEY,), most=COLUMNS_MAX)
        table = _Table(id_, schema, cut, seen, columns, self._key if self.mode == "merge" else None)
        table.exists = bool(existing)
        if existing and self.mode == "merge" and self.commit_log.has_lost_rows(table.qualified_name, id_):
            self.commit_log.forget_items(id_)
        return table

    def _migrate(self, table: _Table) -> None:
        """Create the table, add missing columns, and change the type of columns whose values no longer fit."""
        added, widened = table.columns.update(table.changed)
        if REST_FIELD in added:
            self.context.note(rest_note(table.name, len(table.columns.by_field) - 1))
        if table.exists and not added and not widened:
            return
        commit_log, qualified_name, by_field = self.commit_log, table.qualified_name, table.columns.by_field
        commit_log.lock_tables()
        if table.schema:
            commit_log.run(sql.SQL("CREATE SCHEMA IF NOT EXISTS {}").format(quoted(table.schema)))
        columns = [_column_definition(by_field[field].name, by_field[field].kind) for field in by_field]
        if not table.exists:
            if self.mode == "merge":
                columns.append(sql.SQL("{} text PRIMARY KEY").format(quoted(KEY)))
            commit_log.run(
                sql.SQL("CREATE TABLE IF NOT EXISTS {} ({})").format(
                    qualified_name, sql.SQL(", ").join(columns)
                )
            )
            table.exists = True
            added = list(by_field)  # another machine may have created the table first
        existing = commit_log.columns_of(table.schema, table.name)
        for field in added:
            column = by_field[field]
            if column.name not in existing:
                add = sql.SQL("ALTER TABLE {} ADD COLUMN IF NOT EXISTS {}")
                commit_log.run(add.format(qualified_name, _column_definition(column.name, column.kind)))
            elif existing[column.name] != TYPES[column.kind]:
                widened[field] = column.kind
        for field in widened:
            column = by_field[field]
            if existing.get(column.name, "") != TYPES[column.kind]:
                name, kind = quoted(column.name), sql.SQL(TYPES[column.kind])
                alter = sql.SQL("ALTER TABLE {} ALTER COLUMN {} TYPE {} USING {}::text::{}")
                commit_log.run(alter.format(qualified_name, name, kind, name, kind))
        commit_log.save_columns(
            f"{table.schema}.{table.name}" if table.schema else table.name, table.columns.as_meta()
        )

    def _insert(self, table: _Table) -> None:
        columns = list(table.columns.by_field.values())
        names = [quoted(column.name) for column in columns]
        rows = [_values(table.columns, record) for record in table.changed]
        on_conflict: sql.Composable = sql.SQL("")
        if self.mode == "merge":
            sets = [sql.SQL("{0} = excluded.{0}").format(name) for name in names]
            do = sql.SQL("UPDATE SET {}").format(sql.SQL(", ").join(sets)) if sets else sql.SQL("NOTHING")
            on_conflict = sql.SQL(" ON CONFLICT ({}) DO {}").format(quoted(KEY), do)
            names.append(quoted(KEY))
            rows = sorted(
                ([*row, key] for row, key in zip(rows, table.rows, strict=True)), key=lambda row: str(row[-1])
            )
        if not names:
            for _ in rows:
                self.commit_log.run(sql.SQL("INSERT INTO {} DEFAULT VALUES").format(table.qualified_name))
            return
        one = sql.SQL("({})").format(sql.SQL(", ").join([sql.Placeholder()] * len(names)))
        step = max(1, INSERT_MAX_VALUES // len(names))
        for at in range(0, len(rows), step):
            some = rows[at : at + step]
            insert = sql.SQL("INSERT INTO {} ({}) VALUES {}{}").format(
                table.qualified_name,
                sql.SQL(", ").join(names),
                sql.SQL(", ").join([one] * len(some)),
                on_conflict,
            )
            self.commit_log.run(insert, [value for row in some for value in row])


def _column_definition(name: str, kind: Kind) -> sql.Composed:
    return sql.SQL("{} {}").format(quoted(name), sql.SQL(TYPES[kind]))


def _without_dots(seed: Any) -> dict[str, Any]:
    """Return the seed with dots in its values replaced: in the name of a table, a dot ends the schema."""
    return {key: value.replace(".", "_") if isinstance(value, str) else value for key, value in seed.items()}


def _values(columns: Columns, record: dict[str, Any]) -> list[Any]:
    """Return the values of a row, without NUL characters, which PostgreSQL does not allow in text."""
    row: list[Any] = []
    for (field, column), value in zip(columns.by_field.items(), columns.row(record), strict=True):
        if column.kind == "json" and value is not None:
            nested = columns.rest(record) if field == REST_FIELD else record[field]
            row.append(Jsonb(_without_nul(nested)))
        else:
            row.append(value.replace("\0", "\ufffd") if isinstance(value, str) else value)
    return row


def _without_nul(value: Any) -> Any:
    if isinstance(value, str):
        return value.replace("\0", "\ufffd")
    if isinstance(value, dict):
        return {_without_nul(key): _without_nul(inner) for key, inner in value.items()}
    return [_without_nul(inner) for inner in value] if isinstance(value, list) else value
