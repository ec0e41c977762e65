"""The rows that a commit adds to one table of a database, collected until the transaction."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from scrapeq import plan
from scrapeq.sink.columns import Columns
from scrapeq.sink.output import Record
from scrapeq.sink.seen import Seen, identity_text, look_up


class StagedTable:
    """
    A table, its columns, and the rows that the current commit adds.

    Args:
        seen: The records that the table has.
        columns: The columns of the table.
        key: For `merge`: returns the key of a record in the table, which has one row per key, the newest.
            None: every record becomes a row.

    Attributes:
        exists: The table exists in the database.
        rows: The rows to insert or update, by key.
        appended: The rows to append.
    """

    def __init__(self, seen: Seen, columns: Columns, key: Callable[[Record], str] | None) -> None:
        self.seen = seen
        self.columns = columns
        self.exists = False
        self.rows: dict[str, dict[str, Any]] = {}
        self.appended: list[dict[str, Any]] = []
        self._key = key

    @property
    def changed(self) -> list[dict[str, Any]]:
        """The fields of all records to write."""
        return [*self.rows.values(), *self.appended]

    def add(self, record: Record) -> bool:
        """Stage a record if it is new or changed; return whether it is."""
        if not self.seen.add_if_new(record):
            return False
        if self._key is None:
            self.appended.append(record.item.record)
        else:
            key = self._key(record)
            self.rows.pop(key, None)
            self.rows[key] = record.item.record
        return True

    def clear(self) -> None:
        """Forget the staged rows after the commit."""
        self.rows, self.appended = {}, []
        self.seen.clear()


Table = TypeVar("Table", bound=StagedTable)


def stage(targeted: Sequence[tuple[Table, Record]]) -> list[bool]:
    """Stage the new and changed records in their tables; return for each record whether it is one."""
    look_up((table.seen, record) for table, record in targeted)
    return [table.add(record) for table, record in targeted]


def row_key(output: plan.Output, record: Record) -> str:
    """Return the key of a record in its table; it includes the resource if several resources share the table."""
    key = identity_text(record.item) or record.digest.hex()
    if output.table is not None and "resource" not in output.table.names:
        return f"{record.item.resource}/{key}"
    return key
