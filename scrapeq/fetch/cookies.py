"""Cookies (RFC 6265), with domain, path, expiry and `Secure`, in the standard library's jar."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from http.cookiejar import Cookie
from typing import Any

import httpx

Fields = list[tuple[str, str]]
StoredCookie = dict[str, Any]
"""A cookie as plain JSON."""

_ATTRIBUTES = (
    *("version", "name", "value", "port", "port_specified"),
    *("domain", "domain_specified", "domain_initial_dot"),
    *("path", "path_specified", "secure", "expires", "discard", "comment", "comment_url", "rfc2109"),
)


class Cookies:
    """
    A cookie jar.

    Args:
        stored: The cookies to start with, as `dump` returns them.
    """

    def __init__(self, stored: Iterable[StoredCookie]) -> None:
        self._jar: httpx.Cookies | None = None  # most requests meet no cookie
        self.add(stored)

    @property
    def _cookies(self) -> httpx.Cookies:
        if self._jar is None:
            self._jar = httpx.Cookies()
        return self._jar

    def add(self, stored: Iterable[StoredCookie]) -> None:
        """Add cookies, as `dump` returns them."""
        for one in stored:
            self._cookies.jar.set_cookie(Cookie(**one, rest={}))

    def extract(self, url: httpx.URL, headers: Sequence[tuple[str, str]]) -> None:
        """Store the cookies that a response sets."""
        found = [
            (b"set-cookie", value.encode("utf-8", "replace"))
            for name, value in headers
            if name.lower() == "set-cookie"
        ]
        if found:
            response = httpx.Response(200, headers=found, request=httpx.Request("GET", url))
            self._cookies.extract_cookies(response)

    def add_to(self, url: httpx.URL, fields: Fields) -> Fields:
        """Return the header fields of a request with the cookies for its URL appended to its Cookie header."""
        cookies = self.header(url)
        if not cookies:
            return fields
        present = [value for name, value in fields if name.lower() == "cookie"]
        others = [field for field in fields if field[0].lower() != "cookie"]
        return [*others, ("Cookie", "; ".join([*present, cookies]))]

    def header(self, url: httpx.URL) -> str:
        """Return the Cookie header with the cookies for a URL; empty if there are none."""
        if self._jar is None:
            return ""
        request = httpx.Request("GET", url)
        self._jar.set_cookie_header(request)
        return request.headers.get("cookie") or ""

    def dump(self) -> tuple[StoredCookie, ...]:
        """Return all cookies that have not expired, as plain JSON."""
        if self._jar is None:
            return ()
        self._cookies.jar.clear_expired_cookies()
        return tuple({name: getattr(one, name) for name in _ATTRIBUTES} for one in self._cookies.jar)
