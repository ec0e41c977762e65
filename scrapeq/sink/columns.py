"""The columns of a table, derived from the records; a type widens when a value does not fit."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

import orjson

Kind = Literal["", "bool", "int", "float", "text", "json"]
"""The type of a column; "" = only nulls so far."""

INT_MAX = 2**63
REST = "_scrapeq_rest"
REST_FIELD = (
    "\ue000rest"  # stands for it among the fields; a private character, which JSON and databases can hold
)
"""The column for the fields that no column is left for, as a JSON object."""


def kind_of(value: Any) -> Kind:
    """Return the type of a value. Integers beyond 64 bits are text; NaN and infinity are null."""
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


def common_kind(one: Kind, other: Kind) -> Kind:
    """Return the narrowest type for values of both types: int and float give float, other pairs give text."""
    if one == other or not other:
        return one
    if not one:
        return other
    return "float" if {one, other} == {"int", "float"} else "text"


def as_json(value: Any) -> str:
    """Return a value as JSON text."""
    return orjson.dumps(value).decode()


def as_cell(value: Any) -> str:
    """Return a string as it is, and any other value as JSON text."""
    return value if isinstance(value, str) else as_json(value)


def stored_value(value: Any, kind: Kind) -> Any:
    """Return a value as a column of this type stores it; nested values become JSON text."""
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return None
    if kind in ("text", "json"):
        return as_cell(value) if kind == "text" else as_json(value)
    return float(value) if kind == "float" else value


def rest_note(table: str, columns: int) -> str:
    """Return the line for the user when a table has no column left."""
    return (
        f"check  table {table}: more fields than columns ({columns}); the others are in {REST} as JSON. "
        "Name the ones that you need under `fields`"
    )


@dataclass(slots=True)
class Column:
    """The name of a column in its table, and its type."""

    name: str
    kind: Kind


class Columns:
    """
    The columns of one table.

    Args:
        known: The result of an earlier `as_meta`: field -> (name, type).
        max_name_bytes: Longer names are truncated; 0 = no limit.
        fold_case: Names are case-insensitive.
        taken: Names that must not be used for fields.
        most: The most columns that the table may have; 0 = no limit. The last one is for the fields beyond.

    Attributes:
        by_field: The column of each field, in the order in which the fields appeared.
    """

    def __init__(
        self,
        known: dict[str, tuple[str, Kind]] | None = None,
        *,
        max_name_bytes: int = 0,
        fold_case: bool = False,
        taken: Iterable[str] = (),
        most: int = 0,
    ) -> None:
        taken = (*taken, REST)
        self._most = most - len(taken) if most else 0
        self._max_name_bytes = max_name_bytes
        self._fold = fold_case
        self._taken = {self._comparable(name) for name in taken}
        self.by_field: dict[str, Column] = {}
        for field, (name, kind) in (known or {}).items():
            self.by_field[field] = Column(name, kind)
            self._taken.add(self._comparable(name))

    def as_meta(self) -> dict[str, tuple[str, Kind]]:
        """Return the columns as plain JSON: field -> (name, type)."""
        return {field: (column.name, column.kind) for field, column in self.by_field.items()}

    def update(self, records: Iterable[dict[str, Any]]) -> tuple[list[str], dict[str, Kind]]:
        """
        Add and widen the columns so that these records fit.

        Returns:
            The fields that were added, and the fields whose type was widened, with the old type.
        """
        added: list[str] = []
        widened: dict[str, Kind] = {}
        for record in records:
            for field, value in record.items():
                kind = kind_of(value)
                column = self.by_field.get(field)
                if column is None and self._is_full(field):
                    if REST_FIELD not in self.by_field:
                        self.by_field[REST_FIELD] = Column(REST, "json")
                        added.append(REST_FIELD)
                elif column is None:
                    self.by_field[field] = Column(self._new_name(field), kind)
                    added.append(field)
                elif (
                    kind and kind != column.kind and (wider := common_kind(column.kind, kind)) != column.kind
                ):
                    if field not in added:
                        widened.setdefault(field, column.kind)
                    column.kind = wider
        return added, widened

    def row(self, record: dict[str, Any]) -> list[Any]:
        """Return the values of a record in the order of the columns."""
        row = [stored_value(record.get(field), column.kind) for field, column in self.by_field.items()]
        if REST_FIELD in self.by_field:
            rest = self.rest(record)
            row[list(self.by_field).index(REST_FIELD)] = as_json(rest) if rest else None
        return row

    def rest(self, record: dict[str, Any]) -> dict[str, Any]:
        """Return the fields of a record that have no column of their own."""
        return {field: value for field, value in record.items() if field not in self.by_field}

    def _is_full(self, field: str) -> bool:
        return bool(self._most) and len(self.by_field) >= self._most and field != REST_FIELD

    def _comparable(self, name: str) -> str:
        return name.lower() if self._fold else name

    def _new_name(self, field: str) -> str:
        """Return an unused column name for a field."""
        base = field.replace("\0", "_") or "_"
        number, name = 1, self._truncated(base, "")
        while self._comparable(name) in self._taken:
            number += 1
            name = self._truncated(base, f"_{number}")
        self._taken.add(self._comparable(name))
        return name

    def _truncated(self, base: str, suffix: str) -> str:
        if not self._max_name_bytes:
            return base + suffix
        return (
            base.encode(errors="replace")[: self._max_name_bytes - len(suffix)].decode(errors="ignore")
            + suffix
        )
