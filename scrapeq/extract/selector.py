"""Paths into a value: JMESPath, or JSONPath (RFC 9535) if they start with "$". Compiled once."""

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
"""The usual names of the list of records."""

WRAPPERS = ("data", "response", "result", "results", "message", "_embedded", "hits", "d", "payload", "query")
"""The usual names of an object around the whole response."""

CONNECTION_DEPTH = 4
"""How deep below `data` a GraphQL connection may be: `data.repository.owner.issues`, for example."""

NON_RECORD_LISTS = frozenset({"links", "link", "errors", "warnings", "messages", "included", "facets"})
"""The usual names of lists that are not the records."""

_TRAILING_WILDCARDS = re.compile(r"(?:\[\*\]|\.\*)+$")
_PLAIN = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(?:\.[A-Za-z_][A-Za-z0-9_]*)*")


def compile_path(path: str, field: str = "path") -> Path:
    """
    Compile a path into a function of a value, which returns what the path selects, or None.

    A JSONPath that may match several values returns a list.

    Args:
        path: The path.
        field: What error messages call it.

    Raises:
        UsageError: the path is invalid. (The function raises ExtractError if a value does not fit the path.)
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


def compile_presence(selector: str) -> Path | None:
    """
    Compile the part of a data_selector that leads to the records into a function: None = the path leads nowhere.

    None if the selector does not tell an empty list from a missing one, or selects the whole body.

    Raises:
        UsageError: the path is invalid.
    """
    if selector in ("", "@", "$"):
        return None
    if not selector.startswith("$"):
        return compile_path(selector, "data_selector")
    path, several = _json_path(_TRAILING_WILDCARDS.sub("", selector), "data_selector")
    return None if several else path


def matches_several(path: str) -> bool:
    """
    Return whether this is a JSONPath that may match several values.

    Raises:
        UsageError: the path is invalid.
    """
    return path.startswith("$") and _json_path(path, "path")[1]


def compile_records(selector: str, primary_key: Sequence[str] = ()) -> Records:
    """
    Compile a data_selector into a function of a body, which returns the records: a list's elements, none for null.

    Args:
        selector: The path; empty = the usual places.
        primary_key: Fields that only a record has, not the envelope around records.

    Raises:
        UsageError: the path is invalid.
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
    Return the records of a body without a data_selector.

    The elements of a list are the records. In a map they are, in this order: the map itself if it has the primary key,
    a list under one of the usual names, the only list of maps, the same inside one of the usual wrappers, the nodes of
    the only GraphQL connection inside `data`, the map itself. A map that is empty, or holds only the cursor of the next
    page, has none: servers that omit empty lists (as in the JSON form of Protocol Buffers) send it.
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
    lists = [
        value for name, value in body.items() if isinstance(value, list) and name not in NON_RECORD_LISTS
    ]
    if len(lists) == 1 and all(isinstance(element, dict) for element in lists[0]):
        return lists[0]
    return None


def _connection_nodes(data: Any) -> list[Any] | None:
    """Return the nodes of the only connection on the highest level that has one (GraphQL Cursor Connections)."""
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
    """Return what is inside the root of an XML tree, and inside elements without siblings; attributes are ignored."""
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
    """Return the compiled path, and whether it may match several values."""
    import jsonpath_rfc9535  # imported late: few plans need it

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
        except MemoryError:
            raise
        except Exception as error:  # the libraries raise many types of errors on unexpected data
            raise ExtractError(f"{field}: {path!r} does not fit the response: {_first_line(error)}") from None

    return guarded


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
