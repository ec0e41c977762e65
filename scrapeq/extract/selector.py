"""Paths into a value: JMESPath, or JSONPath (RFC 9535) when they begin with "$". Compiled once."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

import jmespath

from scrapeq.errors import ExtractError, UsageError
from scrapeq.extract.known_names import CURSOR_KEYS, normalize

Path = Callable[[Any], Any]
Records = Callable[[Any], list[Any]]

RECORD_LIST_NAMES = ("items", "data", "results", "records", "values", "entries", "rows")
"""Where the records of an answer mostly are, when they have a name."""

WRAPPERS = ("data", "response", "result", "results", "message", "_embedded", "hits", "d", "payload", "query")
"""Objects that answers are put in whole."""

CONNECTION_DEPTH = 4
"""How deep below `data` a GraphQL connection is looked for: `data.repository.owner.issues`, say."""

NON_RECORD_LISTS = frozenset({"links", "link", "errors", "warnings", "messages", "included", "facets"})
"""Lists beside the records, which are none."""

_PLAIN = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(?:\.[A-Za-z_][A-Za-z0-9_]*)*")


def compile_path(path: str, field: str = "path") -> Path:
    """
    A path as a function of a value: what it leads to, or null. A JSONPath that may match several gives a list.

    Args:
        path: The path.
        field: What messages call it.

    Raises:
        UsageError: it is no path. (The function raises ExtractError when a value does not suit the path.)
    """
    if path.startswith("$"):
        return _json_path(path, field)[0]
    if path == "@":
        return lambda value: value
    if _PLAIN.fullmatch(path):
        return _plain(tuple(path.split(".")))
    try:
        compiled = jmespath.compile(path)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{field}: {_first_line(error)}") from None
    return _guarded(compiled.search, path, field)


def matches_several(path: str) -> bool:
    """
    Whether it is a JSONPath that may match several values.

    Raises:
        UsageError: it is no path.
    """
    return path.startswith("$") and _json_path(path, "path")[1]


def compile_records(selector: str, primary_key: Sequence[str] = ()) -> Records:
    """
    A data_selector as a function of a body: its records, a list's elements, nothing for null.

    Args:
        selector: The path; empty = the usual places.
        primary_key: Fields that only a record has, never the envelope around records.

    Raises:
        UsageError: it is no path.
    """
    if not selector:
        return lambda body: default_records(body, primary_key)
    if selector.startswith("$"):
        path, several = _json_path(selector, "data_selector")
        return path if several else lambda body: _as_records(path(body))
    path = compile_path(selector, "data_selector")
    return lambda body: _as_records(path(body))


def default_records(body: Any, primary_key: Sequence[str] = ()) -> list[Any]:
    """
    The records of a body that nobody described.

    A list is its elements. A map with the primary key is one record itself; else a list under one of the usual
    names, else its only list of maps, else the same inside one of the usual wrappers, else the nodes of the only
    GraphQL connection inside `data`, else the map itself. What is empty, or holds nothing but the way to the next page,
    has none: servers that leave out empty lists (those of Protocol Buffers' JSON form) answer so.
    """
    if not isinstance(body, dict):
        return _as_records(body)
    if all(normalize(name) in CURSOR_KEYS for name in body):
        return []
    if primary_key and all(name in body for name in primary_key):
        return [body]
    found = _record_list(body)
    if found is None and "id" not in body:
        inner = (body[name] for name in WRAPPERS if isinstance(body.get(name), dict))
        found = next((one for one in map(_record_list, inner) if one is not None), None)
        if found is None:
            found = _connection_nodes(body.get("data"))
    return [body] if found is None else found


def _record_list(body: dict[str, Any]) -> list[Any] | None:
    for name in RECORD_LIST_NAMES:
        if isinstance(body.get(name), list):
            return list(body[name])
    lists = [value for name, value in body.items() if isinstance(value, list) and name not in NON_RECORD_LISTS]
    if len(lists) == 1 and all(isinstance(element, dict) for element in lists[0]):
        return lists[0]
    return None


def _connection_nodes(data: Any) -> list[Any] | None:
    """The nodes of the only connection on the highest level that has any (GraphQL Cursor Connections); else None."""
    level = [data]
    for _ in range(CONNECTION_DEPTH):
        level = [value for node in level if isinstance(node, dict) for value in node.values()]
        found = [nodes for nodes in map(_nodes_of, level) if nodes is not None]
        if found:
            return found[0] if len(found) == 1 else None
    return None


def _nodes_of(value: Any) -> list[Any] | None:
    if not isinstance(value, dict):
        return None
    if isinstance(nodes := value.get("nodes"), list):
        return nodes
    edges = value.get("edges")
    if not isinstance(edges, list) or not all(isinstance(edge, dict) and "node" in edge for edge in edges):
        return None
    return [edge["node"] for edge in edges]


def unwrapped(tree: Any) -> Any:
    """What lies inside the root of an XML tree, and inside elements that stand alone; attributes count for nothing."""
    while isinstance(tree, dict):
        inner = [value for name, value in tree.items() if not name.startswith(("@", "#"))]
        if len(inner) != 1 or not isinstance(inner[0], dict):
            return tree
        tree = inner[0]
    return tree


def _as_records(value: Any) -> list[Any]:
    if value is None:
        return []
    return value if isinstance(value, list) else [value]


def _plain(names: tuple[str, ...]) -> Path:
    if len(names) == 1:
        only = names[0]
        return lambda value: value.get(only) if isinstance(value, dict) else None

    def path(value: Any) -> Any:
        for name in names:
            if not isinstance(value, dict):
                return None
            value = value.get(name)
        return value

    return path


def _json_path(path: str, field: str) -> tuple[Path, bool]:
    """The path, and whether it may match several values."""
    import jsonpath_rfc9535  # few files need it, and every start would pay for it

    try:
        query = jsonpath_rfc9535.compile(path)
    except (jsonpath_rfc9535.JSONPathError, ValueError, RecursionError) as error:
        raise UsageError(f"{field}: {_first_line(error)}") from None
    if not query.singular_query():
        return _guarded(lambda value: [node.value for node in query.finditer(value)], path, field), True

    def first(value: Any) -> Any:
        return next((node.value for node in query.finditer(value)), None)

    return _guarded(first, path, field), False


def _guarded(search: Path, path: str, field: str) -> Path:
    def guarded(value: Any) -> Any:
        try:
            return search(value)
        except Exception as error:  # two foreign engines over foreign data: whatever they raise gets a name
            raise ExtractError(f"{field}: {path!r} does not suit the answer: {_first_line(error)}") from None

    return guarded


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
