"""What is known while one file is read: its problems so far, the environment, and which names its expressions use."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn

from scrapeq.config.nodes import Node, resolve
from scrapeq.errors import ExpressionError, Problem
from scrapeq.expression import Expression, Placeholder, Template, did_you_mean, split_placeholders

MAX_SECRET_FILE = 64_000
NOT_IMPLEMENTED = "not built yet in this version"


class InvalidValue(Exception):
    """A value that cannot be read; the problem is noted already."""


@dataclass(frozen=True, slots=True)
class ExpressionUse:
    """An expression or template where it stands."""

    field: str
    node: Node
    compiled: Expression | Template
    unimplemented: frozenset[str]  # names that are of the language, but not given in this version


class Filled(str):
    """A text into which `${env:...}` or `${file:...}` was filled; `source` is as it was written."""

    source: str

    def __new__(cls, text: str, source: str) -> Filled:
        made = super().__new__(cls, text)
        made.source = source
        return made

    def __deepcopy__(self, _memo: object) -> Filled:
        return self  # as any text


CREDENTIAL_FIELDS = ("client.auth.", "client.headers.")
NO_CREDENTIAL = "unset"  # stands for one that is never sent


@dataclass
class ReadContext:
    """
    Collects the problems of one file; `folder` is where `${file:...}` begins.

    Without `inputs` a file of seeds need not be there yet; without `credentials` their variables need not be set.
    """

    env: Mapping[str, str]
    folder: Path
    inputs: bool = True
    credentials: bool = True
    name: str = "demo"
    problems: list[Problem] = field(default_factory=list)
    uses: list[ExpressionUse] = field(default_factory=list)

    def report(self, node: Node, field: str, message: str, hint: str = "", *, offset: int = 0) -> None:
        """A problem; `offset` moves the column within a value of one line."""
        col = node.col
        if offset and "\n" not in node.text and not node.filled:
            col += offset + (0 if node.plain else 1)
        self.problems.append(Problem(node.file, node.line, col, field, message, hint))

    def reject(self, node: Node, field: str, message: str, hint: str = "", *, offset: int = 0) -> NoReturn:
        """A problem, and no value."""
        self.report(node, field, message, hint, offset=offset)
        raise InvalidValue

    def reject_expression(self, node: Node, field: str, error: ExpressionError) -> NoReturn:
        """The problem of an expression, at its place in the value."""
        self.reject(node, field, error.message, error.hint, offset=error.position)

    def has_problem(self, prefix: str) -> bool:
        """Whether something below this field is wrong: then what is missing may be that."""
        return any(problem.field.startswith(prefix) for problem in self.problems)

    def has_unimplemented(self, prefix: str) -> bool:
        """Whether something below this field was refused because it is not built: then what is missing may be that."""
        return any(NOT_IMPLEMENTED in p.message and p.field.startswith(prefix) for p in self.problems)

    def fill(self, placeholder: Placeholder, node: Node, field: str, *, secret: bool = False) -> str | None:
        """What `${env:X}`, `${env:X:-default}` or `${file:PATH}` stands for; None for any other placeholder."""
        kind, colon, rest = placeholder.source.partition(":")
        if not colon or kind not in ("env", "file"):
            return None
        if kind == "file":
            return self._file(rest, node, field, placeholder.position)
        name, dash, default = rest.partition(":-")
        value = self.env.get(name)
        if dash:
            if not value and default and secret:
                self.reject(node, field, "a secret in clear text", f"${{env:{name}}}, without a default")
            return value or default
        if not value and not self.credentials and field.startswith(CREDENTIAL_FIELDS):
            return NO_CREDENTIAL
        if value is None:
            near = did_you_mean(name, self.env.keys())
            hint = f"{near} is set: is that the one?" if near else f"export {name}=..."
            message = f"the environment variable {name} is not set"
            self.reject(node, field, message, hint, offset=placeholder.position - 2)
        if not value and secret:
            self.reject(
                node, field, f"the environment variable {name} is empty", offset=placeholder.position - 2
            )
        return value

    def _file(self, written: str, node: Node, field: str, index: int) -> str:
        path = self.folder / written
        try:
            with path.open("rb") as file:
                data = file.read(MAX_SECRET_FILE + 1)
            text = data.decode("utf-8")
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or "it is no UTF-8 text"
            self.reject(node, field, f"the file {written} cannot be read: {reason}", offset=index - 2)
        if len(data) > MAX_SECRET_FILE:
            self.reject(
                node, field, f"the file {written} is larger than {MAX_SECRET_FILE} bytes", offset=index - 2
            )
        return text.rstrip("\r\n")

    def filled(self, node: Node, field: str, *, secret: bool = False) -> Node:
        """The scalar with its environment filled in; any other placeholder is refused."""
        if node.kind != "scalar" or "${" not in node.text:
            return node
        parts: list[str] = []
        try:
            pieces = split_placeholders(node.text)
        except ExpressionError as error:
            self.reject_expression(node, field, error)
        for piece in pieces:
            if isinstance(piece, str):
                parts.append(piece)
                continue
            value = self.fill(piece, node, field, secret=secret)
            if value is None:
                message = f"${{{piece.source}}} is not known here"
                hint = "only ${env:...} and ${file:...} are filled in here"
                self.reject(node, field, message, hint, offset=piece.position - 2)
            parts.append(value)
        text = "".join(parts)
        made = node.scalar(text, plain=False)
        made.value = text if secret or not text else resolve(text)
        made.filled = node.text
        return made
