"""
Items as Parquet: part files in a folder for each resource.

A part is written once, so what is committed waits in a spool beside the parts, a hidden file of JSON Lines, until it is
large or old enough, or the run ends. A part gets its name when it is whole; if a kill comes before the ledger knows
it, the next one of that number replaces it.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from scrapeq import plan
from scrapeq.sink.appended import BEGAN, AppendedFile
from scrapeq.sink.columns import Columns, Kind
from scrapeq.sink.durable import sync_folder
from scrapeq.sink.files import FileSink
from scrapeq.sink.output import SinkContext
from scrapeq.sink.output_paths import numbered, parts_there

PART_BYTES = 64 * 1024 * 1024  # of JSON in the spool
GROUP_ROWS = 10_000  # of a row group: what is in memory at once
PART = "part.parquet"
SPOOL = ".part.jsonl"
COMPRESSION = "zstd"
PARTS, COLUMNS = "parts", "columns"  # in a spool's meta: the last part's number, the columns so far
WRITING = ".writing"

TYPES: dict[Kind, Any] = {
    "": pa.string(),
    "bool": pa.bool_(),
    "int": pa.int64(),
    "float": pa.float64(),
    "text": pa.string(),
    "json": pa.string(),
}


class ParquetSink(FileSink):
    """An output of Parquet files, `part-00001.parquet` and so on."""

    def __init__(self, output: plan.Output, context: SinkContext) -> None:
        self._part_bytes = output.rotate_bytes or PART_BYTES
        self._part_s = output.rotate_s
        # the spool itself has no parts
        spooled = replace(output, rotate_bytes=None, rotate_s=None)
        super().__init__(spooled, context, inside="${resource}/" + SPOOL)

    def write_file(self, file: AppendedFile) -> None:
        """Into the spool; what it held becomes a part first, when it is time."""
        if PARTS not in file.meta:  # parts of somebody else, or of a spool that is gone, are left alone
            file.meta[PARTS] = max(parts_there(file.path.with_name(PART)), default=0)
        if file.length >= self._part_bytes or file.is_older_than(self._part_s):
            self._make_part(file)
        file.append()

    def finish(self) -> None:
        """What waits in spools becomes parts, also what an earlier run has left."""
        for state in self.ledger.files():
            if state.path.name == SPOOL and state.length and self.context.claim(state.path, self) is self:
                self._make_part(self.files.get(state.path) or self.file_at(state.path))

    def rest(self) -> None:
        """A spool that is old enough becomes a part, though nothing is added to it."""
        for file in self.files.values():
            if file.is_older_than(self._part_s):
                self._make_part(file)

    def _make_part(self, file: AppendedFile) -> None:
        """A part of what is committed in the spool; the ledger knows it, then the spool is empty."""
        columns = Columns(cast("dict[str, tuple[str, Kind]]", file.meta.get(COLUMNS) or {}))
        for records in _groups(file.path, file.length):
            columns.learn(records)
        for column in columns.by_field.values():
            column.kind = column.kind or "text"  # nulls alone are a column of text, and it stays one
        number = int(cast(int, file.meta.get(PARTS) or 0)) + 1
        path = numbered(file.path.with_name(PART), number)
        _write(path, columns, _groups(file.path, file.length))
        file.meta[PARTS], file.meta[COLUMNS] = number, columns.kept()
        file.meta.pop(BEGAN, None)
        file.replace(0)
        os.truncate(file.path, 0)


def _groups(path: Path, length: int) -> Iterator[list[dict[str, Any]]]:
    """The records of a spool up to its committed length, some at a time."""
    with path.open("rb") as lines:
        left = length
        while left > 0:
            group = []
            for line in itertools.islice(lines, GROUP_ROWS):
                left -= len(line)
                group.append(orjson.loads(line))
                if left <= 0:
                    break
            if not group:
                return
            yield group


def _write(path: Path, columns: Columns, groups: Iterator[list[dict[str, Any]]]) -> None:
    """A part under another name, on the disk, then under its own."""
    fields = list(columns.by_field.values())
    schema = pa.schema([pa.field(column.name, TYPES[column.kind]) for column in fields])
    writing = path.with_name(path.name + WRITING)
    try:
        with writing.open("wb") as raw:
            with pq.ParquetWriter(raw, schema, compression=COMPRESSION) as writer:
                for records in groups:
                    rows = [columns.row(record) for record in records]
                    arrays = [
                        pa.array([row[at] for row in rows], TYPES[column.kind])
                        for at, column in enumerate(fields)
                    ]
                    if fields:
                        writer.write_table(pa.Table.from_arrays(arrays, schema=schema))
            raw.flush()
            os.fsync(raw.fileno())
        writing.replace(path)
    except BaseException:
        with suppress(OSError):
            writing.unlink()
        raise
    sync_folder(path.parent)
