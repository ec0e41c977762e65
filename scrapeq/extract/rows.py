"""Reads bodies of many rows one by one: CSV, TSV and JSON Lines."""

from __future__ import annotations

import csv
import io
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import chain, islice
from typing import Any

from scrapeq.errors import BrokenBody, ExtractError
from scrapeq.json_values import Repairs, read_json, without_guard

MORE_CELLS = "_more"
"""The field with the cells beyond the header, as a list."""

NO_HEADER = "none"
"""The value of `decoder.header` for a file whose first line is a record."""

_DELIMITERS = ",;\t|"
_FIELD_LIMIT = min(sys.maxsize, 2**31 - 1)  # bodies are already bounded; csv's default is 131,072 characters
_SAMPLE_ROWS = 80  # the rows in which the header is searched
_QUOTED_CHARS = 60  # of a line, in a message
_SEPARATOR_LINE = re.compile(r"\"?sep=(.)\"?\s*", re.IGNORECASE)
_NUMBER_OR_DATE = re.compile(r"[-+]?\d[\d.,:/\sTZ+-]*%?", re.ASCII)
_YEAR = re.compile(r"(?:19|20)\d\d", re.ASCII)

Row = list[str]


@dataclass(frozen=True, slots=True)
class Table:
    """
    How a CSV file is written.

    Args:
        encoding: The name of a codec.
        delimiter: One character.
        has_quotes: Whether quotes around a cell are syntax (RFC 4180); otherwise they are part of its text.
        header: None = the first line; NO_HEADER; or the names of the columns of a file without a header.
        skip_lines: The number of lines before the header, or before the first record.
    """

    encoding: str
    delimiter: str
    has_quotes: bool = True
    header: str | tuple[str, ...] | None = None
    skip_lines: int = 0


def csv_rows(body: bytes, table: Table, repairs: Repairs) -> Iterator[dict[str, Any]]:
    """
    Yield the rows of a CSV file as maps; the header names the columns, all values are text.

    A column without a name is `column_3`, the second column of one name `name_2`. A missing cell is null, cells beyond
    the header are a list under `_more`. Skipped are empty lines, Excel's `sep=;`, and lines before the header where it
    is certain that none of them is the header.

    Args:
        body: The file.
        table: How it is written.
        repairs: Receives a sentence for what was skipped or seems wrong.

    Raises:
        BrokenBody: while reading: it ends inside a quoted field.
        ExtractError: while reading, with the line.
    """
    csv.field_size_limit(_FIELD_LIMIT)
    lines = _Lines(body, table)
    reader = csv.reader(
        lines,
        delimiter=lines.delimiter,
        quoting=csv.QUOTE_MINIMAL if table.has_quotes else csv.QUOTE_NONE,
        strict=False,
    )
    try:
        rows = _closed_rows(reader, lines)
        sample = list(islice(rows, _SAMPLE_ROWS))
        header, first = _header(sample, table, repairs)
        names = _column_names(header)
        width = len(names)
        for row in chain(sample[first:], rows):
            if len(row) == width:
                yield dict(zip(names, row, strict=True))
            elif row:
                record: dict[str, Any] = dict.fromkeys(names)
                record.update(zip(names, row, strict=False))
                if any(row[width:]):
                    record[MORE_CELLS] = row[width:]
                yield record
    except (csv.Error, UnicodeError) as error:
        line = table.skip_lines + reader.line_num
        raise ExtractError(f"line {line} of the response is not valid CSV: {error}") from None


class _Lines:
    """The lines of a file after those to skip; `ended` once there are no more."""

    def __init__(self, body: bytes, table: Table) -> None:
        stream = io.TextIOWrapper(io.BytesIO(body), table.encoding, errors="replace", newline="")
        for _ in range(table.skip_lines):
            stream.readline()
        first = stream.readline()
        separator = _SEPARATOR_LINE.fullmatch(first)
        self.first_number = table.skip_lines + (2 if separator else 1)
        self.delimiter = separator[1] if separator else table.delimiter
        self.ended = False
        self._lines = iter(stream) if separator or not first else chain([first], stream)

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        try:
            return next(self._lines)
        except StopIteration:
            self.ended = True
            raise


def _closed_rows(reader: Any, lines: _Lines) -> Iterator[Row]:
    """Yield the rows. A row that ends with the file is inside quotes, so it has swallowed all the others."""
    read = 0
    for row in reader:
        if lines.ended:
            raise BrokenBody(
                f"line {lines.first_number + read} of the response opens a quote that is never closed: the response "
                "is incomplete, or quotes are part of its text; set `decoder: {quoting: false}` in that case"
            )
        read = reader.line_num
        yield row


