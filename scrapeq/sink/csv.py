"""
Items as CSV (RFC 4180, lines end with LF): one header a file, nested values as JSON text, null as nothing.

The columns of a file are the fields of the first commit, in their order. A field that comes later is added behind them:
the file is written anew under another name, with the larger header and empty values, and takes the old one's place;
a file with a bound begins a new part instead where one is due.
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
from scrapeq.sink.appended import GZIP_LEVEL, REWRITING, ZSTD_LEVEL, AppendedFile, rewriting_name
from scrapeq.sink.columns import as_cell
from scrapeq.sink.durable import sync_folder
from scrapeq.sink.files import FileSink
from scrapeq.sink.output import Record, SinkContext

COLUMNS = "columns"  # in a file's meta
FIELD_MAX_CHARS = 2**31 - 1
ENCODING = "utf-8-sig"  # spreadsheets begin their files with a mark

csv.field_size_limit(FIELD_MAX_CHARS)


class CsvSink(FileSink):
    """An output of CSV files."""

    def __init__(self, output: plan.Output, context: SinkContext) -> None:
        super().__init__(output, context)
        self._rows: dict[AppendedFile, list[dict[str, Any]]] = {}

    def take(self, file: AppendedFile, record: Record) -> bool:
        """Keep the record; it is a row when all columns are known."""
        if not file.seen.is_new(record):
            return False
        self._rows.setdefault(file, []).append(record.item.record)
        self.touch(file)
        return True

    def write_file(self, file: AppendedFile) -> None:
        """The rows of a commit, under a header that has all their fields."""
        rows = self._rows.pop(file, [])
        columns = self._columns(file)
        known = set(columns)
        new = list(dict.fromkeys(name for row in rows for name in row if name not in known))
        if new:
            if file.is_over():
                file.close_part()
            if file.length:
                _rewrite(file, [*columns, *new])
            columns = [*columns, *new]
            file.meta[COLUMNS] = columns
        if columns:
            file.pieces = [line([_cell(row.get(name)) for name in columns]) for row in rows]
        header = line(columns)
        file.append(head=lambda _: header)

    def _columns(self, file: AppendedFile) -> list[str]:
        """Those of the file; of one that was there before its ledger, what its first line says."""
        columns = cast("list[str] | None", file.meta.get(COLUMNS))
        if columns is None and file.length:
            columns = _header(file.path)
            file.meta[COLUMNS] = columns
        return columns or []

    def abandon(self) -> None:
        """Forget the rows, too."""
        self._rows = {}
        super().abandon()


def line(cells: list[str]) -> bytes:
    """One line of CSV."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(cells)
    return text.getvalue().encode()


def _cell(value: Any) -> str:
    return "" if value is None else as_cell(value)


def _header(path: Path) -> list[str]:
    """The first line of a file that somebody else has written."""
    try:
        with _reading(path) as text:
            return next(csv.reader(text), [])
    except (ValueError, EOFError, OSError, csv.Error, zstandard.ZstdError) as error:
        raise OutputError(
            f"{path}: is there already, and is no CSV in UTF-8 to add lines to ({error}); "
            "move it away, or write to another path"
        ) from None


def _reading(path: Path) -> IO[str]:
    """A file as text, unpacked."""
    if path.suffix == ".gz":
        return gzip.open(path, "rt", encoding=ENCODING, newline="")
    raw: Any = path.open("rb")
    if path.suffix == ".zst":
        raw = zstandard.ZstdDecompressor().stream_reader(raw, read_across_frames=True, closefd=True)
    return io.TextIOWrapper(raw, encoding=ENCODING, newline="")


def _rewrite(file: AppendedFile, columns: list[str]) -> None:
    """Replace the file by one with these columns: the ledger knows first, then the name changes."""
    path = file.path
    file.close()
    more = len(columns)
    with _reading(path) as text, rewriting_name(path).open("wb") as raw:
        _pack_into(raw, path, _widened(csv.reader(text), columns, more))
        raw.flush()
        os.fsync(raw.fileno())
        length = raw.tell()
    file.meta[COLUMNS] = columns
    file.replace(length, REWRITING)
    rewriting_name(path).replace(path)
    sync_folder(path.parent)
    file.meta.pop(REWRITING, None)


def _widened(rows: Iterator[list[str]], columns: list[str], width: int) -> Iterator[bytes]:
    next(rows, None)
    yield line(columns)
    for row in rows:
        yield line(row + [""] * (width - len(row)))


def _pack_into(raw: IO[bytes], path: Path, lines: Iterator[bytes]) -> None:
    if path.suffix == ".gz":
        with gzip.GzipFile(fileobj=raw, mode="wb", compresslevel=GZIP_LEVEL, filename="") as packed:
            packed.writelines(lines)
    elif path.suffix == ".zst":
        with zstandard.ZstdCompressor(ZSTD_LEVEL).stream_writer(raw, closefd=False) as compressed:
            for one in lines:
                compressed.write(one)
    else:
        raw.writelines(lines)
