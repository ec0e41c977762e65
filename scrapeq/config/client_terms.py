"""Shapes of the `client` section: settings of all requests, and the types of auth."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

from scrapeq import plugins
from scrapeq.config import expression_scopes
from scrapeq.config.nodes import Node
from scrapeq.config.paths import Path
from scrapeq.config.read_context import NOT_IMPLEMENTED, Filled, ReadContext
from scrapeq.config.records import Key, ListOf, Record, TypedRecord
from scrapeq.config.secret_terms import SecretJson, SecretMap
from scrapeq.config.shapes import Choice, Duration, Expr, Flag, Secret, Size, Text
from scrapeq.config.terms import HEADER_NAME, BaseUrl, PlainMap, Tokens
from scrapeq.resource.host import canonical_host, host_and_port

AUTH_TYPES = (
    "none",
    "bearer",
    "api_key",
    "http_basic",
    "oauth2_client_credentials",
    "oauth2_refresh_token",
    "session",
)

TOKEN_PREFIX = re.compile(r"[A-Za-z][A-Za-z0-9_=: -]{0,63}|")

_TEXT = Text()


def client() -> Record:
    """Return the shape of `client`."""
    return Record(
        {
            "base_url": Key(BaseUrl()),
            "user_agent": Key(_TEXT),
            "headers": Key(PlainMap(headers=True)),
            "params": Key(PlainMap()),
            "timeout": Key(Duration()),
            "max_body_size": Key(Size()),
            "extract_timeout": Key(Duration()),
            "auth": Key(_auth()),
            "allow_hosts": Key(
                ListOf(AllowedHost(r"(?!\w+://)[^/\s@]+", "a host, such as files.acme.test"), single=True)
            ),
            "cookies": Key(Flag()),
            "http2": Key(AlwaysFalse("requests are sent as HTTP/1.1")),
            "cache": Key(Record({"revalidate": Key(Flag()), "max_size": Key(Size())})),
        }
    )


def _auth() -> TypedRecord:
    sent_as = {"token_header": Key(HeaderName()), "token_prefix": Key(TokenPrefix())}
    oauth2 = {
        **sent_as,
        "access_token_url": Key(
            WholeUrl(), required=True, hint="access_token_url: https://acme.test/oauth/token"
        ),
        "client_id": Key(_TEXT),
        "client_secret": Key(Secret(allow_empty=True)),
        "client_auth": Key(Choice(("body", "basic"))),
        "scopes": Key(ListOf(_TEXT, single=True)),
        "token_params": Key(SecretMap(strings_only=True)),
        "expires": Key(Duration()),
    }
    login = Record(
        {
            "path": Key(_TEXT, required=True, hint="path: login"),
            "form": Key(_TEXT),
            "data": Key(SecretMap()),
            "json": Key(SecretJson()),
        }
    )
    return TypedRecord(
        Choice(AUTH_TYPES, group=plugins.AUTHS),
        {},
        {
            "none": {},
            "bearer": {"token": Key(Secret()), "tokens": Key(Tokens()), **sent_as},
            "api_key": {
                "name": Key(_TEXT, required=True, hint="name: X-Api-Key"),
                "location": Key(Choice(("header", "query", "cookie"))),
                "api_key": Key(Secret()),
                "api_keys": Key(Tokens()),
            },
            "http_basic": {
                "username": Key(Secret(allow_empty=True, affixes=True), required=True),
                "password": Key(Secret(allow_empty=True)),
            },
            "oauth2_client_credentials": {
                **oauth2,
                "client_id": Key(_TEXT, required=True, hint="client_id: ${env:CLIENT_ID}"),
                "client_secret": Key(Secret(), required=True, hint="client_secret: ${env:CLIENT_SECRET}"),
            },
            "oauth2_refresh_token": {
                **oauth2,
                "refresh_token": Key(Secret(), required=True, hint="refresh_token: ${env:REFRESH_TOKEN}"),
            },
            "session": {
                "login": Key(login, required=True, hint="login: {path: login, data: {password: ${env:PW}}}"),
                "success_when": Key(Expr(expression_scopes.LOGIN)),
                "session_token_path": Key(Path()),
                **sent_as,
                "expires": Key(Duration()),
            },
        },
        short=True,
        options=SecretMap(),
        hints={
            "header": "token_header: X-Session, the header that the token is sent in",
            "prefix": "token_prefix: Token, the word before the token",
        },
    )


class HeaderName(Text):
    """The name of a header that a credential is sent in."""

    def read(self, node: Node, field: str, context: ReadContext) -> str:
        name = super().read(node, field, context)
        if not HEADER_NAME.fullmatch(name):
            context.reject(node, field, f"'{name}' is not a valid header name", "token_header: X-Session")
        return name


class TokenPrefix(Text):
    """The word before a token; it is not a secret."""

    def __init__(self) -> None:
        super().__init__(min_length=0)

    def read(self, node: Node, field: str, context: ReadContext) -> str:
        word = super().read(node, field, context)
        if not TOKEN_PREFIX.fullmatch(word):
            message = f"'{word}' is not a word such as Bearer"
            context.reject(node, field, message, "token_prefix: Token, or '' for the token alone")
        return word


class AlwaysFalse(Flag):
    """A boolean for which `true` is not implemented."""

    def __init__(self, hint: str) -> None:
        self._hint = hint

    def read(self, node: Node, field: str, context: ReadContext) -> bool:
        if super().read(node, field, context):
            context.reject(node, field, NOT_IMPLEMENTED, self._hint)
        return False


class AllowedHost(Text):
    """A host, perhaps with a port; an IPv6 address with a port is in brackets."""

    def read(self, node: Node, field: str, context: ReadContext) -> str:
        text = super().read(node, field, context)
        try:
            host_and_port(text)
        except ValueError as error:
            context.reject(
                node, field, f"not a valid host: {error}", "for example 10.0.0.7:8080 or [fd00::7]:8080"
            )
        return text


class WholeUrl(Text):
    """A full http or https URL without credentials."""

    def read(self, node: Node, field: str, context: ReadContext) -> str:
        url = super().read(node, field, context)
        try:
            parts = urlsplit(url)
            _ = parts.port, canonical_host(parts.hostname or "")
        except ValueError as error:
            context.reject(node, field, f"not a valid URL: {error}")
        if parts.scheme not in ("http", "https") or not parts.hostname:
            context.reject(
                node, field, "the URL must start with http:// or https:// and include a host", "https://…"
            )
        if parts.username is not None or parts.password is not None:
            context.reject(node, field, "credentials in a URL", "write client_id: and client_secret: instead")
        if any(letter.isspace() for letter in url):
            context.reject(node, field, "a URL cannot contain spaces")
        return Filled(url, node.text) if node.text != url else url
