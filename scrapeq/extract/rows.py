"""Bodies of many rows, read one by one: CSV and JSON Lines."""

from __future__ import annotations

import csv
import io
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import orjson

from scrapeq.errors import ExtractError

MORE_CELLS = "_more"
"""Where the cells stand that a row has beyond its header, as a list."""

_DELIMITERS = ",;\t|"
_FIELD_LIMIT = min(sys.maxsize, 2**31 - 1)  # the body has a bound already; csv's own is 131,072 characters


def csv_rows(body: bytes, encoding: str, delimiter: str) -> Iterator[dict[str, Any]]:
    """
    The rows of a CSV file (RFC 4180) as maps; the header row names the columns, all values are text.

    A column without a name is `column_3`, the second of one name `name_2`; a cell that a row lacks is null, cells
    beyond the header are a list under `_more`. Empty lines are no rows.

    Args:
        body: The file.
        encoding: A codec's name.
        delimiter: One character.

    Raises:
        ExtractError: while reading, with the line: a quote that never ends, say.
    """
    csv.field_size_limit(_FIELD_LIMIT)
    lines = io.TextIOWrapper(io.BytesIO(body), encoding, errors="replace", newline="")
    reader = csv.reader(lines, delimiter=delimiter, strict=False)
    try:
        header = next((row for row in reader if row), None)
        if header is None:
            return
        names = _column_names(header)
        width = len(names)
        for row in reader:
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
        raise ExtractError(f"line {reader.line_num} of the answer is no CSV: {error}") from None


def likely_delimiter(body: bytes, encoding: str) -> str:
    """The delimiter that the first line has most of; a comma if it has none."""
    first = body[:65_536].decode(encoding, "replace").lstrip("\r\n").partition("\n")[0]
    counts = Counter(letter for letter in first if letter in _DELIMITERS)
    return max(_DELIMITERS, key=lambda letter: counts[letter])


def json_lines(body: bytes, check: Callable[[Any, bytes], Any]) -> Iterator[Any]:
    """
    The values of JSON Lines; empty lines are none.

    Args:
        body: UTF-8.
        check: Answers each value, or raises.

    Raises:
        ExtractError: while reading, with the line.
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
            raise ExtractError(f"line {number} of the answer is no JSON: {error}") from None
        yield check(value, line)


def _column_names(header: list[str]) -> list[str]:
    names: list[str] = []
    taken: set[str] = set()
    copies: Counter[str] = Counter()  # a header of nothing but one name must not cost its length squared
    for number, cell in enumerate(header, start=1):
        base_name = name = cell.strip() or f"column_{number}"
        while name in taken:
            copies[base_name] += 1
            name = f"{base_name}_{copies[base_name] + 1}"
        names.append(name)
        taken.add(name)
    return names
