"""Credentials, put on a request when it is sent to the origin they belong to, and taken out of what comes back."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any
from urllib.parse import quote, quote_plus

import httpx

from scrapeq.fetch.redirects import CUT
from scrapeq.plan import Auth

Fields = list[tuple[str, str]]
Credential = Callable[[httpx.URL, Fields], tuple[httpx.URL, Fields]]

_LEAST_SECRET_CHARS = 4  # what is shorter is no secret, and hiding it would spoil the text


def credential(auth: Auth) -> Credential | None:
    """What puts a credential on a request's URL and fields; None if there is none."""
    if auth.type == "bearer":
        return bearer(auth.token)
    if auth.type == "http_basic":
        return _header("Authorization", f"Basic {basic_pair(auth.username, auth.password)}")
    if auth.type == "api_key":
        if auth.location == "header":
            return _header(auth.name, auth.token)
        return (_query if auth.location == "query" else _cookie)(auth.name, auth.token)
    return None


def basic_pair(user: str, password: str) -> str:
    """User and password as they are sent (RFC 7617, 2)."""
    return base64.b64encode(f"{user}:{password}".encode()).decode()


def basic_client(auth: Auth) -> str:
    """The client of OAuth 2.0 as it is sent by `client_auth: basic`: form-encoded first (RFC 6749, 2.3.1)."""
    return basic_pair(quote_plus(auth.client_id), quote_plus(auth.client_secret))


def bearer(token: str) -> Credential:
    """A bearer token (RFC 6750, 2.1)."""
    return _header("Authorization", f"Bearer {token}")


def _header(name: str, value: str) -> Credential:
    lower = name.lower()

    def put(url: httpx.URL, fields: Fields) -> tuple[httpx.URL, Fields]:
        return url, [*(field for field in fields if field[0].lower() != lower), (name, value)]

    return put


def _query(name: str, value: str) -> Credential:
    pair = f"{quote(name, safe='')}={quote(value, safe='')}".encode()

    def put(url: httpx.URL, fields: Fields) -> tuple[httpx.URL, Fields]:
        # appended as bytes, so that the rest of the query keeps its spelling
        return url.copy_with(query=url.query + b"&" + pair if url.query else pair), fields

    return put


def _cookie(name: str, value: str) -> Credential:
    def put(url: httpx.URL, fields: Fields) -> tuple[httpx.URL, Fields]:
        pairs = [field[1] for field in fields if field[0].lower() == "cookie"]
        others = [field for field in fields if field[0].lower() != "cookie"]
        return url, [*others, ("Cookie", "; ".join([*pairs, f"{name}={value}"]))]

    return put


def query_name(auth: Auth) -> str:
    """The query parameter that the credential is sent as; empty if it is none."""
    return auth.name if auth.type == "api_key" and auth.location == "query" else ""


def without_secret(url: httpx.URL, auth: Auth) -> httpx.URL:
    """A URL without the credential's query parameter: servers echo it in Location, and pages keep their URL."""
    name = query_name(auth)
    return url.copy_remove_param(name) if name and name in url.params else url


def secrets_of(auth: Auth) -> tuple[str, ...]:
    """The values of a configuration that no text may show."""
    found = [auth.token, *auth.tokens, auth.password, auth.client_secret, auth.refresh_token]
    found += [basic_pair(auth.username, auth.password)] if auth.password else []
    found += [basic_client(auth)] if auth.client_secret else []
    # addresses (an audience, say) are none
    found += [one for one in _texts_in([auth.token_params, auth.options]) if "://" not in one]
    if auth.login is not None:
        # a value that stands in the address is none: {action: login} would spoil every line about /login
        found += [
            one
            for one in (*_texts_in(auth.login.data), *_texts_in(auth.login.json))
            if one not in auth.login.path
        ]
    return tuple(one for one in found if len(one) >= _LEAST_SECRET_CHARS)


def _texts_in(value: Any) -> list[str]:
    if isinstance(value, str):
        return [value]
    if isinstance(value, Mapping):
        value = list(value.values())
    return [text for one in value for text in _texts_in(one)] if isinstance(value, list | tuple) else []


def _without(text: str, secret: str) -> str:
    """A text without a secret, nor the beginning of one where an address was cut."""
    text = text.replace(secret, "***")
    if CUT in text:
        for length in range(len(secret) - 1, _LEAST_SECRET_CHARS - 1, -1):
            text = text.replace(secret[:length] + CUT, f"***{CUT}")
    return text


def hidden(text: str, auth: Auth, obtained: Iterable[str] = ()) -> str:
    """A text of an error, in which neither a credential nor what stands in its query parameter is shown."""
    for secret in sorted({*secrets_of(auth), *obtained}, key=len, reverse=True):
        if len(secret) >= _LEAST_SECRET_CHARS:
            for spelled in (secret, quote(secret, safe=""), quote_plus(secret)):
                text = _without(text, spelled)
    if name := query_name(auth):
        spellings = "|".join(re.escape(spelled) for spelled in {name, quote(name, safe="")})
        text = re.sub(rf"([?&](?:{spellings})=)[^&#\s]+", r"\1***", text)
    return text
