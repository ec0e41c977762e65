"""Columns of tables: which a record has, of what type, and its values in them."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

import orjson

Kind = Literal["", "bool", "int", "float", "text", "json"]
"""The type of a column; "" = nothing but nulls so far."""

INT_MAX = 2**63


def kind_of(value: Any) -> Kind:
    """The type that a value asks for; whole numbers beyond 64 bits are text, what is no number (NaN) is null."""
    if value is None:
        return ""
    if isinstance(value, str):
        return "text"
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, int):
        return "int" if -INT_MAX <= value < INT_MAX else "text"
    if isinstance(value, float):
        return "float" if math.isfinite(value) else ""
    return "json"


def joined(one: Kind, other: Kind) -> Kind:
    """A type that holds what both hold: a whole number is a number, all else that differs is text."""
    if one == other or not other:
        return one
    if not one:
        return other
    return "float" if {one, other} == {"int", "float"} else "text"


def as_json(value: Any) -> str:
    """A value as JSON text."""
    return orjson.dumps(value).decode()


def as_cell(value: Any) -> str:
    """A value as text: texts as they are, all else as JSON."""
    return value if isinstance(value, str) else as_json(value)


def stored(value: Any, kind: Kind) -> Any:
    """A value as a column of that type takes it: nested ones as JSON text."""
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return None
    if kind in ("text", "json"):
        return as_cell(value) if kind == "text" else as_json(value)
    return float(value) if kind == "float" else value


@dataclass(slots=True)
class Column:
    """A column: its name in the table and its type."""

    name: str
    kind: Kind


class Columns:
    """
    The columns of one table, by the field of the records.

    Args:
        known: What was kept of it: field -> [name, kind].
        longest: Bytes of a name.
        fold_case: Names that differ by case alone are the same.
        taken: Names that are not for fields.
    """

    def __init__(
        self,
        known: dict[str, tuple[str, Kind]] | None = None,
        *,
        longest: int = 0,
        fold_case: bool = False,
        taken: Iterable[str] = (),
    ) -> None:
        self._longest = longest
        self._fold = fold_case
        self._taken = {self._folded(name) for name in taken}
        self.by_field: dict[str, Column] = {}
        for field, (name, kind) in (known or {}).items():
            self.by_field[field] = Column(name, kind)
            self._taken.add(self._folded(name))

    def kept(self) -> dict[str, tuple[str, Kind]]:
        """What is to be kept of it."""
        return {field: (column.name, column.kind) for field, column in self.by_field.items()}

    def learn(self, records: Iterable[dict[str, Any]]) -> tuple[list[str], dict[str, Kind]]:
        """
        Fields that these records add, and those whose type they widen, with the old type.

        The columns are as they must be for these records afterwards.
        """
        added: list[str] = []
        widened: dict[str, Kind] = {}
        for record in records:
            for field, value in record.items():
                kind = kind_of(value)
                column = self.by_field.get(field)
                if column is None:
                    self.by_field[field] = Column(self._named(field), kind)
                    added.append(field)
                elif kind and kind != column.kind and (wider := joined(column.kind, kind)) != column.kind:
                    if field not in added:
                        widened.setdefault(field, column.kind)
                    column.kind = wider
        return added, widened

    def row(self, record: dict[str, Any]) -> list[Any]:
        """The record's values, in the order of the columns."""
        return [stored(record.get(field), column.kind) for field, column in self.by_field.items()]

    def _folded(self, name: str) -> str:
        return name.lower() if self._fold else name

    def _named(self, field: str) -> str:
        """A name for a new column that no other has."""
        base = field.replace("\0", "_") or "_"
        number, name = 1, self._cut(base, "")
        while self._folded(name) in self._taken:
            number += 1
            name = self._cut(base, f"_{number}")
        self._taken.add(self._folded(name))
        return name

    def _cut(self, base: str, ending: str) -> str:
        if not self._longest:
            return base + ending
        return base.encode(errors="replace")[: self._longest - len(ending)].decode(errors="ignore") + ending
