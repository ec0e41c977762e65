"""
A YAML file as a tree in which every value knows where it was written.

Plain scalars follow the core schema of YAML 1.2 (10.3.2), without its surprises: `NO` and `2024-01-01` are text, and so
are numbers with leading zeros.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any, Literal

MAX_DIGITS = 300  # a longer number is an identity, not a quantity: it stays text

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

    Args:
        kind: What it is.
        file: The file, flag or variable it was given by.
        line, col: Where it begins, 1-based; line 0 where there is none.
        value: Of a scalar: None, bool, int, float or str.
        text: Of a scalar: as it was written.
        plain: Whether a scalar stood without quotes.
        flow: Whether it stands inside `{ }` or `[ ]`.
        items: Of a list.
        entries: Of a map, by key.
        size: Nodes below and itself, aliases counted each time.
        depth: Levels below and its own.
        filled: The text before `${env:...}` was filled in; empty if nothing was.
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
        """The value under a key of a map."""
        entry = self.entries.get(key)
        return entry.node if entry else None

    @property
    def is_null(self) -> bool:
        """Whether it is a scalar that says nothing."""
        return self.kind == "scalar" and self.value is None

    def scalar(self, text: str, *, plain: bool) -> Node:
        """A scalar in the same place."""
        value = resolve(text) if plain else text
        return Node("scalar", self.file, self.line, self.col, value, text, plain, self.flow)

    def map(self, **entries: Node) -> Node:
        """A map in the same place, for shorthands."""
        made = {key: Entry(key, node.line, node.col, node) for key, node in entries.items()}
        return Node("map", self.file, self.line, self.col, flow=self.flow, entries=made)

    def with_entries(self, entries: dict[str, Entry]) -> Node:
        """The same map with other entries."""
        return replace(self, entries=entries)

    def walk(self) -> Iterator[Node]:
        """Itself and all below."""
        yield self
        for item in self.items:
            yield from item.walk()
        for entry in self.entries.values():
            yield from entry.node.walk()


@dataclass(slots=True)
class Entry:
    """A key of a map, where it stands, and its value."""

    key: str
    line: int
    col: int
    node: Node


def resolve(text: str) -> Any:
    """The value of a plain scalar."""
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
