"""Decide whether a `plan.Match` holds for a request and its response. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any
from urllib.parse import urlsplit

from scrapeq import errors
from scrapeq.page import Page
from scrapeq.plan import Match
from scrapeq.resource.host import bracketed, canonical_host

_REGEX = "re:"
_DEFAULT_PORTS = {"http": 80, "https": 443}
_PATTERNS_CACHED = 4096
_HOSTS_CACHED = 4096
_PORT = re.compile(r":[^:\]]*\Z")
_SCHEME_LENGTH = len("https://")

# A subclass comes before its base class.
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
    """Return the name of an error in configurations, for example timeout or connection."""
    for kind, word in _KINDS:
        if isinstance(error, kind):
            return word
    return None


def host_of(url: str) -> str:
    """Return the canonical host of a URL, with a port other than the default one; "" for an invalid URL."""
    end = url.find("/", _SCHEME_LENGTH)
    return _host_of_origin(url if end < 0 else url[:end])


@lru_cache(maxsize=_HOSTS_CACHED)
def _host_of_origin(url: str) -> str:
    try:
        parts = urlsplit(url)
        host, port = bracketed(canonical_host(parts.hostname or "").rstrip(".")), parts.port
    except ValueError:
        return ""
    return host if port is None or port == _DEFAULT_PORTS.get(parts.scheme) else f"{host}:{port}"


@lru_cache(maxsize=_PATTERNS_CACHED)
def _compiled(pattern: str, any_run: str, flags: int) -> re.Pattern[str]:
    if pattern.startswith(_REGEX):
        return re.compile(pattern[len(_REGEX) :], flags)
    parts = re.split(r"(\*\*|\*)", pattern)
    text = "".join({"**": ".*", "*": any_run}.get(part) or re.escape(part) for part in parts)
    return re.compile(rf"\A(?:{text})\Z", flags | re.DOTALL)


def host_matches(pattern: str, host: str) -> bool:
    """
    Match a host against a glob (`*` is any text) or `re:…`. A pattern without a port matches every port.

    An internationalized name matches its ASCII form, and an IPv6 address every spelling of it, in brackets or not.
    """
    if not pattern.startswith(_REGEX):
        pattern = _host_pattern(pattern)
        if not _PORT.search(pattern):
            host = _PORT.sub("", host)
    return _compiled(pattern, ".*", re.IGNORECASE).search(host) is not None


@lru_cache(maxsize=_PATTERNS_CACHED)
def _host_pattern(pattern: str) -> str:
    """Return a glob of a host with each part in its canonical spelling."""
    try:
        if pattern.startswith("[") or pattern.count(":") > 1:
            address, bracket, port = pattern.rpartition("]") if "]" in pattern else (pattern, "", "")
            return bracketed(canonical_host(address + bracket)) + port
        name, colon, port = pattern.partition(":")
        labels = [label if "*" in label else canonical_host(label) for label in name.split(".")]
        return ".".join(labels) + colon + port
    except ValueError:
        return pattern


def path_matches(pattern: str, url: str) -> bool:
    """
    Match the path of a URL against a glob (`*` stays within a segment, `**` does not) or `re:…`.

    A pattern with a "?" is matched against path and query.
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
    """Return whether resource, method, host and path of a match hold."""
    if match.resource and resource not in match.resource:
        return False
    if match.method and method.upper() not in [one.upper() for one in match.method]:
        return False
    if match.host:
        host = host_of(url)
        if not any(host_matches(pattern, host) for pattern in match.host):
            return False
    return not match.path or any(path_matches(pattern, url) for pattern in match.path)


def status_matches(expected: tuple[int | str, ...], status: int) -> bool:
    """Return whether a status is one of these numbers (503, "503") or classes ("5xx")."""
    return any(str(one) == str(status) or str(one).lower() == f"{status // 100}xx" for one in expected)


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
    """Return whether a whole match holds: request, status, exception, and `when` in `scope`."""
    if match.status and (page is None or not status_matches(match.status, page.status)):
        return False
    if match.exception and exception_kind(error) not in match.exception:
        return False
    if not request_matches(match, resource=resource, method=method, url=url):
        return False
    return match.when is None or bool(match.when.evaluate(scope))
