"""Records that are not a list of maps: the values of a map, rows beside the names of their columns, whole columns."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from scrapeq.errors import ExtractError
from scrapeq.extract.known_names import normalize
from scrapeq.extract.rows import MORE_CELLS
from scrapeq.extract.selector import Path, Records, compile_path, compile_records
from scrapeq.plan import Endpoint

FIRST_ROW = "first_row"
"""The value of `columns` for rows whose first one has the names."""
LISTS = "lists"
"""The value of `columns` for a map with one list per column."""

_COLUMNS_DEPTH = 4
_COLUMNS_NAMES = frozenset(
    {
        "columns",
        "cols",
        "columnnames",
        "columnheaders",
        "fields",
        "fieldnames",
        "headers",
        "header",
        "meta",
        "rowtype",
    }
)
_NAME_KEYS = ("name", "field", "fieldName", "id", "label", "title", "key", "text")
_LOOKED_INTO = 20  # elements of a list in which columns are searched


def compile_endpoint_records(endpoint: Endpoint, primary_key: Sequence[str] = ()) -> Records:
    """
    Compile the function from a body to its records: what data_selector selects, as maps.

    Args:
        endpoint: `data_selector`, `key_as` and `columns` are used.
        primary_key: Fields that only a record has, not the envelope around records.

    Raises:
        UsageError: a path is invalid.
    """
    selector = endpoint.data_selector
    if endpoint.key_as or endpoint.columns == LISTS:
        selector = selector or "@"
    select = compile_records(selector, primary_key)
    if endpoint.key_as:
        return lambda body: _keyed(select(body), endpoint.key_as)
    if endpoint.columns == LISTS:
        return lambda body: [record for one in select(body) for record in _from_columns(one)]
    if endpoint.columns == FIRST_ROW:
        return lambda body: _under_first_row(select(body))
    if endpoint.columns:
        names = compile_path(endpoint.columns, "columns")
        return lambda body: _under(_declared_names(names, endpoint.columns, body), select(body))

    def records(body: Any) -> list[Any]:
        found = select(body)
        if not found or not isinstance(found[0], list):
            return found
        names = _certain_names(body, found)
        return found if names is None else _under(names, found)

    return records


def _keyed(found: list[Any], key_as: str) -> list[Any]:
    """Return the values of maps as records, each with its name; servers in PHP send an empty map as a list."""
    if not all(isinstance(one, dict) for one in found):
        raise ExtractError(f"key_as: {key_as} needs a map of records; set data_selector to it")
    return [_named(key_as, name, value) for one in found for name, value in one.items()]


def _named(key_as: str, name: str, value: Any) -> dict[str, Any]:
    members = value if isinstance(value, dict) else {"value": value}
    return {key_as: name, **{field: member for field, member in members.items() if field != key_as}}


def _from_columns(columns: Any) -> Iterator[dict[str, Any]]:
    """Yield the records of a map with one list per column; values of the map that are not lists are left out."""
    lists = (
        {name: one for name, one in columns.items() if isinstance(one, list)}
        if isinstance(columns, dict)
        else {}
    )
    if not lists:
        raise ExtractError("columns: lists needs a map of lists, one per column; set data_selector to it")
    sizes = {len(one) for one in lists.values()}
    if len(sizes) > 1:
        raise ExtractError(
            "columns: lists needs lists of the same length, but they have "
            + ", ".join(f"{name}: {len(one)}" for name, one in lists.items())
        )
    for values in zip(*lists.values(), strict=True):
        yield dict(zip(lists, values, strict=True))


def _under_first_row(rows: list[Any]) -> list[Any]:
    if not rows:
        return []
    names = _names(rows[0])
    if names is None:
        raise ExtractError("columns: first_row needs a list of names as the first record")
    return _under(names, rows[1:])


def _declared_names(path: Path, text: str, body: Any) -> list[str]:
    names = _names(path(body))
    if names is None:
        raise ExtractError(f"columns: {text} selects no list of different names in the response")
    return names


def _under(names: list[str], rows: list[Any]) -> list[Any]:
    """Return rows as maps. A missing cell is null, cells beyond the columns are a list under `_more`."""
    width = len(names)
    records: list[Any] = []
    for row in rows:
        if not isinstance(row, list):
            records.append(row)
            continue
        record: dict[str, Any] = dict.fromkeys(names)
        record.update(zip(names, row, strict=False))
        if len(row) > width:
            record[MORE_CELLS] = row[width:]
        records.append(record)
    return records


def _certain_names(body: Any, rows: list[Any]) -> list[str] | None:
    """Return the only names of columns in a body that fit all rows; None if there are none, or different ones."""
    if not all(isinstance(row, list) for row in rows):
        return None
    width = len(rows[0])
    if any(len(row) != width for row in rows):
        return None
    found = {tuple(names) for names in _column_lists(body, 0) if len(names) == width}
    return list(found.pop()) if len(found) == 1 else None


def _column_lists(value: Any, depth: int) -> Iterator[list[str]]:
    """Yield the names of columns under one of the usual names, in the upper levels of a body."""
    if depth > _COLUMNS_DEPTH:
        return
    if isinstance(value, list):
        for one in value[:_LOOKED_INTO]:
            if isinstance(one, dict):
                yield from _column_lists(one, depth + 1)
    elif isinstance(value, dict):
        for name, inner in value.items():
            names = _names(inner) if normalize(name) in _COLUMNS_NAMES else None
            if names is not None:
                yield names
            else:
                yield from _column_lists(inner, depth + 1)


def _names(value: Any) -> list[str] | None:
    """Return a list of different names, of columns written as text or as objects; None for anything else."""
    if not isinstance(value, list) or not value:
        return None
    names: list[str] = []
    for one in value:
        name = next((one[key] for key in _NAME_KEYS if one.get(key)), None) if isinstance(one, dict) else one
        if not isinstance(name, str):
            return None
        names.append(name)
    return names if len(set(names)) == len(names) else None
