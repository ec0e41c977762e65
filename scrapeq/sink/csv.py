"""
Items as CSV (RFC 4180, with LF line breaks): one header per file, nested values as JSON text, null as an empty cell.

The columns of a file are the fields of its first commit, in order. When a new field appears, the file is rewritten
under another name with the longer header and empty cells, and then replaces the old file. If the next part of a
rotating file is due, the new field goes into that part instead.
"""

from __future__ import annotations

import csv
import gzip
import io
import os
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, cast

import zstandard

from scrapeq import plan
from scrapeq.errors import OutputError
from scrapeq.sink.appended import GZIP_LEVEL, REWRITING, ZSTD_LEVEL, AppendedFile, rewrite_path
from scrapeq.sink.columns import as_cell
from scrapeq.sink.durable import sync_folder
from scrapeq.sink.files import FileSink
from scrapeq.sink.output import Record, SinkContext

COLUMNS = "columns"  # key in the `meta` of a file
FIELD_MAX_CHARS = 2**31 - 1
ENCODING = "utf-8-sig"  # for reading: spreadsheets start files with a byte order mark

csv.field_size_limit(FIELD_MAX_CHARS)


class CsvSink(FileSink):
    """An output of CSV files."""

    def __init__(self, output: plan.Output, context: SinkContext) -> None:
        super().__init__(output, context)
        self._rows: dict[AppendedFile, list[dict[str, Any]]] = {}

    def add(self, file: AppendedFile, record: Record) -> bool:
        """Collect the record; it becomes a line when the columns of the whole commit are known."""
        if not file.seen.add_if_new(record):
            return False
        self._rows.setdefault(file, []).append(record.item.record)
        self.mark_changed(file)
        return True

    def write_file(self, file: AppendedFile) -> None:
        """Write the rows of the commit, under a header with all their fields."""
        rows = self._rows.pop(file, [])
        columns = self._columns(file)
        known = set(columns)
        new = list(dict.fromkeys(name for row in rows for name in row if name not in known))
        if new:
            if file.needs_next_part():
                file.start_next_part()
            if file.length:
                _rewrite(file, [*columns, *new])
            columns = [*columns, *new]
            file.meta[COLUMNS] = columns
        if columns:
            file.pieces = [line([_cell(row.get(name)) for name in columns]) for row in rows]
        header = line(columns)
        file.append(header=lambda _: header)

    def _columns(self, file: AppendedFile) -> list[str]:
        """Return the columns of the file. A file that is older than its ledger has them in its first line."""
        columns = cast("list[str] | None", file.meta.get(COLUMNS))
        if columns is None and file.length:
            columns = _header(file.path)
            file.meta[COLUMNS] = columns
        return columns or []

    def abandon(self) -> None:
        """Drop the rows, and cut the files back."""
        self._rows = {}
        super().abandon()


def line(cells: list[str]) -> bytes:
    """Return one line of CSV."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(cells)
    return text.getvalue().encode()


def _cell(value: Any) -> str:
    return "" if value is None else as_cell(value)


def _header(path: Path) -> list[str]:
    """Return the cells of the first line of a file that scrapeq did not write."""
    try:
        with _open_text(path) as text:
            return next(csv.reader(text), [])
    except (ValueError, EOFError, OSError, csv.Error, zstandard.ZstdError) as error:
        raise OutputError(
            f"{path}: exists, but is not CSV in UTF-8 ({error}); move it away, or write to another path"
        ) from None


def _open_text(path: Path) -> IO[str]:
    """Open a file as text, decompressed if needed."""
    if path.suffix == ".gz":
        return gzip.open(path, "rt", encoding=ENCODING, newline="")
    raw: Any = path.open("rb")
    if path.suffix == ".zst":
        raw = zstandard.ZstdDecompressor().stream_reader(raw, read_across_frames=True, closefd=True)
    return io.TextIOWrapper(raw, encoding=ENCODING, newline="")


def _rewrite(file: AppendedFile, columns: list[str]) -> None:
    """Replace the file by one with these columns: write it, record it in the ledger, then rename it."""
    path = file.path
    file.close()
    with _open_text(path) as text, rewrite_path(path).open("wb") as raw:
        _write_lines(raw, path, _extended(csv.reader(text), columns))
        raw.flush()
        os.fsync(raw.fileno())
        length = raw.tell()
    file.meta[COLUMNS] = columns
    file.replace(length, REWRITING)
    rewrite_path(path).replace(path)
    sync_folder(path.parent)
    file.meta.pop(REWRITING, None)


def _extended(rows: Iterator[list[str]], columns: list[str]) -> Iterator[bytes]:
    """Yield the new header, and each row with empty cells for the new columns."""
    next(rows, None)
    yield line(columns)
    for row in rows:
        yield line(row + [""] * (len(columns) - len(row)))


def _write_lines(raw: IO[bytes], path: Path, lines: Iterator[bytes]) -> None:
    if path.suffix == ".gz":
        with gzip.GzipFile(fileobj=raw, mode="wb", compresslevel=GZIP_LEVEL, filename="") as compressed_file:
            compressed_file.writelines(lines)
    elif path.suffix == ".zst":
        with zstandard.ZstdCompressor(ZSTD_LEVEL).stream_writer(raw, closefd=False) as compressed:
            for data in lines:
                compressed.write(data)
    else:
        raw.writelines(lines)
