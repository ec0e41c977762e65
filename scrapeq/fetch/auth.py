"""Static credentials: add them to requests for their origin, and redact them in everything that is shown."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any
from urllib.parse import quote, quote_plus

import httpx

from scrapeq.fetch.redirects import ELLIPSIS
from scrapeq.plan import Auth

Fields = list[tuple[str, str]]
Credential = Callable[[httpx.URL, Fields], tuple[httpx.URL, Fields]]
"""Returns the URL and the header fields of a request with the credential added."""

_MIN_SECRET_CHARS = 4  # redacting shorter strings would garble the text


def credential(auth: Auth) -> Credential | None:
    """Return the credential of a static auth configuration; None if the client has none."""
    if auth.type == "bearer":
        return token_credential(auth, auth.token)
    if auth.type == "http_basic":
        return _header("Authorization", f"Basic {basic_pair(auth.username, auth.password)}")
    if auth.type == "api_key":
        if auth.location == "header":
            return _header(auth.name, auth.token)
        return (_query if auth.location == "query" else _cookie)(auth.name, auth.token)
    return None


def basic_pair(user: str, password: str) -> str:
    """Return the base64 pair of HTTP Basic (RFC 7617, 2)."""
    return base64.b64encode(f"{user}:{password}".encode()).decode()


def basic_client(auth: Auth) -> str:
    """Return the OAuth 2.0 client for `client_auth: basic`: form-encoded, then a Basic pair (RFC 6749, 2.3.1)."""
    return basic_pair(quote_plus(auth.client_id), quote_plus(auth.client_secret))


def token_credential(auth: Auth, token: str) -> Credential:
    """Return the credential of a token: as a bearer token (RFC 6750, 2.1), or in the configured header and form."""
    prefix = auth.token_prefix
    if prefix is None:
        prefix = "Bearer" if auth.token_header.lower() == "authorization" else ""
    return _header(auth.token_header, f"{prefix} {token}" if prefix else token)


def _header(name: str, value: str) -> Credential:
    lower = name.lower()

    def apply(url: httpx.URL, fields: Fields) -> tuple[httpx.URL, Fields]:
        return url, [*(field for field in fields if field[0].lower() != lower), (name, value)]

    return apply


def _query(name: str, value: str) -> Credential:
    pair = f"{quote(name, safe='')}={quote(value, safe='')}".encode()

    def apply(url: httpx.URL, fields: Fields) -> tuple[httpx.URL, Fields]:
        # Append bytes, so that the rest of the query is sent exactly as it was.
        return url.copy_with(query=url.query + b"&" + pair if url.query else pair), fields

    return apply


def _cookie(name: str, value: str) -> Credential:
    def apply(url: httpx.URL, fields: Fields) -> tuple[httpx.URL, Fields]:
        pairs = [field[1] for field in fields if field[0].lower() == "cookie"]
        others = [field for field in fields if field[0].lower() != "cookie"]
        return url, [*others, ("Cookie", "; ".join([*pairs, f"{name}={value}"]))]

    return apply


def query_parameter(auth: Auth) -> str:
    """Return the name of the query parameter that holds the credential; "" if it is sent elsewhere."""
    return auth.name if auth.type == "api_key" and auth.location == "query" else ""


def without_credential(url: httpx.URL, auth: Auth) -> httpx.URL:
    """Return a URL without the query parameter of the credential, which servers echo in Location."""
    name = query_parameter(auth)
    return url.copy_remove_param(name) if name and name in url.params else url


def configured_secrets(auth: Auth) -> tuple[str, ...]:
    """Return the strings of a configuration that must never be shown."""
    found = [auth.token, *auth.tokens, auth.password, auth.client_secret, auth.refresh_token]
    found += [basic_pair(auth.username, auth.password)] if auth.password else []
    found += [basic_client(auth)] if auth.client_secret else []
    # URLs, for example an audience, are not secret.
    found += [one for one in _strings_in([auth.token_params, auth.options]) if "://" not in one]
    if auth.login is not None:
        # Values that occur in the path are not secret: redacting {action: login} would garble every mention of /login.
        found += [
            one
            for one in (*_strings_in(auth.login.data), *_strings_in(auth.login.json))
            if one not in auth.login.path
        ]
    return tuple(one for one in found if len(one) >= _MIN_SECRET_CHARS)


def _strings_in(value: Any) -> list[str]:
    if isinstance(value, str):
        return [value]
    if isinstance(value, Mapping):
        value = list(value.values())
    return [text for one in value for text in _strings_in(one)] if isinstance(value, list | tuple) else []


def _masked(text: str, secret: str) -> str:
    """Replace a secret in a text, and the start of one where a URL was truncated."""
    text = text.replace(secret, "***")
    if ELLIPSIS in text:
        for length in range(len(secret) - 1, _MIN_SECRET_CHARS - 1, -1):
            text = text.replace(secret[:length] + ELLIPSIS, f"***{ELLIPSIS}")
    return text


def redact(text: str, auth: Auth, obtained: Iterable[str] = ()) -> str:
    """Return a text with every secret and the value of the credential's query parameter replaced by `***`."""
    for secret in sorted({*configured_secrets(auth), *obtained}, key=len, reverse=True):
        if len(secret) >= _MIN_SECRET_CHARS:
            for spelling in (secret, quote(secret, safe=""), quote_plus(secret)):
                text = _masked(text, spelling)
    if name := query_parameter(auth):
        spellings = "|".join(re.escape(spelling) for spelling in {name, quote(name, safe="")})
        text = re.sub(rf"([?&](?:{spellings})=)[^&#\s]+", r"\1***", text)
    return text
