"""Warnings about a configuration that does not fit the responses. Nothing fails, so each is given once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import orjson

from scrapeq.errors import ExtractError
from scrapeq.extract.selector import compile_path

MAX_DEPTH = 3
MAX_NAMES = 8
"""The most field names that a warning lists."""


def missing_records_warning(selector: str, body: Any) -> str | None:
    """
    Return why a selector matched nothing; None if it selects an empty list, or may do so.

    Args:
        selector: The data_selector.
        body: The decoded response body.
    """
    if selector in ("", "@") or selector.startswith("$"):
        return None
    try:
        if compile_path(selector)(body) is not None:
            return None
    except ExtractError:
        return None
    lists = [".".join(path) for path in _lists(body, ())]
    if lists:
        hint = f"the response has records at {' and '.join(lists[:MAX_NAMES])}"
    else:
        hint = f"the response {description(body)}"
    return f"data_selector {selector} matches nothing; {hint}"


def missing_key_warning(names: tuple[str, ...], record: Any) -> str:
    """Return the warning that a record has no part of the primary key."""
    return (
        f"primary_key {', '.join(names)} is missing, so records are identified by their full content; "
        f"the record {description(record)}"
    )


def missing_parent_field_warning(paths: Iterable[tuple[str, ...]], record: Any) -> str | None:
    """
    Return the warning that a child is not requested because its URL needs a field that the record lacks.

    None if the record has the field: a null there is intended.

    Args:
        paths: The attribute paths that the URL reads, as (`parent`, name, …).
        record: The parent's record.
    """
    if not isinstance(record, Mapping):
        return None
    missing = sorted(
        {path[1] for path in paths if path[0] == "parent" and len(path) > 1 and path[1] not in record}
    )
    if not missing:
        return None
    return f"not requested, because its URL needs parent.{missing[0]}; the record {description(record)}"


def _lists(value: Any, path: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    """Yield the paths to lists of objects."""
    if isinstance(value, list):
        if value and isinstance(value[0], Mapping):
            yield path or ("@",)
    elif isinstance(value, Mapping) and len(path) < MAX_DEPTH:
        for name, inner in value.items():
            step = str(name)
            if isinstance(inner, list | dict):
                yield from _lists(
                    inner, (*path, step if step.isidentifier() else orjson.dumps(step).decode())
                )


def description(value: Any) -> str:
    """Return what a value is, as the end of a sentence: `has id, name`, `is a list`."""
    if not isinstance(value, Mapping):
        kinds = {list: "a list", str: "a string", bool: "a boolean", type(None): "null"}
        return f"is {kinds.get(type(value), 'a number')}"
    names = [str(name) for name in value]
    if not names:
        return "is empty"
    rest = f" and {len(names) - MAX_NAMES} more" if len(names) > MAX_NAMES else ""
    return f"has {', '.join(names[:MAX_NAMES])}{rest}"
