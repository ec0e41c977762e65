"""State of reading one file: its problems so far, the environment, and the expressions that were found."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn

from scrapeq.config.nodes import Node, resolve
from scrapeq.errors import ExpressionError, Problem
from scrapeq.expression import Expression, Placeholder, Template, did_you_mean, split_placeholders

MAX_SECRET_FILE = 64_000
NOT_IMPLEMENTED = "not implemented in this version"


class InvalidValue(Exception):
    """A value that cannot be read; its problem has been reported."""


@dataclass(frozen=True, slots=True)
class ExpressionUse:
    """An expression or template of the file, with its position."""

    field: str
    node: Node
    compiled: Expression | Template
    unimplemented: frozenset[str]  # valid names that this version does not implement


class Filled(str):
    """A string into which `${env:...}` or `${file:...}` was filled; `source` is the string as written."""

    source: str

    def __new__(cls, text: str, source: str) -> Filled:
        result = super().__new__(cls, text)
        result.source = source
        return result

    def __deepcopy__(self, _memo: object) -> Filled:
        return self  # immutable, like any string


_REQUEST_FIELD = re.compile(
    r"client\.(?:auth|headers|params|base_url)\b|(?:resources\[\d+\]|resource_defaults)\.endpoint\."
    r"(?:path|url|params|headers|json|data)\b"
)
_PUBLIC_KEYS = frozenset({"username", "client_id", "name", "scopes", "location", "access_token_url", "type"})
_SECRET_WORD = re.compile(
    r"key(?!word)|tok(?:en)?s?(?![a-z])|secret|passw|cookie|credential|auth(?!or(?!i[sz]))|"
    r"(?:^|[_\W])(?:pass|pwd|pw|pin|otp|jwt|sid|pat|sig|signature|hash|session|bearer)(?:$|[_\W])",
    re.IGNORECASE,
)
_RANDOM = re.compile(
    r"(?=[^a-zA-Z]*[a-zA-Z])(?=\D*\d)[A-Za-z0-9_:=+.-]{16,}"
)  # letters and digits without spaces
_LABEL_CHARS = 24  # before a placeholder: `api_key=`, `<Password>`
CREDENTIAL_FIELDS = ("client.auth.", "client.headers.")
NO_CREDENTIAL = "unset"  # placeholder for a credential that is never sent


@dataclass
class ReadContext:
    """
    The environment of one file, and the problems found in it.

    Attributes:
        env: The environment variables.
        folder: The folder to which the paths of `${file:...}` are relative.
        inputs: Whether the files of seeds must exist.
        credentials: Whether the environment variables of credentials must be set.
        name: The name of the scrape, for hints.
        problems: All problems found so far.
        uses: All expressions and templates found so far.
        secrets: The values that requests must carry, but that must be neither stored nor shown.
    """

    env: Mapping[str, str]
    folder: Path
    inputs: bool = True
    credentials: bool = True
    name: str = "demo"
    problems: list[Problem] = field(default_factory=list)
    uses: list[ExpressionUse] = field(default_factory=list)
    secrets: dict[str, None] = field(default_factory=dict)

    def report(self, node: Node, field: str, message: str, hint: str = "", *, offset: int = 0) -> None:
        """Record a problem; `offset` is the 0-based index of the mistake in a single-line value."""
        col = node.col
        if offset and "\n" not in node.text and not node.filled:
            col += offset + (0 if node.plain else 1)
        self.problems.append(Problem(node.file, node.line, col, field, message, hint))

    def reject(self, node: Node, field: str, message: str, hint: str = "", *, offset: int = 0) -> NoReturn:
        """Report a problem and raise InvalidValue."""
        self.report(node, field, message, hint, offset=offset)
        raise InvalidValue

    def reject_expression(self, node: Node, field: str, error: ExpressionError) -> NoReturn:
        """Report the problem of an expression at its position in the value, and raise InvalidValue."""
        self.reject(node, field, error.message, error.hint, offset=error.position)

    def has_problem(self, prefix: str) -> bool:
        """Return whether a field with this prefix has a problem, which may explain a missing key."""
        return any(problem.field.startswith(prefix) for problem in self.problems)

    def has_unimplemented(self, prefix: str) -> bool:
        """Return whether a field with this prefix was rejected as unimplemented, which may explain a missing key."""
        return any(NOT_IMPLEMENTED in p.message and p.field.startswith(prefix) for p in self.problems)

    def fill(self, placeholder: Placeholder, node: Node, field: str, *, secret: bool = False) -> str | None:
        """Return the text of `${env:X}`, `${env:X:-default}` or `${file:PATH}`; None for any other placeholder."""
        kind, colon, rest = placeholder.source.partition(":")
        if not colon or kind not in ("env", "file"):
            return None
        if kind == "file":
            content = self._read_file(rest, node, field, placeholder.position)
            self._note_secret(content, field, node, placeholder.position)
            return content
        name, dash, default = rest.partition(":-")
        value = self.env.get(name)
        if dash:
            if not value and default and secret:
                self.reject(node, field, "a secret in clear text", f"${{env:{name}}}, without a default")
            if value and value != default:
                self._note_secret(value, field, node, placeholder.position, name)
            return value or default
        is_credential = field.startswith(CREDENTIAL_FIELDS) or (
            bool(_REQUEST_FIELD.match(field)) and bool(_SECRET_WORD.search(name))
        )
        if not value and not self.credentials and is_credential:
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
        self._note_secret(value, field, node, placeholder.position, name)
        return value

    def _note_secret(self, value: str, field: str, node: Node, position: int, variable: str = "") -> None:
        """
        Remember a value of a request as a secret, judged by its names and its form.

        Args:
            value: The value.
            field: The field that it is filled into.
            node: The node of the field.
            position: Where in its text.
            variable: The name of its environment variable; empty = it comes from a file, so it is a secret.
        """
        key = field.rpartition(".")[2]
        if not _REQUEST_FIELD.match(field) or key in _PUBLIC_KEYS:
            return
        if key in ("base_url", "url") and "/" not in node.text[:position].partition("://")[2]:
            # It is, or begins with, the address of a host, which is not a secret; but a segment of its path may be.
            path = value.partition("://")[2].partition("/")[2]
            self.secrets.update(dict.fromkeys(part for part in path.split("/") if _RANDOM.fullmatch(part)))
            return
        is_secret = (
            not variable
            or field.startswith(CREDENTIAL_FIELDS[0])
            or bool(_SECRET_WORD.search(variable) or _SECRET_WORD.search(key) or _RANDOM.fullmatch(value))
            or bool(_SECRET_WORD.search(node.text[max(0, position - _LABEL_CHARS) : position]))
        )
        if is_secret:
            pool = [part.strip() for part in re.split(r"[,\r\n]", value)]
            self.secrets.update(dict.fromkeys([value, *pool]))

    def _read_file(self, written: str, node: Node, field: str, position: int) -> str:
        path = self.folder / written
        try:
            with path.open("rb") as file:
                data = file.read(MAX_SECRET_FILE + 1)
            text = data.decode("utf-8")
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or "it is not UTF-8 text"
            self.reject(node, field, f"the file {written} cannot be read: {reason}", offset=position - 2)
        if len(data) > MAX_SECRET_FILE:
            self.reject(
                node, field, f"the file {written} is larger than {MAX_SECRET_FILE} bytes", offset=position - 2
            )
        return text.rstrip("\r\n")

    def filled(self, node: Node, field: str, *, secret: bool = False) -> Node:
        """Return the scalar with `${env:...}` and `${file:...}` filled in; any other placeholder is rejected."""
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
                message = f"${{{piece.source}}} is not available here"
                hint = "only ${env:...} and ${file:...} are available here"
                self.reject(node, field, message, hint, offset=piece.position - 2)
            parts.append(value)
        text = "".join(parts)
        result = node.scalar(text, plain=False)
        result.value = text if secret or not text else resolve(text)
        result.filled = node.text
        return result
