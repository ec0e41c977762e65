"""The commit log of a PostgreSQL output: tables in the same database, shared by all machines that write to it."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Sequence
from typing import Any
from urllib.parse import unquote

import psycopg
from psycopg import sql
from psycopg.types.json import Jsonb

from scrapeq.errors import OutputError
from scrapeq.sink.columns import Kind
from scrapeq.sink.commit_log import APPENDED_AGE_DAYS, DAY_S, PRUNE_EVERY_COMMITS, TOKEN_AGE_US, Token
from scrapeq.sink.output import OutputUnavailable

CONNECT_TIMEOUT_S = 10
DDL_LOCK = 0x5C7A9E01  # advisory lock: one writer at a time creates and alters tables

_SCHEMA = """
CREATE TABLE IF NOT EXISTS _scrapeq_tables (id serial PRIMARY KEY, name text NOT NULL UNIQUE, columns jsonb NOT NULL);
CREATE TABLE IF NOT EXISTS _scrapeq_items (target integer NOT NULL, key bytea NOT NULL, digest bytea NOT NULL,
    PRIMARY KEY (target, key));
CREATE TABLE IF NOT EXISTS _scrapeq_appended (target integer NOT NULL, key bytea NOT NULL, day integer NOT NULL,
    PRIMARY KEY (target, key));
