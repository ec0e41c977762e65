"""What a commit adds to one table of a database: kept until the transaction of the books."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from scrapeq import plan
from scrapeq.sink.columns import Columns
from scrapeq.sink.output import Record
from scrapeq.sink.seen import Seen, look_up


class StagedTable:
    """
    A table, its columns, and what this commit adds.

    Args:
        seen: What it has seen.
        columns: Its columns.
        key: Merge: what a record is known by in the table, of which the newest stays. None: each is a row of its own.
    """

    def __init__(self, seen: Seen, columns: Columns, key: Callable[[Record], str] | None) -> None:
        self.seen = seen
        self.columns = columns
        self.there = False
        self.rows: dict[str, dict[str, Any]] = {}  # by key
        self.added: list[dict[str, Any]] = []
        self._key = key

    @property
    def changed(self) -> list[dict[str, Any]]:
        """The records to write."""
        return [*self.rows.values(), *self.added]

    def take(self, record: Record) -> bool:
        """Keep a record's row, if it is new or changed; whether it is."""
        if not self.seen.is_new(record):
            return False
        if self._key is None:
            self.added.append(record.item.record)
        else:
            key = self._key(record)
            self.rows.pop(key, None)
            self.rows[key] = record.item.record
        return True

    def forget(self) -> None:
        """What is staged has been committed."""
        self.rows, self.added = {}, []
        self.seen.forget()


Table = TypeVar("Table", bound=StagedTable)


def stage(placed: Sequence[tuple[Table, Record]]) -> list[bool]:
    """Keep the rows that are new or changed in their tables; which are."""
    look_up((table.seen, record) for table, record in placed)
    return [table.take(record) for table, record in placed]


def row_key(output: plan.Output, record: Record) -> str:
    """What a record is known by in its table; where several resources share one, the resource is part of it."""
    key = record.item.key or record.digest.hex()
    if output.table is not None and "resource" not in output.table.names:
        return f"{record.item.resource}/{key}"
    return key
