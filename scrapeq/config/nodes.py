"""
The nodes of a parsed YAML file: every value with its line and column.

Plain scalars follow the core schema of YAML 1.2 (10.3.2): `NO` and `2024-01-01` are strings. Unlike there, numbers with
leading zeros are strings too.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any, Literal

MAX_DIGITS = 300  # a longer number is an identifier, not a quantity, and stays a string

_INT = re.compile(r"[-+]?(?:0|[1-9][0-9]*)", re.ASCII)
_BASED = re.compile(r"0o[0-7]+|0x[0-9a-fA-F]+", re.ASCII)
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|(?:0|[1-9][0-9]*)(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?", re.ASCII)
_WORDS = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL"), None),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}

Kind = Literal["scalar", "list", "map"]


@dataclass(slots=True)
class Node:
    """
    A value of the file.

    Attributes:
        kind: Scalar, list or map.
        file: The file, flag or environment variable that it comes from.
        line: 1-based line of its start; 0 if it does not come from a file.
        col: 1-based column of its start.
        value: The value of a scalar: None, bool, int, float or str.
        text: The text of a scalar as written.
        plain: Whether a scalar is unquoted.
        flow: Whether it is inside `{ }` or `[ ]`.
        items: The elements of a list.
        entries: The entries of a map by key.
        size: Number of nodes in this subtree, with an alias counted each time it is used.
        depth: Number of levels in this subtree.
        filled: The text before `${env:...}` or `${file:...}` was filled in; empty if nothing was.
    """

    kind: Kind
    file: str
    line: int
    col: int
    value: Any = None
    text: str = ""
    plain: bool = False
    flow: bool = False
    items: list[Node] = field(default_factory=list)
    entries: dict[str, Entry] = field(default_factory=dict)
    size: int = 1
    depth: int = 1
    filled: str = ""

    def get(self, key: str) -> Node | None:
        """Return the value of a key of a map, or None."""
        entry = self.entries.get(key)
        return entry.node if entry else None

    @property
    def is_null(self) -> bool:
        """Whether it is a null scalar."""
        return self.kind == "scalar" and self.value is None

    def scalar(self, text: str, *, plain: bool) -> Node:
        """Return a new scalar at the same position."""
        value = resolve(text) if plain else text
        return Node("scalar", self.file, self.line, self.col, value, text, plain, self.flow)

    def map(self, **entries: Node) -> Node:
        """Return a new map at the same position, for a shorthand."""
        result = {key: Entry(key, node.line, node.col, node) for key, node in entries.items()}
        return Node("map", self.file, self.line, self.col, flow=self.flow, entries=result)

    def with_entries(self, entries: dict[str, Entry]) -> Node:
        """Return a copy of the map with other entries."""
        return replace(self, entries=entries)

    def walk(self) -> Iterator[Node]:
        """Yield the node itself and every node below it."""
        yield self
        for item in self.items:
            yield from item.walk()
        for entry in self.entries.values():
            yield from entry.node.walk()


@dataclass(slots=True)
class Entry:
    """A key of a map with its position, and its value."""

    key: str
    line: int
    col: int
    node: Node


def resolve(text: str) -> Any:
    """Return the value of a plain scalar: None, bool, int, float or str."""
    if text in _WORDS:
        return _WORDS[text]
    if not (text[0].isdigit() or text[0] in "+-.") or len(text) > MAX_DIGITS:
        return text
    if _INT.fullmatch(text):
        return int(text)
    if _BASED.fullmatch(text):
        return int(text, 0)
    if _FLOAT.fullmatch(text):
        number = float(text)
        return text if number in (float("inf"), float("-inf")) else number
    return text