CREATE TABLE IF NOT EXISTS _scrapeq_tokens (task text PRIMARY KEY, clock_us bigint NOT NULL, nonce bigint NOT NULL);
CREATE INDEX IF NOT EXISTS _scrapeq_tokens_by_age ON _scrapeq_tokens (clock_us)
"""
_PASSWORD = re.compile(r"(password\s*=\s*)('(?:[^'\\]|\\.)*'|\S+)|(//[^:/@\s]*:)[^@\s]+@", re.IGNORECASE)

_IN_URL = re.compile(r"://[^/?#@:]*:([^@/?#]*)@")

# SQLSTATE classes and codes where a retry may help: server or network trouble, or a conflict with another writer
_UNAVAILABLE_STATES = ("08", "57P", "53", "40", "42804", "42703", "42P01", "42P07", "42701", "23505")


def output_error(error: psycopg.Error, url: str = "") -> OutputError:
    """Return an error of the driver as an OutputError, without any password, in particular that of `url`."""
    message = " ".join(str(error).split()) or type(error).__name__
    found = _IN_URL.search(url)
    password = found[1] if found else ""
    for secret in (url, password, unquote(password)):
        message = message.replace(secret, "***") if secret else message
    message = _PASSWORD.sub(lambda found: f"{found[1] or found[3]}***" + ("@" if found[3] else ""), message)
    state = error.sqlstate or ""
    is_unavailable = state.startswith(_UNAVAILABLE_STATES) or (
        not state and isinstance(error, psycopg.OperationalError | psycopg.InterfaceError)
    )
    kind = OutputUnavailable if is_unavailable else OutputError
    return kind(f"postgres: the output cannot be written: {message}")


class PostgresCommitLog:
    """
    The commit log in one database (`output.CommitLog`, and the store of `seen.Seen`).

    Args:
        connection: A connection in autocommit mode. `close` closes it.
    """

    shared = True

    def __init__(self, connection: psycopg.Connection[Any]) -> None:
        self._connection = connection
        self._open = False
        self._commits = 0

    def create(self) -> None:
        """Create the tables of the commit log, and delete entries that are too old."""
        self.begin()
        self.lock_tables()
        for statement in _SCHEMA.split(";"):
            self._connection.execute(statement.encode())
        newest = self._one("SELECT max(day) FROM _scrapeq_appended") or 0
        self._connection.execute(
            "DELETE FROM _scrapeq_appended WHERE day < %s", (newest - APPENDED_AGE_DAYS,)
        )
        self._prune()
        self.commit()

    def run(self, statement: sql.Composed, values: Sequence[Any] = ()) -> None:
        """Execute a statement in the open transaction. Raises psycopg.Error."""
        self._connection.execute(statement, values)

    def begin(self) -> None:
        """Begin a transaction, unless one is open."""
        if not self._open:
            self._run("BEGIN")
            self._open = True

    def commit(self) -> None:
        """Commit durably. Raises OutputUnavailable if it is unknown whether it succeeded; a repetition finds out."""
        if not self._open:
            return
        self._commits += 1
        if self._commits % PRUNE_EVERY_COMMITS == 0:
            self._prune()
        self._run("COMMIT")
        self._open = False

    def rollback(self) -> None:
        """Roll back the open transaction, if there is one."""
        if self._open:
            self._open = False
            self._run("ROLLBACK")

    def close(self) -> None:
        """Close the connection. Safe to call twice."""
        self._connection.close()

    def lock_tables(self) -> None:
        """Keep other writers from creating or altering tables until the transaction ends."""
        self._connection.execute("SELECT pg_advisory_xact_lock(%s)", (DDL_LOCK,))

    def tokens(self, tasks: Iterable[str]) -> dict[str, Token]:
        """Return the newest token of each task, locked against other machines until the transaction ends."""
        names = sorted(task.replace("\0", "\ufffd") for task in tasks)
        try:
            self.begin()
            self._connection.execute(
                "INSERT INTO _scrapeq_tokens SELECT unnest(%s::text[]), 0, 0 ON CONFLICT DO NOTHING", (names,)
            )
            rows = self._connection.execute(
                "SELECT task, clock_us, nonce FROM _scrapeq_tokens WHERE task = ANY(%s) ORDER BY task FOR UPDATE",
                (names,),
            ).fetchall()
        except psycopg.Error as error:
            raise output_error(error) from None
        return {task: (clock_us, nonce) for task, clock_us, nonce in rows if clock_us}

    def set_tokens(self, tokens: dict[str, Token]) -> None:
        """Store the newest token of each task, in the open transaction."""
        rows = [(task.replace("\0", "\ufffd"), *token) for task, token in tokens.items()]
        self._run(
            "UPDATE _scrapeq_tokens SET clock_us = new.clock_us, nonce = new.nonce "
            "FROM unnest(%s::text[], %s::bigint[], %s::bigint[]) AS new(task, clock_us, nonce) "
            "WHERE _scrapeq_tokens.task = new.task",
            tuple([row[at] for row in rows] for at in range(3)),
        )

    # --- the records of each table

    def known(self, target: int, keys: Sequence[bytes], *, append: bool) -> dict[bytes, bytes]:
        """Return the digest of each of these records that was written; b"" for appended ones."""
        table = "_scrapeq_appended" if append else "_scrapeq_items"
        value = "''::bytea" if append else "digest"
        find = f"SELECT key, {value} FROM {table} WHERE target = %s AND key = ANY(%s)"
        rows = self._connection.execute(find.encode(), (target, list(keys))).fetchall()
        return {bytes(key): bytes(digest) for key, digest in rows}

    def set_digests(self, rows: list[tuple[int, bytes, bytes]]) -> None:
        """Remember (table, key, digest) of written items."""
        ordered = sorted(rows)
        self._connection.execute(
            "INSERT INTO _scrapeq_items SELECT * FROM unnest(%s::integer[], %s::bytea[], %s::bytea[]) "
            "ON CONFLICT (target, key) DO UPDATE SET digest = excluded.digest",
            tuple([row[at] for row in ordered] for at in range(3)),
        )

    def set_appended(self, target: int, keys: Iterable[bytes]) -> None:
        """Remember the keys of appended records."""
        self._connection.execute(
            "INSERT INTO _scrapeq_appended SELECT %s, unnest(%s::bytea[]), %s ON CONFLICT DO NOTHING",
            (target, sorted(keys), int(time.time() // DAY_S)),
        )

    def forget_items(self, target: int) -> None:
        """Forget the items of a table that lost its content, so that they are written again."""
        self.begin()
        self._connection.execute("DELETE FROM _scrapeq_items WHERE target = %s", (target,))
        self._connection.execute("DELETE FROM _scrapeq_appended WHERE target = %s", (target,))

    # --- tables

    def table_id(self, name: str) -> tuple[int, dict[str, tuple[str, Kind]]]:
        """Return the number of a table in the commit log, and its columns; add the table if it is new."""
        self.begin()
        self._connection.execute(
            "INSERT INTO _scrapeq_tables (name, columns) VALUES (%s, '{}') ON CONFLICT DO NOTHING", (name,)
        )
        row = self._connection.execute(
            "SELECT id, columns FROM _scrapeq_tables WHERE name = %s", (name,)
        ).fetchone()
        assert row is not None
        return row[0], {field: (column, kind) for field, (column, kind) in row[1].items()}

    def save_columns(self, name: str, columns: dict[str, tuple[str, Kind]]) -> None:
        """Store the columns of a table; columns that another machine has added stay."""
        self._connection.execute(
            "UPDATE _scrapeq_tables SET columns = columns || %s WHERE name = %s", (Jsonb(columns), name)
        )

    def columns_of(self, schema: str, name: str) -> dict[str, str]:
        """Return the columns of a table in the database, with their types; empty if the table does not exist."""
        rows = self._connection.execute(
            "SELECT attname, format_type(atttypid, atttypmod) FROM pg_attribute "
            "WHERE attrelid = to_regclass(%s) AND attnum > 0 AND NOT attisdropped",
            (".".join('"' + part.replace('"', '""') + '"' for part in (schema, name) if part),),
        ).fetchall()
        return {str(column): str(type_) for column, type_ in rows}

    def has_lost_rows(self, table: sql.SQL, target: int) -> bool:
        """Return whether rows were deleted: their items have to be written again when they come again."""
        rows = self._connection.execute(sql.SQL("SELECT count(*) FROM {}").format(table), ()).fetchone()
        known = self._one(f"SELECT count(*) FROM _scrapeq_items WHERE target = {target:d}")
        return bool(rows and rows[0] < known)

    def _prune(self) -> None:
        newest = self._one("SELECT max(clock_us) FROM _scrapeq_tokens")
        if newest is not None:
            self._run("DELETE FROM _scrapeq_tokens WHERE clock_us < %s", (newest - TOKEN_AGE_US,))

    def _one(self, query: str) -> Any:
        row = self._connection.execute(query.encode()).fetchone()
        return row[0] if row else None

    def _run(self, statement: str, values: Sequence[Any] = ()) -> None:
        try:
            self._connection.execute(statement.encode(), values)
        except psycopg.Error as error:
            raise output_error(error) from None
