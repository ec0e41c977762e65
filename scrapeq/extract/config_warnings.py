"""What a page makes doubtful of the file that describes it: said once, since nothing fails by it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import orjson

from scrapeq.errors import ExtractError
from scrapeq.extract.selector import compile_path

MAX_DEPTH = 3
MAX_NAMES = 8
"""Names of a record or an answer that a line tells."""


def missing_records_warning(selector: str, body: Any) -> str | None:
    """
    Why a selector gave no record: None where it leads to an empty list, or cannot be told from one that does.

    Args:
        selector: The data_selector.
        body: The answer, decoded.
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
        places = f"records stand at {' and '.join(lists[:MAX_NAMES])}"
    else:
        places = f"it has {_names(body)}" if isinstance(body, Mapping) else f"it is a {_kind(body)}"
    return f"data_selector {selector} leads nowhere in an answer; {places}"


def missing_key_warning(names: tuple[str, ...], record: Any) -> str:
    """That no part of the primary key is in a record."""
    has = f"it has {_names(record)}" if isinstance(record, Mapping) else f"it is a {_kind(record)}"
    return f"primary_key {', '.join(names)} is not in a record, which is known by all it holds then; {has}"


def missing_parent_field_warning(paths: Iterable[tuple[str, ...]], record: Any) -> str | None:
    """
    That nothing follows from a record, since its child's address asks for a member that the record has not; None where
    the member is there and null, which is meant.

    Args:
        paths: What the address asks for, as (`parent`, name, …).
        record: The parent of the child.
    """
    if not isinstance(record, Mapping):
        return None
    lost = sorted(
        {path[1] for path in paths if path[0] == "parent" and len(path) > 1 and path[1] not in record}
    )
    if not lost:
        return None
    return f"nothing is asked for, since parent.{lost[0]} is not in a record; it has {_names(record)}"


def _lists(value: Any, path: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    """The ways to lists of objects."""
    if isinstance(value, list):
        if value and isinstance(value[0], Mapping):
            yield path or ("@",)
    elif isinstance(value, Mapping) and len(path) < MAX_DEPTH:
        for name, inner in value.items():
            step = str(name)
            if isinstance(inner, list | dict):
                yield from _lists(inner, (*path, step if step.isidentifier() else orjson.dumps(step).decode()))


def _names(record: Mapping[str, Any]) -> str:
    names = [str(name) for name in record]
    more = f" and {len(names) - MAX_NAMES} more" if len(names) > MAX_NAMES else ""
    return (", ".join(names[:MAX_NAMES]) or "nothing") + more


def _kind(value: Any) -> str:
    return {list: "list", str: "text", bool: "truth value"}.get(type(value), "number")
