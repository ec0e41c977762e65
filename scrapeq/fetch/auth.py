"""Credentials, put on a request when it is sent to the origin they belong to, and taken out of what comes back."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable
from urllib.parse import quote

import httpx

from scrapeq.plan import Auth

Fields = list[tuple[str, str]]
Credential = Callable[[httpx.URL, Fields], tuple[httpx.URL, Fields]]

_LEAST_SECRET_CHARS = 4  # what is shorter is no secret, and hiding it would spoil the text


def credential(auth: Auth) -> Credential | None:
    """What puts a credential on a request's URL and fields; None if there is none."""
    if auth.type == "bearer":
        return _header("Authorization", f"Bearer {auth.token}")
    if auth.type == "http_basic":
        pair = base64.b64encode(f"{auth.username}:{auth.password}".encode()).decode()
        return _header("Authorization", f"Basic {pair}")
    if auth.type == "api_key":
        if auth.location == "header":
            return _header(auth.name, auth.token)
        return (_query if auth.location == "query" else _cookie)(auth.name, auth.token)
    return None


def from_httpx(auth: httpx.Auth) -> Credential:
    """An httpx.Auth that needs no more than one request."""

    def put(url: httpx.URL, fields: Fields) -> tuple[httpx.URL, Fields]:
        request = next(auth.sync_auth_flow(httpx.Request("GET", url, headers=fields)))
        return request.url, [(name, value) for name, value in request.headers.multi_items() if name != "host"]

    return put


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


def hidden(text: str, auth: Auth) -> str:
    """A text of an error, in which neither the credential nor what stands in its query parameter is shown."""
    for secret in (auth.token, *auth.tokens, auth.password):
        for spelled in (secret, quote(secret, safe="")):
            if len(spelled) >= _LEAST_SECRET_CHARS:
                text = text.replace(spelled, "***")
    if name := query_name(auth):
        spellings = "|".join(re.escape(spelled) for spelled in {name, quote(name, safe="")})
        text = re.sub(rf"([?&](?:{spellings})=)[^&#\s]+", r"\1***", text)
    return text
