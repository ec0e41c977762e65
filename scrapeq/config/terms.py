"""Shapes of values with a special syntax: URLs, globs, statuses, waits, observations, tokens, headers and params."""

from __future__ import annotations

import re
from typing import Any, get_args
from urllib.parse import urlsplit

from scrapeq import plan
from scrapeq.config import expression_scopes
from scrapeq.config.nodes import Node
from scrapeq.config.read_context import Filled, ReadContext
from scrapeq.config.records import Key, MapOf, Record
from scrapeq.config.shapes import (
    ENV_SCHEMA,
    Choice,
    Duration,
    Expr,
    Json,
    Schema,
    Secret,
    Shape,
    Text,
    is_clear_text,
    scalar,
)
from scrapeq.plan import Exponential
from scrapeq.resource.host import canonical_host
from scrapeq.responses.presets import NAMES

VERSION = 1
MAX_PATTERN = 500
MAX_TOKENS = 64  # in one pool
REDIS_SCHEMES = ("redis", "rediss", "unix", "redis+cluster", "redis+sentinel")

_SECRET_HEADERS = frozenset({"authorization", "proxy-authorization"})
_REGEX_MARKS = re.compile(r"^\^|\$$|\.[*+]|\\[dwsbDWSB.]|\(|\|")
HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # RFC 9110, 5.6.2


class Version(Shape):
    """The version of the language."""

    def read(self, node: Node, field: str, context: ReadContext) -> int:
        node = scalar(node, field, context, "a whole number")
        if isinstance(node.value, bool) or not isinstance(node.value, int):
            context.reject(node, field, f"'{node.text}' is not a whole number", f"version: {VERSION}")
        if node.value != VERSION:
            hint = "upgrade scrapeq" if node.value > VERSION else f"version: {VERSION}"
            context.reject(node, field, f"this scrapeq reads version {VERSION}", hint)
        return VERSION

    def schema(self) -> Schema:
        return {"const": VERSION}


class BaseUrl(Text):
    """The URL that paths are joined to: http, https or `demo://`."""

    def read(self, node: Node, field: str, context: ReadContext) -> str:
        url = super().read(node, field, context)
        if url == "demo://":
            return url
        try:
            parts = urlsplit(url)
            _ = parts.port, canonical_host(parts.hostname or "")
        except ValueError as error:
            context.reject(node, field, f"not a valid URL: {error}")
        if parts.scheme not in ("http", "https") or not parts.hostname:
            hint = f"https://{url.split('://')[-1]}" if "." in url else "https://api.acme.test/v1"
            context.reject(
                node, field, "the URL must start with http:// or https:// and include a host", hint
            )
        if parts.username is not None or parts.password is not None:
            hint = "auth: {type: http_basic, username: ${env:USER}, password: ${env:PASSWORD}}"
            context.reject(node, field, "credentials in a URL", hint)
        if parts.query or parts.fragment or url.endswith(("?", "#")):
            context.reject(node, field, "a base URL cannot contain ? or #", "parameters belong under params:")
        if any(letter.isspace() for letter in url):
            context.reject(node, field, "a URL cannot contain spaces")
        return url


class RedisUrl(Text):
    """`embedded`, or the URL of a store."""

    def read(self, node: Node, field: str, context: ReadContext) -> str:
        url = super().read(node, field, context)
        if url == "embedded" or (url.split("://")[0] in REDIS_SCHEMES and "://" in url):
            return url
        schemes = ", ".join(f"{scheme}://" for scheme in REDIS_SCHEMES)
        return context.reject(node, field, f"must be embedded, or start with one of {schemes}")


class Glob(Text):
    """A glob (`*`, `?`, `[...]`), or a regular expression after `re:`."""

    def read(self, node: Node, field: str, context: ReadContext) -> str:
        text = super().read(node, field, context)
        if text.startswith("re:"):
            if len(text) > MAX_PATTERN:
                context.reject(node, field, f"the pattern is longer than {MAX_PATTERN} characters")
            try:
                re.compile(text[3:])
            except (re.error, RecursionError, OverflowError) as error:
                context.reject(node, field, f"not a valid regular expression: {error}")
        elif _REGEX_MARKS.search(text):
            context.reject(node, field, "a pattern is a glob here", f"write re:{text}")
        return text


class Status(Shape):
    """An HTTP status or a class of statuses: 403, 5xx."""

    def read(self, node: Node, field: str, context: ReadContext) -> int | str:
        node = scalar(node, field, context, "a status such as 403 or 5xx")
        text = node.text.lower()
        if re.fullmatch(r"[1-5]xx", text):
            return text
        if re.fullmatch(r"[1-5][0-9][0-9]", text, re.ASCII):
            return int(text)
        return context.reject(
            node,
            field,
            f"'{node.text}' is not an HTTP status",
            "write a status such as 403, or a class such as 5xx",
        )

    def schema(self) -> Schema:
        return {
            "anyOf": [
                {"type": "integer", "minimum": 100, "maximum": 599},
                {"pattern": "^[1-5](xx|XX|[0-9]{2})$"},
            ]
        }


