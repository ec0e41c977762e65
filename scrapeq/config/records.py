"""Shapes of maps and lists: maps with known keys, maps with any keys, lists; and suggestions for unknown keys."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from dataclasses import field as member
from typing import Any

from scrapeq.config.foreign_keys import EXAMPLES, FOREIGN
from scrapeq.config.nodes import Entry, Node
from scrapeq.config.read_context import NOT_IMPLEMENTED, InvalidValue, ReadContext
from scrapeq.config.shapes import Choice, Schema, Shape
from scrapeq.expression import did_you_mean


@dataclass(frozen=True, slots=True)
class Key:
    """One key of a map: its shape (None: not implemented), whether it is required, and a hint for its problems."""

    shape: Shape | None
    required: bool = False
    hint: str = ""


def unimplemented(hint: str = "") -> Key:
    """Return a key that is not implemented; `hint` says what to write instead."""
    return Key(None, hint=hint)


@dataclass
class ParsedMap:
    """A parsed map: its valid values by key, and its node, for the positions of later problems."""

    node: Node
    field: str
    values: dict[str, Any] = member(default_factory=dict)

    def get(self, key: str, default: Any = None) -> Any:
        """Return the value of a key, or the default if it is absent or invalid."""
        return self.values.get(key, default)

    def has(self, key: str) -> bool:
        """Return whether the key is in the file, valid or not."""
        return key in self.node.entries

    def value_node(self, key: str) -> Node:
        """Return the node of a key's value, or the node of the map if the key is absent."""
        return self.node.get(key) or self.node


class Record(Shape):
    """
    A map with known keys.

    Args:
        keys: The keys, by name.
        shorthand: The key for which a scalar in place of the map is a shorthand.
        extra: Prefix of keys that belong to the user and are ignored.
        example: Hint for a value that is not a map.
        hints: Hints for keys that other maps have and this one has not.
    """

    def __init__(
        self,
        keys: Mapping[str, Key],
        *,
        shorthand: str = "",
        extra: str = "",
        example: str = "",
        hints: Mapping[str, str] | None = None,
    ) -> None:
        self.keys = dict(keys)
        self.shorthand = shorthand
        self._extra = extra
        self._example = example
        self._hints = {**EXAMPLES, **(hints or {})}

    def read(self, node: Node, field: str, context: ReadContext) -> ParsedMap:
        node = self.as_map(node)
        if node.kind != "map":
            message = "is empty" if node.is_null else f"must be a map, not a {node.kind}"
            hint = self._example or f"keys: {', '.join(self._implemented(self.keys))}"
            context.reject(node, field, message, hint)
        return self._read_map(node, field, context, self.keys)

    def as_map(self, node: Node) -> Node:
        """Return the map for which a scalar is a shorthand; other nodes unchanged."""
        if self.shorthand and node.kind == "scalar" and not node.is_null:
            return node.map(**{self.shorthand: node})
        return node

    @staticmethod
    def _implemented(keys: Mapping[str, Key]) -> list[str]:
        return [name for name, key in keys.items() if key.shape]

    def _read_map(self, node: Node, field: str, context: ReadContext, keys: Mapping[str, Key]) -> ParsedMap:
        found = ParsedMap(node, field)
        for name, entry in node.entries.items():
            inner = f"{field}.{name}" if field else name
            key = keys.get(name)
            if key is None:
                if not (self._extra and name.startswith(self._extra)):
                    self.unknown(entry, inner, context, keys)
            elif key.shape is None:
                self.reject_unimplemented(entry, inner, key, context)
            else:
                try:
                    found.values[name] = key.shape.read(entry.node, inner, context)
                except InvalidValue:
                    continue
        # A required key that is misspelled is one mistake, not two.
        intended = {did_you_mean(name, keys) for name in node.entries if name not in keys}
        for name, key in keys.items():
            if key.required and name not in node.entries and name not in intended:
                inner = f"{field}.{name}" if field else name
                context.report(node, inner, "is missing", key.hint)
        return found

    @staticmethod
    def reject_unimplemented(entry: Entry, field: str, key: Key, context: ReadContext) -> None:
        """Report a key that is not implemented."""
        context.report(_key_node(entry), field, NOT_IMPLEMENTED, key.hint)

    def unknown(self, entry: Entry, field: str, context: ReadContext, keys: Mapping[str, Key]) -> None:
        """Report an unknown key: a key of another tool, a key of another level, or a typo."""
        name, node = entry.key, _key_node(entry)
        if hint := self._hints.get(name):
            context.report(node, field, f"unknown key '{name}'", hint)
            return
        here = FOREIGN.get(name.replace("-", "_").lower())
        if here and (here.split(".")[0] in keys or not field.endswith(f".{name}")):
            context.report(node, field, "unknown key", f"here it is called {here}")
            return
        message = f"unknown key '{name}'"
        if below := self._level_below(name, keys):
            context.report(node, field, message, f"{name} belongs under {below}:")
            return
        if near := did_you_mean(name, keys):
            context.report(node, field, message, f"did you mean {near}?")
        elif above := PARENT_KEYS.get(name):
            context.report(node, field, message, f"{name} belongs under {above}:")
        elif below := self._level_below(near_below := self._near_below(name, keys), keys):
            context.report(node, field, message, f"did you mean {near_below}, under {below}:?")
        else:
            context.report(node, field, message, f"keys: {', '.join(self._implemented(keys))}")

    @staticmethod
    def _level_below(name: str, keys: Mapping[str, Key]) -> str:
        for key, value in keys.items():
            if isinstance(value.shape, Record) and name and name in value.shape.all_keys():
                return key
        return ""

    @staticmethod
    def _near_below(name: str, keys: Mapping[str, Key]) -> str:
        known = [n for k in keys.values() if isinstance(k.shape, Record) for n in k.shape.all_keys()]
        return did_you_mean(name, known) or ""

    def all_keys(self) -> set[str]:
        """Return every key that the map may have."""
        return set(self.keys)

    def schema(self) -> Schema:
        properties = {name: key.shape.schema() for name, key in self.keys.items() if key.shape}
        result: Schema = {"type": "object", "properties": properties, "additionalProperties": False}
        if self._extra:
            result["patternProperties"] = {f"^{self._extra}": {}}
        required = [name for name, key in self.keys.items() if key.required]
        if required:
            result["required"] = required
        if self.shorthand:
            return {"anyOf": [self.shorthand_schema(), result]}
        return result

    def shorthand_schema(self) -> Schema:
        """Return the schema of the shorthand."""
        shape = self.keys[self.shorthand].shape
        return shape.schema() if shape else {}


