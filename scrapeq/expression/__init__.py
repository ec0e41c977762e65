"""
The one expression grammar of the configuration, and texts with `${...}` in them.

    or and not == != < <= > >= in + - * / %    a.b  a."x-y"  a[-1]    'text'  1h30m  true false null  [1, 2]
    calls: if default length contains starts_with lower split join regex number format min max time date
           header json raw path

Null propagates; text that meets a number is read as a number or a time (ISO 8601, Unix seconds). Data is
never code: the text is parsed into closures, within bounds of length and depth, and evaluation never raises.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from scrapeq.errors import ExpressionError
from scrapeq.expression.parser import Node, Parser
from scrapeq.expression.suggest import did_you_mean
from scrapeq.expression.template import Fill, Part, Placeholder, encode_segment, split_placeholders
from scrapeq.expression.values import Raw, as_number, as_text

__all__ = [
    "Expression",
    "Placeholder",
    "Template",
    "as_number",
    "as_text",
    "compile_expression",
    "compile_template",
    "did_you_mean",
    "split_placeholders",
]


class _Compiled:
    """What expressions and templates share: their text, the names they read, equality by text."""

    __slots__ = ("names", "paths", "source")

    def __init__(self, source: str, names: frozenset[str], paths: frozenset[tuple[str, ...]]) -> None:
        self.source = source
        self.names = names
        self.paths = paths

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and isinstance(other, _Compiled) and other.source == self.source

    def __hash__(self) -> int:
        return hash((type(self).__name__, self.source))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.source!r})"


class Expression(_Compiled):
    """
    A compiled expression.

    `source` is its text, `names` the root names it reads, `paths` the attribute paths
    (`("parent", "number")`; a path ends before the first `[index]`).
    """

    __slots__ = ("_node",)

    def __init__(
        self, source: str, node: Node, names: frozenset[str], paths: frozenset[tuple[str, ...]]
    ) -> None:
        super().__init__(source, names, paths)
        self._node = node

    def evaluate(self, scope: Mapping[str, Any]) -> Any:
        """The value in this scope; names that it lacks are null. Never raises."""
        return self._node(scope)


class Template(_Compiled):
    """A text with placeholders, compiled; `names` and `paths` are those of all of them."""

    __slots__ = ("_parts",)

    def __init__(
        self,
        source: str,
        parts: tuple[str | Expression, ...],
    ) -> None:
        inner = [part for part in parts if isinstance(part, Expression)]
        super().__init__(
            source,
            frozenset[str]().union(*(part.names for part in inner)),
            frozenset[tuple[str, ...]]().union(*(part.paths for part in inner)),
        )
        self._parts = parts

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Template) and other._parts == self._parts

    def __hash__(self) -> int:
        return hash(self._parts)

    @property
    def is_literal(self) -> bool:
        """Whether it has no placeholder."""
        return not self.names and all(isinstance(part, str) for part in self._parts)

    @property
    def prefix(self) -> str:
        """The text before the first placeholder."""
        return self._parts[0] if self._parts and isinstance(self._parts[0], str) else ""

    @property
    def text(self) -> str:
        """What compiles to the same template, with all that was filled in when it was compiled."""
        return "".join(
            part.replace("${", "$${") if isinstance(part, str) else f"${{{part.source}}}"
            for part in self._parts
        )

    def render(self, scope: Mapping[str, Any]) -> Any:
        """The text; a lone `${x}` keeps its type (and its null), null inside a longer text is empty."""
        parts = self._parts
        if len(parts) == 1 and isinstance(parts[0], Expression):
            value = parts[0].evaluate(scope)
            return str(value) if isinstance(value, Raw) else value
        return "".join(
            part if isinstance(part, str) else (as_text(part.evaluate(scope)) or "") for part in parts
        )

    def render_url(self, scope: Mapping[str, Any]) -> str | None:
        """The text as a whole address: each value as it is; None when one is null."""
        done = [part if isinstance(part, str) else as_text(part.evaluate(scope)) for part in self._parts]
        return None if None in done else "".join(text for text in done if text is not None)

    def render_path(self, scope: Mapping[str, Any]) -> str | None:
        """
        The text as part of a URL's path: a value is encoded as one segment; one of `segments(x)`, `raw(x)` is not.

        Returns:
            None when a value is null, or is `.` or `..`, which would lead elsewhere however encoded.
        """
        done: list[str] = []
        for part in self._parts:
            if isinstance(part, str):
                done.append(part)
                continue
            value = part.evaluate(scope)
            text = as_text(value)
            if text is None:
                return None
            if isinstance(value, Raw):
                done.append(text)
            elif text in (".", ".."):
                return None
            else:
                done.append(encode_segment(text))
        return "".join(done)


def compile_expression(text: str, known_names: Collection[str] | None = None) -> Expression:
    """
    Compile one expression.

    Args:
        text: The expression, without `${}`.
        known_names: Root names that exist in its place; None = any.

    Raises:
        ExpressionError: with the 0-based position in the text.
    """
    parser = Parser(text, known_names)
    node = parser.parse()
    return Expression(text, node, frozenset(parser.names), frozenset(parser.paths))


def compile_template(
    text: str, known_names: Collection[str] | None = None, *, fill: Fill | None = None
) -> Template:
    """
    Compile a text with `${...}` in it; `$${` is a literal `${`.

    Args:
        text: The text.
        known_names: Root names that exist in its place; None = any.
        fill: Answers the text that a placeholder stands for already now (it is never parsed), or None.

    Raises:
        ExpressionError: with the 0-based position in the whole text.
    """
    compiled: list[str | Expression] = []
    for part in split_placeholders(text):
        piece = _compile_part(part, known_names, fill)
        if isinstance(piece, str) and compiled and isinstance(compiled[-1], str):
            compiled[-1] += piece
        else:
            compiled.append(piece)
    return Template(text, tuple(compiled))


def _compile_part(part: Part, known_names: Collection[str] | None, fill: Fill | None) -> str | Expression:
    if isinstance(part, str):
        return part
    filled = fill(part) if fill else None
    if filled is not None:
        return filled
    try:
        return compile_expression(part.source, known_names)
    except ExpressionError as error:
        raise ExpressionError(error.message, part.position + error.position, error.hint) from None
