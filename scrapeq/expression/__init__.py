"""
Expressions of the configuration, and templates: strings that contain `${...}`.

    or and not == != < <= > >= in + - * / %    a.b  a."x-y"  a[-1]    'text'  1h30m  true false null  [1, 2]
    functions: if default length contains starts_with lower split join regex number format min max time date
               header json raw segments path

Null propagates. A string compared or combined with a number is read as a number or a time (ISO 8601, Unix
seconds). Data is never code: an expression is parsed into closures, its length and depth are bounded, and
its evaluation never raises.
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
    """Base of expressions and templates: their source, the names they read, equality by source."""

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

    Attributes:
        source: The text it was compiled from.
        names: The root names it reads.
        paths: The attribute paths it reads, such as `("parent", "number")`; a path ends before the first `[index]`.
    """

    __slots__ = ("_node",)

    def __init__(
        self, source: str, node: Node, names: frozenset[str], paths: frozenset[tuple[str, ...]]
    ) -> None:
        super().__init__(source, names, paths)
        self._node = node

    def evaluate(self, scope: Mapping[str, Any]) -> Any:
        """Return the value in this scope. A name that the scope lacks is null. Never raises."""
        return self._node(scope)


class Template(_Compiled):
    """A compiled string with placeholders; `names` and `paths` cover all of its placeholders."""

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
        """Whether the template consists of literal text only."""
        return not self.names and all(isinstance(part, str) for part in self._parts)

    @property
    def prefix(self) -> str:
        """The text before the first placeholder."""
        return self._parts[0] if self._parts and isinstance(self._parts[0], str) else ""

    @property
    def text(self) -> str:
        """Return a source that compiles to the same template, including the text filled in at compile time."""
        return "".join(
            part.replace("${", "$${") if isinstance(part, str) else f"${{{part.source}}}"
            for part in self._parts
        )

    def render(self, scope: Mapping[str, Any]) -> Any:
        """
        Return the rendered value.

        A template that is a single `${x}` keeps the type of the value, null included. Inside a longer string null
        renders as an empty string.
        """
        parts = self._parts
        if len(parts) == 1 and isinstance(parts[0], Expression):
            value = parts[0].evaluate(scope)
            return str(value) if isinstance(value, Raw) else value
        return "".join(
            part if isinstance(part, str) else (as_text(part.evaluate(scope)) or "") for part in parts
        )

    def render_url(self, scope: Mapping[str, Any]) -> str | None:
        """Return the rendered string as a full URL: values are not encoded. None if a value is null."""
        rendered = [part if isinstance(part, str) else as_text(part.evaluate(scope)) for part in self._parts]
        return None if None in rendered else "".join(text for text in rendered if text is not None)

    def render_path(self, scope: Mapping[str, Any]) -> str | None:
        """
        Return the rendered string as part of a URL's path.

        Each value is percent-encoded as one path segment, except the results of `segments(x)` and `raw(x)`.

        Returns:
            None if a value is null, or is `.` or `..`: servers resolve dot segments even when they are encoded.
        """
        rendered: list[str] = []
        for part in self._parts:
            if isinstance(part, str):
                rendered.append(part)
                continue
            value = part.evaluate(scope)
            text = as_text(value)
            if text is None:
                return None
            if isinstance(value, Raw):
                rendered.append(text)
            elif text in (".", ".."):
                return None
            else:
                rendered.append(encode_segment(text))
        return "".join(rendered)


def compile_expression(text: str, known_names: Collection[str] | None = None) -> Expression:
    """
    Compile one expression.

    Args:
        text: The expression, without `${}`.
        known_names: Root names that the expression may use; None allows any name.

    Raises:
        ExpressionError: The expression is invalid; carries the 0-based position in the text.
    """
    parser = Parser(text, known_names)
    node = parser.parse()
    return Expression(text, node, frozenset(parser.names), frozenset(parser.paths))


def compile_template(
    text: str, known_names: Collection[str] | None = None, *, fill: Fill | None = None
) -> Template:
    """
    Compile a string that contains `${...}`; `$${` is a literal `${`.

    Args:
        text: The string.
        known_names: Root names that the placeholders may use; None allows any name.
        fill: Returns the literal text for a placeholder that is resolved at compile time, such as `env:X`, or None
            for an expression. The returned text is never parsed.

    Raises:
        ExpressionError: A placeholder is invalid; carries the 0-based position in the whole string.
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