class WaitTerm(Shape):
    """How long to wait: an expression (seconds), a duration, or `{exponential: {base, max}}`."""

    def __init__(self) -> None:
        exponential = Record({"base": Key(Duration(), required=True), "max": Key(Duration(), required=True)})
        self._map = Record({"exponential": Key(exponential, required=True)})

    def read(self, node: Node, field: str, context: ReadContext) -> Any:
        if node.kind == "map":
            inner = self._map.read(node, field, context).get("exponential")
            base, longest = (inner.get("base"), inner.get("max")) if inner else (None, None)
            if base is None or longest is None:
                return None
            if longest < base:
                context.reject(inner.value_node("max"), f"{inner.field}.max", "is less than base")
            return Exponential(base, longest)
        node = scalar(node, field, context, "an expression or a duration")
        if node.text[:1].isdigit() and not any(mark in node.text for mark in "+*/%<>=("):
            return Duration().read(node, field, context)
        return Expr(expression_scopes.RESPONSE).read(node, field, context)

    def schema(self) -> Schema:
        return {"anyOf": [{"type": "string"}, self._map.schema()]}


class Observe(Shape):
    """How to read a limit from responses: the name of a preset, or a map of a preset, expressions and reset format."""

    def __init__(self) -> None:
        self._names = Choice(NAMES)
        parts = {part: Key(Expr(expression_scopes.OBSERVED)) for part in plan.OBSERVED_PARTS}
        formats = Choice(get_args(plan.ResetFormat))
        self._map = Record({"preset": Key(self._names), **parts, "reset_format": Key(formats)})

    def read(self, node: Node, field: str, context: ReadContext) -> plan.Observe | str:
        if node.kind != "map":
            word = self._names.read(node, field, context)
            return "none" if word == "none" else plan.Observe(word)
        found = self._map.read(node, field, context)
        if found.get("preset") == "none" and len(found.values) == 1:
            return "none"
        return plan.Observe(**found.values)

    def schema(self) -> Schema:
        return {"anyOf": [self._names.schema(), self._map.schema()]}


class Tokens(Shape):
    """A pool of tokens, in a list or separated by commas or line breaks."""

    def read(self, node: Node, field: str, context: ReadContext) -> tuple[str, ...]:
        nodes = node.items if node.kind == "list" else [node]
        tokens: list[str] = []
        for item in nodes:
            text = Secret(lines=True).read(item, field, context)
            found = [part.strip() for part in re.split(r"[,\r\n]", text) if part.strip()]
            if not found:
                context.reject(item, field, "contains no token")
            tokens += [Filled(token, item.text) for token in found]
        if not tokens:
            context.reject(node, field, "contains no token")
        if len(set(tokens)) < len(tokens):
            context.reject(node, field, "contains the same token twice", "list each token once")
        if len(tokens) > MAX_TOKENS:
            context.reject(node, field, f"contains {len(tokens)} tokens; at most {MAX_TOKENS} are allowed")
        return tuple(tokens)

    def schema(self) -> Schema:
        several = {"type": "array", "items": ENV_SCHEMA, "minItems": 1, "maxItems": MAX_TOKENS}
        return {"anyOf": [ENV_SCHEMA, several]}


class PlainMap(Shape):
    """
    Headers or params of every request: plain values, in which only `${env:...}` and `${file:...}` are filled in.

    Args:
        headers: The map holds headers: their names are checked, and those of credentials must not be plain text.
        scope: The names that expressions in the values may use; None allows none.
    """

    def __init__(
        self,
        *,
        headers: bool = False,
        scope: expression_scopes.ExpressionScope | None = None,
    ) -> None:
        self._headers = headers
        self._scope = scope

    def read(self, node: Node, field: str, context: ReadContext) -> dict[str, Any]:
        inner = Json(self._scope, spelling=True)
        values: dict[str, Any] = MapOf(inner).read(node, field, context)
        if self._headers:
            for name, entry in node.entries.items():
                self._check_header(name, entry.node, f"{field}.{name}", context)
        return values

    def _check_header(self, name: str, node: Node, field: str, context: ReadContext) -> None:
        if not HEADER_NAME.fullmatch(name):
            context.report(node, field, f"'{name}' is not a valid header name")
        if node.kind != "scalar":
            context.report(node, field, f"must be a string, not a {node.kind}")
        elif name.lower() in _SECRET_HEADERS and node.text and is_clear_text(node.text):
            context.report(
                node,
                field,
                "a secret in clear text",
                "auth: {type: bearer, token: ${env:TOKEN}}, under client:",
            )
        elif "\n" in node.text or "\r" in node.text:
            context.report(node, field, "a header cannot contain line breaks")

    def schema(self) -> Schema:
        return {"type": "object"}


class ParamMap(PlainMap):
    """Params or headers of a resource: values may contain `${...}`; a null value is left out of the request."""

    def __init__(self, scope: expression_scopes.ExpressionScope, *, headers: bool = False) -> None:
        super().__init__(headers=headers, scope=scope)
