"""Whether a `plan.Match` holds for a request and its answer. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any
from urllib.parse import urlsplit

from scrapeq import errors
from scrapeq.page import Page
from scrapeq.plan import Match

_REGEX = "re:"
_DEFAULT_PORTS = {"http": 80, "https": 443}
_PATTERNS_KEPT = 4096
_HOSTS_KEPT = 4096
_BEHIND_SCHEME = len("https://")

# Most derived first: a truncated answer is a bad answer.
_KINDS: tuple[tuple[type[errors.FetchError], str], ...] = (
    (errors.DeadlineExceeded, "timeout"),
    (errors.ConnectionFailed, "connection"),
    (errors.BadResponse, "bad_answer"),
    (errors.BodyTooLarge, "too_large"),
    (errors.TooManyRedirects, "redirects"),
    (errors.Blocked, "blocked"),
    (errors.AuthFailed, "auth"),
)


def exception_kind(error: errors.FetchError | None) -> str | None:
    """The word for an error: timeout, connection, bad_answer, too_large, redirects, blocked, auth."""
    for kind, word in _KINDS:
        if isinstance(error, kind):
            return word
    return None


def host_of(url: str) -> str:
    """A URL's host in lower case, with its port if that is not the scheme's own; "" if it has none."""
    end = url.find("/", _BEHIND_SCHEME)
    return _host_of_origin(url if end < 0 else url[:end])


@lru_cache(maxsize=_HOSTS_KEPT)
def _host_of_origin(url: str) -> str:
    try:
        parts = urlsplit(url)
        host, port = (parts.hostname or "").rstrip("."), parts.port
    except ValueError:
        return ""
    if ":" in host:
        host = f"[{host}]"
    return host if port is None or port == _DEFAULT_PORTS.get(parts.scheme) else f"{host}:{port}"


@lru_cache(maxsize=_PATTERNS_KEPT)
def _compiled(pattern: str, any_run: str, flags: int) -> re.Pattern[str]:
    if pattern.startswith(_REGEX):
        return re.compile(pattern[len(_REGEX) :], flags)
    parts = re.split(r"(\*\*|\*)", pattern)
    text = "".join({"**": ".*", "*": any_run}.get(part) or re.escape(part) for part in parts)
    return re.compile(rf"\A(?:{text})\Z", flags | re.DOTALL)


def host_matches(pattern: str, host: str) -> bool:
    """A host against a glob (`*` is any run) or `re:…`; a pattern without a port takes any port."""
    if not pattern.startswith(_REGEX) and ":" not in pattern:
        host = host.rsplit(":", 1)[0] if not host.endswith("]") else host
    return _compiled(pattern, ".*", re.IGNORECASE).search(host) is not None


def path_matches(pattern: str, url: str) -> bool:
    """
    A URL's path against a glob (`*` stays inside a segment, `**` does not) or `re:…`.

    A pattern with a "?" is held against path and query.
    """
    try:
        parts = urlsplit(url)
    except ValueError:
        return False
    path = parts.path or "/"
    if "?" in pattern and parts.query:
        path = f"{path}?{parts.query}"
    return _compiled(pattern, "[^/]*", 0).search(path) is not None


def request_matches(match: Match, *, resource: str, method: str, url: str) -> bool:
    """Whether the request's part of a match holds: resource, method, host, path."""
    if match.resource and resource not in match.resource:
        return False
    if match.method and method.upper() not in [one.upper() for one in match.method]:
        return False
    if match.host:
        host = host_of(url)
        if not any(host_matches(pattern, host) for pattern in match.host):
            return False
    return not match.path or any(path_matches(pattern, url) for pattern in match.path)


def status_matches(wanted: tuple[int | str, ...], status: int) -> bool:
    """Whether a status is one of these numbers and classes."""
    return any(
        str(one) == str(status) or str(one).lower() == f"{status // 100}xx" for one in wanted
    )  # "5xx", "503" and 503 all mean what they say


def response_matches(
    match: Match,
    *,
    resource: str,
    method: str,
    url: str,
    page: Page | None,
    error: errors.FetchError | None,
    scope: Mapping[str, Any],
) -> bool:
    """Whether a whole match holds: the request's part, status, kind of exception, and `when` in `scope`."""
    if match.status and (page is None or not status_matches(match.status, page.status)):
        return False
    if match.exception and exception_kind(error) not in match.exception:
        return False
    if not request_matches(match, resource=resource, method=method, url=url):
        return False
    return match.when is None or bool(match.when.evaluate(scope))
