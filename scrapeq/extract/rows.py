"""Reads bodies of many rows one by one: CSV and JSON Lines."""

from __future__ import annotations

import csv
import io
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import orjson

from scrapeq.errors import BrokenBody, ExtractError

MORE_CELLS = "_more"
"""The field with the cells beyond the header, as a list."""

_DELIMITERS = ",;\t|"
_FIELD_LIMIT = min(sys.maxsize, 2**31 - 1)  # bodies are already bounded; csv's default is 131,072 characters


def csv_rows(body: bytes, encoding: str, delimiter: str) -> Iterator[dict[str, Any]]:
    """
    Yield the rows of a CSV file (RFC 4180) as maps; the header names the columns, all values are text.

    A column without a name is `column_3`, the second column of one name `name_2`. A missing cell is null, cells beyond
    the header are a list under `_more`. Empty lines are skipped.

    Args:
        body: The file.
        encoding: The name of a codec.
        delimiter: One character.

    Raises:
        BrokenBody: while reading: it ends inside a quoted field.
        ExtractError: while reading, with the line.
    """
    csv.field_size_limit(_FIELD_LIMIT)
    lines = io.TextIOWrapper(io.BytesIO(body), encoding, errors="replace", newline="")
    over: list[bool] = []
    reader = csv.reader(_watched(lines, over), delimiter=delimiter, strict=False)
    try:
        header = next((row for row in reader if row), None)
        if header is not None and over:
            raise BrokenBody("the response ends inside a quoted field of its header")
        if header is None:
            return
        names = _column_names(header)
        width = len(names)
        for row in reader:
            if over:  # the reader looked for another line because a quote is open
                raise BrokenBody(f"the response ends at line {reader.line_num} inside a quoted field")
            if not row:
                continue
            if len(row) == width:
                yield dict(zip(names, row, strict=True))
                continue
            record: dict[str, Any] = dict.fromkeys(names)
            record.update(zip(names, row, strict=False))
            if any(row[width:]):
                record[MORE_CELLS] = row[width:]
            yield record
    except (csv.Error, UnicodeError) as error:
        raise ExtractError(f"line {reader.line_num} of the response is not valid CSV: {error}") from None


def _watched(lines: Iterator[str], over: list[bool]) -> Iterator[str]:
    """Yield the lines; `over` has an element once the end was reached."""
    yield from lines
    over.append(True)


def likely_delimiter(body: bytes, encoding: str) -> str:
    """Return the delimiter that is most frequent in the first line; a comma if there is none."""
    first = body[:65_536].decode(encoding, "replace").lstrip("\r\n").partition("\n")[0]
    counts = Counter(letter for letter in first if letter in _DELIMITERS)
    return max(_DELIMITERS, key=lambda letter: counts[letter])


def json_lines(body: bytes, check: Callable[[Any, bytes], Any]) -> Iterator[Any]:
    """
    Yield the values of JSON Lines; empty lines are skipped.

    Args:
        body: UTF-8.
        check: Returns each value, or raises.

    Raises:
        BrokenBody: while reading, with the line.
        ExtractError: a value is nested too deeply.
    """
    at, number, size = 0, 0, len(body)
    while at < size:
        end = body.find(b"\n", at)
        end = size if end < 0 else end
        line = body[at:end]
        at, number = end + 1, number + 1
        if not line.strip():
            continue
        try:
            value = orjson.loads(line)
        except ValueError as error:
            raise BrokenBody(f"line {number} of the response is not valid JSON: {error}") from None
        yield check(value, line)


def _column_names(header: list[str]) -> list[str]:
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
