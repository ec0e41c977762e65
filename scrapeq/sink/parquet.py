"""
Items as Parquet: a folder with part files for each resource.

A Parquet file cannot be appended to. Committed items therefore wait in a spool beside the parts, a hidden file of JSON
Lines, until it is large or old enough, or until the run ends. A part gets its final name once it is complete. If the
process is killed before the ledger records the part, the next part with the same number replaces it.
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
from scrapeq.sink.appended import PART_STARTED, AppendedFile
from scrapeq.sink.columns import Columns, Kind
from scrapeq.sink.durable import sync_folder
from scrapeq.sink.files import FileSink
from scrapeq.sink.output import SinkContext
from scrapeq.sink.output_paths import part_numbers, part_path

PART_BYTES = 64 * 1024 * 1024  # of JSON in the spool, if the output sets no `rotate`
ROW_GROUP_SIZE = 10_000  # rows in memory at once
PART_NAME = "part.parquet"
SPOOL_NAME = ".part.jsonl"
COMPRESSION = "zstd"
# Keys in the `meta` of a spool:
LAST_PART = "parts"  # the number of the last part
COLUMNS = "columns"
WRITING_SUFFIX = ".writing"

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
        spool = replace(output, rotate_bytes=None, rotate_s=None)
        super().__init__(spool, context, file_name="${resource}/" + SPOOL_NAME)

    def write_file(self, file: AppendedFile) -> None:
        """Append to the spool. If the spool is due, write its content as a part first."""
        if LAST_PART not in file.meta:  # existing parts of another program or of a lost spool stay untouched
            file.meta[LAST_PART] = max(part_numbers(file.path.with_name(PART_NAME)), default=0)
        if file.length >= self._part_bytes or file.is_older_than(self._part_s):
            self._make_part(file)
        file.append()

    def finish(self) -> None:
        """Write the content of every spool as a part, including spools that an earlier run has left."""
        for state in self.ledger.files():
            if (
                state.path.name == SPOOL_NAME
                and state.length
                and self.context.claim(state.path, self) is self
            ):
                self._make_part(self.files.get(state.path) or self.open_file(state.path))

    def on_idle(self) -> None:
        """Write the content of every spool that is old enough as a part."""
        for file in self.files.values():
            if file.is_older_than(self._part_s):
                self._make_part(file)

    def _make_part(self, file: AppendedFile) -> None:
        """Write the committed content of the spool as a part, record that in the ledger, and empty the spool."""
        columns = Columns(cast("dict[str, tuple[str, Kind]]", file.meta.get(COLUMNS) or {}))
        for records in _row_groups(file.path, file.length):
            columns.update(records)
        for column in columns.by_field.values():
            column.kind = column.kind or "text"  # a column of nulls is text, and stays text in later parts
        number = int(cast(int, file.meta.get(LAST_PART) or 0)) + 1
        path = part_path(file.path.with_name(PART_NAME), number)
        _write(path, columns, _row_groups(file.path, file.length))
        file.meta[LAST_PART], file.meta[COLUMNS] = number, columns.as_meta()
        file.meta.pop(PART_STARTED, None)
        file.replace(0)
        os.truncate(file.path, 0)


def _row_groups(path: Path, length: int) -> Iterator[list[dict[str, Any]]]:
    """Yield the records of a spool up to its committed length, `ROW_GROUP_SIZE` at a time."""
    with path.open("rb") as lines:
        left = length
        while left > 0:
            group = []
            for line in itertools.islice(lines, ROW_GROUP_SIZE):
                left -= len(line)
                group.append(orjson.loads(line))
                if left <= 0:
                    break
            if not group:
                return
            yield group


def _write(path: Path, columns: Columns, groups: Iterator[list[dict[str, Any]]]) -> None:
    """Write a part under a temporary name, sync it to the disk, and rename it."""
    fields = list(columns.by_field.values())
    schema = pa.schema([pa.field(column.name, TYPES[column.kind]) for column in fields])
    writing = path.with_name(path.name + WRITING_SUFFIX)
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
