"""Credentials, applied when a request is sent to the origin they belong to, and taken out of what comes back."""

from __future__ import annotations

from collections.abc import Generator
from urllib.parse import quote

import httpx

from scrapeq.errors import Blocked
from scrapeq.plan import Auth


class _Header(httpx.Auth):
    """A credential in a header field."""

    def __init__(self, name: str, value: str) -> None:
        self._name = name
        self._value = value

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        request.headers[self._name] = self._value
        yield request


class _Query(httpx.Auth):
    """A credential in a query parameter."""

    def __init__(self, name: str, value: str) -> None:
        self._name = name
        self._value = value

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        pair = f"{quote(self._name, safe='')}={quote(self._value, safe='')}".encode()
        query = request.url.query  # appended as bytes, so that the rest keeps its spelling
        request.url = request.url.copy_with(query=query + b"&" + pair if query else pair)
        yield request


class _Cookie(httpx.Auth):
    """A credential in a cookie."""

    def __init__(self, name: str, value: str) -> None:
        self._pair = f"{name}={value}"

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        others = request.headers.get("cookie")
        request.headers["cookie"] = f"{others}; {self._pair}" if others else self._pair
        yield request


def credential(auth: Auth) -> httpx.Auth | None:
    """What puts a credential on a request; None if there is none."""
    if auth.type == "bearer":
        return _Header("Authorization", f"Bearer {auth.token}")
    if auth.type == "http_basic":
        return httpx.BasicAuth(auth.username, auth.password)
    if auth.type == "api_key":
        place = {"header": _Header, "query": _Query, "cookie": _Cookie}[auth.location]
        return place(auth.name, auth.token)
    return None


def apply(auth: httpx.Auth, request: httpx.Request) -> httpx.Request:
    """The request with its credential; schemes that need more than one round trip are not spoken."""
    try:
        return next(auth.sync_auth_flow(request))
    except UnicodeEncodeError:
        raise Blocked("the credential holds characters that a header cannot carry") from None


def without_secret(url: httpx.URL, auth: Auth) -> httpx.URL:
    """A URL without the credential's query parameter: servers echo it in Location, and pages keep their URL."""
    if auth.type != "api_key" or auth.location != "query" or auth.name not in url.params:
        return url
    return url.copy_remove_param(auth.name)
