"""Credentials, put on a request when it is sent to the origin they belong to, and taken out of what comes back."""

from __future__ import annotations

import base64
from collections.abc import Callable
from urllib.parse import quote

import httpx

from scrapeq.plan import Auth

Fields = list[tuple[str, str]]
Credential = Callable[[httpx.URL, Fields], tuple[httpx.URL, Fields]]


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


def without_secret(url: httpx.URL, auth: Auth) -> httpx.URL:
    """A URL without the credential's query parameter: servers echo it in Location, and pages keep their URL."""
    if auth.type != "api_key" or auth.location != "query" or auth.name not in url.params:
        return url
    return url.copy_remove_param(auth.name)
