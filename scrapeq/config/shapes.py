"""Shapes of single values: each validates a node, converts it to a plain value, and describes itself as JSON Schema."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, NoReturn

from scrapeq.config import units
from scrapeq.config.expression_scopes import ExpressionScope
from scrapeq.config.nodes import Node
from scrapeq.config.read_context import NOT_IMPLEMENTED, ExpressionUse, Filled, ReadContext
from scrapeq.errors import ExpressionError
from scrapeq.expression import Placeholder, as_text, compile_expression, compile_template, did_you_mean

Schema = dict[str, Any]

ENV_SCHEMA: Schema = {"type": "string", "pattern": r"\$\{(env|file):"}
_SCALAR_TYPES = ["string", "number", "boolean"]
_BRACES = re.compile(r"(?<![$\w])\{([A-Za-z_][\w.]*)\}")


def last_key(field: str) -> str:
    """Return the last key of a field path: `limit` of `rates[0].limit`, `resources` of `resources[1]`."""
    return re.sub(r"\[\d+\]$", "", field).rpartition(".")[2]


class Shape:
    """What kind of value is valid for a key."""

    def read(self, node: Node, field: str, context: ReadContext) -> Any:
        """Return the value of a node. Raises InvalidValue after reporting the problem."""
        raise NotImplementedError

    def schema(self) -> Schema:
        """Return the JSON Schema (2020-12) of this shape."""
        raise NotImplementedError


def scalar(node: Node, field: str, context: ReadContext, expected: str) -> Node:
    """Return the node if it is a scalar and not null; otherwise reject it, with hints for the usual mistakes."""
    if node.kind == "map" and node.flow and len(node.entries) == 1:
        key, entry = next(iter(node.entries.items()))
        if entry.node.is_null:
            hint = f'{last_key(field)}: "${{{key}}}"'
            context.reject(node, field, "{ starts a YAML mapping here", hint)
    if node.kind != "scalar":
        context.reject(node, field, f"must be {expected}, not a {node.kind}")
    if node.is_null:
        context.reject(node, field, "is empty", f"write {expected}, or remove the line")
    return node


class Text(Shape):
    """A string; numbers and booleans keep their spelling. `pattern` must match the whole string."""

    def __init__(
        self, pattern: str = "", expected: str = "a string", hint: str = "", min_length: int = 1
    ) -> None:
        self._pattern = re.compile(pattern) if pattern else None
        self._expected, self._hint, self._min_length = expected, hint, min_length

    def read(self, node: Node, field: str, context: ReadContext) -> str:
        node = context.filled(scalar(node, field, context, self._expected), field)
        text = node.text
        if len(text) < self._min_length:
            context.reject(node, field, "is empty", f"write {self._expected}")
        if self._pattern and not self._pattern.fullmatch(text):
            context.reject(node, field, f"'{text}' is not {self._expected}", self._hint)
        return Filled(text, node.filled) if node.filled else text

    def schema(self) -> Schema:
        if self._pattern:
            return {"anyOf": [{"type": "string", "pattern": f"^(?:{self._pattern.pattern})$"}, ENV_SCHEMA]}
        return {"type": _SCALAR_TYPES}


_EXTERNAL = re.compile(r"\$\{(?:env|file):[^}]*\}")
_SCHEME_WORDS = re.compile(r"""(?:[A-Za-z][A-Za-z-]* +)?(?:[A-Za-z][A-Za-z-]*[=:]["']?)?""", re.ASCII)
_CLEAR_CHARS = 4  # letters and digits beside a placeholder that may be a secret of their own


class Secret(Shape):
    """
    A credential, which must come from the environment or a file.

    Args:
        allow_empty: Whether an empty string is a value.
        lines: Whether it may have several lines.
        affixes: Whether more text may stand beside the placeholder, as in `${env:EMAIL}/token`.
    """

    def __init__(self, allow_empty: bool = False, *, lines: bool = False, affixes: bool = False) -> None:
        self._allow_empty = allow_empty
        self._affixes = affixes
        self._allowed = "\r\n" if lines else ""

    def read(self, node: Node, field: str, context: ReadContext) -> str:
        if node.kind == "scalar" and not node.text and not node.plain and self._allow_empty:
            return ""
        node = scalar(node, field, context, "a secret from the environment")
        if is_clear_text(node.text) and not (self._affixes and _EXTERNAL.search(node.text)):
            reject_plaintext_secret(node, field, context)
        filled = context.filled(node, field, secret=True)
        text = filled.text.strip()
        if any(ord(letter) < ord(" ") and letter not in self._allowed for letter in text):
            context.reject(node, field, "the secret contains a line break or another control character")
        return Filled(text, node.text)

    def schema(self) -> Schema:
        return {"anyOf": [ENV_SCHEMA, {"const": ""}]} if self._allow_empty else ENV_SCHEMA


def is_clear_text(text: str) -> bool:
    """
    Return whether a secret is, at least in part, in the configuration itself.

    A placeholder may stand beside words that name a scheme, such as `Bearer ${env:TOKEN}`, and beside punctuation.
    """
    parts = _EXTERNAL.split(text)
    rest = "".join(_SCHEME_WORDS.sub("", part, count=1) for part in parts)
    return len(parts) == 1 or sum(letter.isalnum() for letter in rest) >= _CLEAR_CHARS


def reject_plaintext_secret(node: Node, field: str, context: ReadContext, variable: str = "") -> NoReturn:
    """Reject a secret that is in the file itself, or empty; `variable` is the name of a variable for the hint."""
    key = last_key(field)
    hint = f"{key}: ${{env:{_variable(context.name, variable or key)}}}"
    context.reject(node, field, "a secret in clear text" if node.text else "is empty", hint)


def _variable(name: str, key: str) -> str:
    return re.sub(r"\W", "_", f"{name}_{key.rstrip('s')}", flags=re.ASCII).upper()


class Number(Shape):
    """A number, whole unless `fractions`, from `minimum` (with `exclusive` above it) to `maximum`."""

    def __init__(
        self,
        minimum: float = 1,
        maximum: float = 1_000_000_000,
        *,
        exclusive: bool = False,
        fractions: bool = False,
    ) -> None:
        self._minimum, self._maximum = minimum, maximum
        self._exclusive, self._fractions = exclusive, fractions

    def read(self, node: Node, field: str, context: ReadContext) -> int | float:
        expected = "a number" if self._fractions else "a whole number"
        node = context.filled(scalar(node, field, context, expected), field)
        value: Any = node.value
        if isinstance(value, bool) or not isinstance(value, int | float):
            hint = "write it without quotes" if node.text.strip().lstrip("-").isdigit() else ""
            context.reject(node, field, f"'{node.text}' is not {expected}", hint)
        if isinstance(value, float) and not self._fractions:
            if not value.is_integer():
                context.reject(node, field, f"{node.text} is not a whole number")
            value = int(value)
        if value < self._minimum or (self._exclusive and value == self._minimum):
            bound = f"more than {self._minimum:g}" if self._exclusive else f"at least {self._minimum:g}"
            context.reject(node, field, f"{node.text} is too small; it must be {bound}")
        if value > self._maximum:
            context.reject(node, field, f"{node.text} is too large; it must be at most {self._maximum:,.0f}")
        number: int | float = value
        return number

    def schema(self) -> Schema:
        bound = "exclusiveMinimum" if self._exclusive else "minimum"
        kind = "number" if self._fractions else "integer"
        return {"anyOf": [{"type": kind, bound: self._minimum, "maximum": self._maximum}, ENV_SCHEMA]}


class Flag(Shape):
    """A boolean."""

    def read(self, node: Node, field: str, context: ReadContext) -> bool:
        node = context.filled(scalar(node, field, context, "true or false"), field)
        if not isinstance(node.value, bool):
            boolean = {"yes": "true", "on": "true", "no": "false", "off": "false"}.get(node.text.lower(), "")
            hint = boolean and f"write {boolean}"
            context.reject(node, field, f"'{node.text}' is neither true nor false", hint)
        return node.value

    def schema(self) -> Schema:
        return {"anyOf": [{"type": "boolean"}, ENV_SCHEMA]}


class Duration(Shape):
    """A duration such as `500ms`, `30s`, `1h30m` or `7d`; read as seconds."""

    def __init__(self, *, zero: bool = False) -> None:
        self._zero = zero

    def read(self, node: Node, field: str, context: ReadContext) -> float:
        node = context.filled(scalar(node, field, context, "a duration such as 30s"), field)
        text = node.text.strip()
        if text.startswith("-"):
            context.reject(node, field, f"{text} is too small; it must be more than 0")
        if self._zero and text == "0":
            return 0.0
        try:
            seconds = units.read_duration(text)
        except units.UnitError as error:
            context.reject(node, field, str(error))
        if seconds <= 0 and not self._zero:
            context.reject(node, field, f"{text} is too small; it must be more than 0")
        return seconds

    def schema(self) -> Schema:
        return {"anyOf": [{"type": "string", "pattern": units.DURATION_PATTERN}, ENV_SCHEMA]}


class Size(Shape):
    """A size such as `10MB` or `2GiB`; read as bytes."""

    def read(self, node: Node, field: str, context: ReadContext) -> int:
        node = context.filled(scalar(node, field, context, "a size such as 64MB"), field)
        text = node.text.strip()
        try:
            size = units.read_size(text)
        except units.UnitError as error:
            context.reject(node, field, str(error))
        if size <= 0:
            context.reject(node, field, f"{text} is too small; it must be more than 0")
        return size

    def schema(self) -> Schema:
        return {"anyOf": [{"type": "string", "pattern": units.SIZE_PATTERN}, ENV_SCHEMA]}


class Choice(Shape):
    """
    One word of a list.

    Args:
        implemented: The valid words.
        unimplemented: Words of the language that are not implemented.
        fold: Whether a word may be in lower case; the words are in upper case.
        group: A group of entry points whose names are valid words too.
    """

    def __init__(
        self,
        implemented: Sequence[str],
        unimplemented: Sequence[str] = (),
        *,
        fold: bool = False,
        group: str = "",
    ) -> None:
        self.implemented, self.unimplemented, self._fold, self._group = (
            tuple(implemented),
            tuple(unimplemented),
            fold,
            group,
        )

    def added(self) -> list[str]:
        """Return the words that installed packages add."""
        if not self._group:
            return []
        from scrapeq import plugins  # imported here because listing all installed packages slows a start

        return [
            name
            for name in plugins.names(self._group)
            if name not in (*self.implemented, *self.unimplemented)
        ]

    def read(self, node: Node, field: str, context: ReadContext) -> str:
        key = last_key(field)
        node = context.filled(scalar(node, field, context, f"one of {', '.join(self.implemented)}"), field)
        word = node.text.upper() if self._fold else node.text
        if word in self.implemented:
            return word
        one_of = f"one of {', '.join(self.implemented)}"
        if word in self.unimplemented:
            context.reject(node, field, f"'{word}' is {NOT_IMPLEMENTED}", one_of)
        added = self.added()
        if word in added:
            return word
        one_of = f"one of {', '.join([*self.implemented, *added])}"
        near = did_you_mean(word, [*self.implemented, *self.unimplemented, *added])
        hint = f"did you mean {near}? {one_of}" if near else one_of
        return context.reject(node, field, f"unknown {key} '{word}'", hint)

    def schema(self) -> Schema:
        if self._fold:
            return {"type": "string"}
        if self._group:
            return {"anyOf": [{"enum": list(self.implemented)}, {"type": "string"}]}
        return {"anyOf": [{"enum": list(self.implemented)}, ENV_SCHEMA]}


class Expr(Shape):
    """An expression, written without `${ }`."""

    def __init__(self, scope: ExpressionScope) -> None:
        self._scope = scope

    def read(self, node: Node, field: str, context: ReadContext) -> Any:
        node = scalar(node, field, context, "an expression")
        try:
            compiled = compile_expression(node.text, self._scope.names | self._scope.unimplemented)
        except ExpressionError as error:
            if "${" in node.text:
                inner = node.text.replace("${", "").replace("}", "")
                context.reject(node, field, "an expression is written without ${ } here", f"write {inner}")
            context.reject_expression(node, field, _known_here(error, self._scope.names))
        context.uses.append(ExpressionUse(field, node, compiled, self._scope.unimplemented))
        return compiled

    def schema(self) -> Schema:
        return {"type": _SCALAR_TYPES}


def _known_here(error: ExpressionError, names: frozenset[str]) -> ExpressionError:
    """Limit the names in the hint of an error to those that are implemented."""
    if error.message.startswith("unknown name"):
        error.hint = f"available names: {', '.join(sorted(names))}"
    return error


class TemplateText(Shape):
    """A string that may contain `${...}`. In a path, `{name}` without `$` is rejected: it would be sent unchanged."""

    def __init__(self, scope: ExpressionScope, *, path: bool = False) -> None:
        self._scope, self._path = scope, path

    def read(self, node: Node, field: str, context: ReadContext) -> Any:
        node = scalar(node, field, context, "a string")
        found = _BRACES.search(node.text)
        if found and (self._path or ("." in found[1] and found[1].split(".")[0] in self._scope.names)):
            hint = f"placeholders are written ${{{found[1]}}}"
            context.reject(node, field, "{…} is not replaced", hint, offset=found.start())

        def fill(placeholder: Placeholder) -> str | None:
            return context.fill(placeholder, node, field)

        try:
            compiled = compile_template(node.text, self._scope.names | self._scope.unimplemented, fill=fill)
        except ExpressionError as error:
            context.reject_expression(node, field, _known_here(error, self._scope.names))
        context.uses.append(ExpressionUse(field, node, compiled, self._scope.unimplemented))
        return compiled

    def schema(self) -> Schema:
        return {"type": _SCALAR_TYPES}


class Json(Shape):
    """
    Any value; strings in it may contain `${...}`.

    Without a scope only `${env:...}` and `${file:...}` are filled in. With `spelling`, a number that would be written
    differently (`1.10`) becomes a string.
    """

    def __init__(self, scope: ExpressionScope | None = None, *, spelling: bool = False) -> None:
        self._scope, self._spelling = scope, spelling

    def read(self, node: Node, field: str, context: ReadContext) -> Any:
        if node.kind == "list":
            return [self.read(item, f"{field}[{index}]", context) for index, item in enumerate(node.items)]
        if node.kind == "map":
            return {key: self.read(e.node, f"{field}.{key}", context) for key, e in node.entries.items()}
        if not isinstance(node.value, str):
            keep = not self._spelling or node.value is None or as_text(node.value) == node.text
            return node.value if keep else node.text
        if self._scope is not None and ("${" in node.text or _BRACES.search(node.text)):
            return TemplateText(self._scope).read(node, field, context)
        filled = context.filled(node, field)
        return Filled(filled.text, filled.filled) if filled.filled else node.value

    def schema(self) -> Schema:
        return {}