def _header(sample: list[Row], table: Table, repairs: Repairs) -> tuple[Row, int]:
    """Return the names of the columns, and the index of the first record."""
    filled = [index for index, row in enumerate(sample) if row]
    if not filled:
        return [], len(sample)
    if table.header == NO_HEADER:
        return [""] * max(len(row) for row in sample), filled[0]
    if table.header is not None:
        return list(table.header), filled[0]
    at = filled[0]
    if table.skip_lines:
        return sample[at], at + 1
    found = _header_after_preamble(sample)
    usual = _usual_width(sample)
    if found is not None:
        repairs["preamble"] = (
            f"lines before the header {_quoted(sample[found])} are skipped, the first is {_quoted(sample[at])}; "
            "set `decoder: {skip_lines: …}` if the header is another line"
        )
        at = found
    elif len(filled) == 1 and len(sample[at]) == 1:
        repairs["empty"] = f"the response holds a single line and thus zero records: {_quoted(sample[at])}"
    elif len(sample[at]) < usual:
        repairs["width"] = (
            f"the header {_quoted(sample[at])} has fewer columns than the rows; "
            "set `decoder: {skip_lines: …}` if the header comes later"
        )
    elif _looks_like_a_record(sample[at], sample[at + 1 :]):
        repairs["header"] = (
            f"the first line, {_quoted(sample[at])}, names the columns but looks like a record; "
            "set `decoder: {header: none}` if the file has no header"
        )
    return sample[at], at + 1


def _usual_width(sample: list[Row]) -> int:
    """Return the most frequent number of cells in rows with more than one; 1 if there are none."""
    widths = Counter(len(row) for row in sample if len(row) > 1)
    return widths.most_common(1)[0][0] if widths else 1


def _header_after_preamble(sample: list[Row]) -> int | None:
    """
    Return the index of the header if lines of another kind are certain to stand before it.

    These lines have one cell (two, if the rows have more; empty ones at the end do not count) or begin with `#`. The
    header has the width of the rows, and names only. It follows an empty line or comments, or a column of numbers has a
    name.
    """
    usual = _usual_width(sample)
    at = next(
        (index for index, row in enumerate(sample) if _width(row) == usual and not _is_comment(row)), None
    )
    before = [row for row in sample[:at] if _width(row)]
    if at is None or usual == 1 or not before:
        return None
    comments = [_is_comment(row) for row in before]
    if comments[-1] and len(before[-1]) == usual:
        return None  # the header itself begins with `#`
    most = 2 if usual > 2 else 1
    if not all(_width(row) <= most or is_comment for row, is_comment in zip(before, comments, strict=True)):
        return None
    header, rows = sample[at], [row for row in sample[at + 1 :] if len(row) == usual]
    names = [cell.strip() for cell in header]
    if not rows or len(set(names)) < usual or any(not name or _is_numeric(name) for name in names):
        return None
    has_numbers = any(all(_is_numeric(row[column]) for row in rows) for column in range(usual))
    return at if all(comments) or not _width(sample[at - 1]) or has_numbers else None


def _width(row: Row) -> int:
    """Return the number of cells without the empty ones at the end, as spreadsheets add them."""
    return next((number for number in range(len(row), 0, -1) if row[number - 1].strip()), 0)


def _looks_like_a_record(header: Row, rows: list[Row]) -> bool:
    """Return whether the first line has numbers exactly where the next row has them; years may be names."""
    second = next((row for row in rows if row), None)
    numeric = [_is_numeric(cell) for cell in header]
    if second is None or not any(numeric) or numeric != [_is_numeric(cell) for cell in second]:
        return False
    return not all(
        _YEAR.fullmatch(cell.strip()) for cell, is_one in zip(header, numeric, strict=True) if is_one
    )


def _is_comment(row: Row) -> bool:
    return bool(row) and row[0].lstrip().startswith("#")


def _is_numeric(cell: str) -> bool:
    return _NUMBER_OR_DATE.fullmatch(cell.strip()) is not None


def _quoted(row: Row) -> str:
    text = ",".join(row)
    return f"'{text[:_QUOTED_CHARS].rstrip()}…'" if len(text) > _QUOTED_CHARS else f"'{text}'"


def likely_delimiter(body: bytes, encoding: str) -> str:
    """Return the delimiter that is most frequent in the first lines that have one; a comma if there is none."""
    for line in body[:65_536].decode(encoding, "replace").splitlines()[:_SAMPLE_ROWS]:
        counts = Counter(letter for letter in line if letter in _DELIMITERS)
        if counts:
            return max(_DELIMITERS, key=lambda letter: counts[letter])
    return ","


def json_lines(body: bytes, check: Callable[[Any, bytes], Any], repairs: Repairs) -> Iterator[Any]:
    """
    Yield the values of JSON Lines; empty lines are skipped.

    Args:
        body: UTF-8.
        check: Returns each value, or raises.
        repairs: Receives a sentence for what was not JSON.

    Raises:
        BrokenBody: while reading, with the line.
        ExtractError: a value is nested too deeply.
    """
    body = without_guard(body)
    at, number, size = 0, 0, len(body)
    while at < size:
        end = body.find(b"\n", at)
        end = size if end < 0 else end
        line = body[at:end].strip(b" \t\r\0\x1e")
        at, number = end + 1, number + 1
        if not line:
            continue
        try:
            value = read_json(line, repairs)
        except ValueError as error:
            raise BrokenBody(f"line {number} of the response is not valid JSON: {error}") from None
        yield check(value, line)


def _column_names(header: Row) -> list[str]:
    names: list[str] = []
    taken: set[str] = set()
    copies: Counter[str] = Counter()  # keeps a header with one name many times linear
    for number, cell in enumerate(header, start=1):
        base_name = name = cell.strip() or f"column_{number}"
        while name in taken:
            copies[base_name] += 1
            name = f"{base_name}_{copies[base_name] + 1}"
        names.append(name)
        taken.add(name)
    return names
