"""The cookies of a session (RFC 6265), in the standard library's jar: domain, path, expiry and `Secure` hold."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from http.cookiejar import Cookie
from typing import Any

import httpx

Fields = list[tuple[str, str]]
StoredCookie = dict[str, Any]
"""A cookie as plain JSON."""

_KEPT = (
    *(
        "version",
        "name",
        "value",
        "port",
        "port_specified",
        "domain",
        "domain_specified",
        "domain_initial_dot",
    ),
    *("path", "path_specified", "secure", "expires", "discard", "comment", "comment_url", "rfc2109"),
)


class Cookies:
    """
    Args:
        kept: What an earlier one gave (`kept()`).
    """

    def __init__(self, kept: Iterable[StoredCookie]) -> None:
        self._cookies = httpx.Cookies()
        for one in kept:
            self._cookies.jar.set_cookie(Cookie(**one, rest={}))

    def hear(self, url: httpx.URL, headers: Sequence[tuple[str, str]]) -> None:
        """Take what an answer sets."""
        if any(name.lower() == "set-cookie" for name, _ in headers):
            answer = httpx.Response(200, headers=list(headers), request=httpx.Request("GET", url))
            self._cookies.extract_cookies(answer)

    def put(self, url: httpx.URL, fields: Fields) -> Fields:
        """The fields with the cookies that go to this URL, behind those that are there."""
        request = httpx.Request("GET", url)
        self._cookies.set_cookie_header(request)
        found = request.headers.get("cookie")
        if not found:
            return fields
        there = [value for name, value in fields if name.lower() == "cookie"]
        others = [field for field in fields if field[0].lower() != "cookie"]
        return [*others, ("Cookie", "; ".join([*there, found]))]

    def kept(self) -> tuple[StoredCookie, ...]:
        """All that have not run out, as plain JSON."""
        self._cookies.jar.clear_expired_cookies()
        return tuple({name: getattr(one, name) for name in _KEPT} for one in self._cookies.jar)