class TypedRecord(Record):
    """
    A map whose `type` decides which other keys it may have.

    If an entry point of an installed package provides the type, `options` reads all keys that are not `common` as one
    map.
    """

    def __init__(
        self,
        kind: Choice,
        common: Mapping[str, Key],
        by_type: Mapping[str, Mapping[str, Key]],
        *,
        short: bool = False,
        options: Shape | None = None,
        hints: Mapping[str, str] | None = None,
    ) -> None:
        self._kind = kind
        self._by_type = by_type
        self._options = options
        self._common = {
            "type": Key(kind, required=True, hint=f"one of {', '.join(kind.implemented)}"),
            **common,
        }
        every = {name: key for keys in by_type.values() for name, key in keys.items()}
        super().__init__({**self._common, **every}, shorthand="type" if short else "", hints=hints)

    def _read_map(self, node: Node, field: str, context: ReadContext, keys: Mapping[str, Key]) -> ParsedMap:
        kind = node.get("type")
        word = kind.text if kind else ""
        if word not in self._by_type:
            # Without a known type, only the common keys can be checked.
            common = {key: entry for key, entry in node.entries.items() if key in self._common}
            found = super()._read_map(node.with_entries(common), field, context, self._common)
            if self._options and word in self._kind.added():
                rest = {key: entry for key, entry in node.entries.items() if key not in self._common}
                found.values["options"] = self._options.read(node.with_entries(rest), field, context)
            return found
        return super()._read_map(node, field, context, {**self._common, **self._by_type[word]})

    def unknown(self, entry: Entry, field: str, context: ReadContext, keys: Mapping[str, Key]) -> None:
        """Report an unknown key, or a key that belongs to another type."""
        for word, others in self._by_type.items():
            if entry.key in others:
                node = _key_node(entry)
                hint = f"{entry.key} belongs to type {word}"
                context.report(node, field, f"unknown key '{entry.key}'", hint)
                return
        super().unknown(entry, field, context, keys)

    def schema(self) -> Schema:
        result = super().schema()
        inner = result["anyOf"][1] if self.shorthand else result
        inner["required"] = ["type"]
        if self._options:
            inner["additionalProperties"] = True  # for the types of entry points
        inner["allOf"] = [
            {
                "if": {"properties": {"type": {"const": word}}, "required": ["type"]},
                "then": {"propertyNames": {"enum": [*self._common, *keys]}},
            }
            for word, keys in self._by_type.items()
        ]
        return result


