"""Shapes of values that may contain credentials, and checks for credentials that would be exposed or stored."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qs, urlsplit

from scrapeq.config.nodes import Node
from scrapeq.config.read_context import Filled, ReadContext
from scrapeq.config.records import MapOf
from scrapeq.config.shapes import (
    ENV_SCHEMA,
    Json,
    Schema,
    Shape,
    Text,
    is_clear_text,
    reject_plaintext_secret,
    scalar,
)

STORED_SECRET = ("this secret would be stored with every task", "put it under client.auth")
DATABASE_SCHEMES = ("postgres", "postgresql")

# Names that suggest a credential, but not "author" or "keyword".
SECRET_NAME = re.compile(
    r"key(?!word)|token|secret|passw|cookie|credential|auth(?!or(?!i[sz]))", re.ASCII | re.IGNORECASE
)
EXTERNAL_PLACEHOLDER = re.compile(r"\$\{(?:env|file):")
_PAIR = re.compile(r"(?:^|[?&])([^=?&#\s]+)=([^&#]*)")
# Names of form fields whose value is a credential, in several languages; `token_type` is not one of them.
_SECRET_VALUE_NAME = re.compile(
    r"passw|passphrase|passcode|secret|senha|contrase|kennwort|motdepasse|"
    r"(?:^|[_\W])(?:pass|pwd|pw|pin|otp|mdp)$|(?-i:[a-z](?:Pass|Pwd|Pin|Otp)$)|token$|(?:api|access|private|signing)[_-]?key$|credentials?$",
    re.IGNORECASE,
)


def has_plaintext_secret(name: str, node: Node) -> bool:
    """Return whether a value is a credential, judged by its name, and is in the configuration file itself."""
    return (
        bool(_SECRET_VALUE_NAME.search(name.replace(" ", "")))
        and node.kind == "scalar"
        and bool(node.text)
        and not isinstance(node.value, bool | None)
        and is_clear_text(node.text)
    )


class SecretMap(Shape):
    """
    A map in which a value whose name suggests a secret must come from the environment or a file.

    Other values, such as a user name or a grant type, may be in the configuration itself. With `strings_only` every
    value must be a string.
    """

    def __init__(self, *, strings_only: bool = False) -> None:
        self._strings_only = strings_only

    def read(self, node: Node, field: str, context: ReadContext) -> dict[str, Any]:
        values: dict[str, Any] = MapOf(_SecretValue(self._strings_only)).read(node, field, context)
        return values

    def schema(self) -> Schema:
        return {"type": "object"}


class SecretJson(Shape):
    """Any value; at any depth, a value whose name suggests a secret must come from the environment or a file."""

    def read(self, node: Node, field: str, context: ReadContext) -> Any:
        return _SecretValue(False).read(node, field, context)

    def schema(self) -> Schema:
        return {}


class _SecretValue(Shape):
    def __init__(self, strings_only: bool) -> None:
        self._strings_only = strings_only

    def read(self, node: Node, field: str, context: ReadContext) -> Any:
        name = field.rpartition(".")[2]
        if node.kind == "map" and not self._strings_only:
            return MapOf(self).read(node, field, context)
        if node.kind == "list" and not self._strings_only:
            return [self.read(item, f"{field}[{index}]", context) for index, item in enumerate(node.items)]
        if has_plaintext_secret(name, node):
            reject_plaintext_secret(node, field, context)
        if self._strings_only:
            return Text(min_length=0).read(node, field, context)
        return Json(spelling=True).read(node, field, context)


class DatabaseUrl(Shape):
    """The URL of a PostgreSQL database; a password in it must come from the environment or a file."""

    def read(self, node: Node, field: str, context: ReadContext) -> str:
        node = scalar(node, field, context, "a URL such as ${env:DATABASE_URL}")
        is_external = bool(EXTERNAL_PLACEHOLDER.search(node.text))
        filled = context.filled(node, field, secret=is_external)
        url = filled.text.strip()
        try:
            parts = urlsplit(url)
            secret = bool(parts.password) or "password" in parse_qs(parts.query)
        except ValueError:
            context.reject(node, field, "not a valid URL")
        if secret and not self._password_is_external(node.text):
            reject_plaintext_secret(node, field, context, "DATABASE_URL")
        if parts.scheme not in DATABASE_SCHEMES:
            schemes = " or ".join(f"{scheme}://" for scheme in DATABASE_SCHEMES)
            context.reject(node, field, f"must start with {schemes}", "postgres://user@host/database")
        return Filled(url, node.text) if is_external else url

    @staticmethod
    def _password_is_external(written: str) -> bool:
        """Return whether the password in the URL, as written in the file, is a placeholder."""
        if EXTERNAL_PLACEHOLDER.match(written.strip()):
            return True
        _, _, rest = written.partition("://")
        user = rest.rpartition("@")[0]
        _, _, password = user.partition(":")
        clear = bool(password) and not EXTERNAL_PLACEHOLDER.search(password)
        query = re.search(r"[?&]password=([^&]*)", written)
        return not clear and (query is None or bool(EXTERNAL_PLACEHOLDER.search(query[1])))

    def schema(self) -> Schema:
        return {"anyOf": [{"type": "string", "pattern": "^postgres(ql)?://"}, ENV_SCHEMA]}


def report_stored_secrets(values: Mapping[str, Node], field: str, context: ReadContext) -> None:
    """Report values from outside the file whose names suggest secrets, because they would be stored with every task."""
    for name, node in values.items():
        is_external = any(EXTERNAL_PLACEHOLDER.search(inner.text) for inner in node.walk())
        if SECRET_NAME.search(name) and is_external:
            context.report(node, f"{field}.{name}", *STORED_SECRET)


def report_stored_pairs(node: Node, field: str, context: ReadContext) -> None:
    """Like `report_stored_secrets`, for the pairs of a query string or of a form written as one string."""
    if any(
        SECRET_NAME.search(name) and EXTERNAL_PLACEHOLDER.search(value)
        for name, value in _PAIR.findall(node.text)
    ):
        context.report(node, field, *STORED_SECRET)