class ListOf(Shape):
    """A list; with `single`, a value that is not a list is a shorthand for a list of one."""

    def __init__(
        self,
        inner: Shape,
        *,
        single: bool = False,
        min_items: int = 0,
        max_items: int = 0,
        expected: str = "a list",
    ) -> None:
        self._inner, self._single, self._min_items, self._expected = inner, single, min_items, expected
        self._max_items = max_items  # 0: any number

    def read(self, node: Node, field: str, context: ReadContext) -> tuple[Any, ...]:
        if node.kind != "list":
            if not self._single:
                message = "is empty" if node.is_null else f"must be a list, not a {node.kind}"
                context.reject(node, field, message, f"write {self._expected}")
            return (self._inner.read(node, field, context),)
        if len(node.items) < self._min_items:
            context.reject(node, field, "is empty", f"write {self._expected}")
        if self._max_items and len(node.items) > self._max_items:
            context.reject(
                node, field, f"has {len(node.items)} elements; at most {self._max_items} are allowed"
            )
        return tuple(self._read_items(node, field, context))

    def _read_items(self, node: Node, field: str, context: ReadContext) -> Iterator[Any]:
        for index, item in enumerate(node.items):
            try:
                yield self._inner.read(item, f"{field}[{index}]", context)
            except InvalidValue:
                continue

    def schema(self) -> Schema:
        inner = self._inner.schema()
        result: Schema = {"type": "array", "items": inner}
        if self._min_items:
            result["minItems"] = self._min_items
        if self._max_items:
            result["maxItems"] = self._max_items
        return {"anyOf": [inner, result]} if self._single else result


class MapOf(Shape):
    """A map with arbitrary keys."""

    def __init__(self, inner: Shape, expected: str = "a map {name: value}") -> None:
        self._inner, self._expected = inner, expected

    def read(self, node: Node, field: str, context: ReadContext) -> dict[str, Any]:
        if node.kind != "map":
            message = "is empty" if node.is_null else f"must be a map, not a {node.kind}"
            context.reject(node, field, message, f"write {self._expected}")
        values: dict[str, Any] = {}
        for name, entry in node.entries.items():
            try:
                values[name] = self._inner.read(entry.node, f"{field}.{name}", context)
            except InvalidValue:
                continue
        return values

    def schema(self) -> Schema:
        return {"type": "object", "additionalProperties": self._inner.schema()}


def _key_node(entry: Entry) -> Node:
    """Return a node at the position of the key itself, for a problem."""
    return Node("scalar", entry.node.file, entry.line, entry.col, text=entry.key, plain=True)


# The map that a key belongs under, for hints on misplaced keys; `language` fills it.
PARENT_KEYS: dict[str, str] = {}


def learn_parent_keys(root: Record) -> None:
    """Store for every key of the language the map that it belongs under, preferring outer maps."""
    waiting: list[tuple[str, Record]] = [("", root)]
    while waiting:
        below, record = waiting.pop(0)
        for name, key in record.keys.items():
            if below:
                PARENT_KEYS.setdefault(name, below)
            shape: Any = key.shape
            inner = getattr(shape, "_inner", shape)
            if isinstance(inner, Record):
                waiting.append((name if not below else f"{below}.{name}", inner))
