"""Where a redirect leads and what goes with it (RFC 9110, 15.4). Pure."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import urljoin

import httpx

from scrapeq.errors import BadResponse, Blocked

STATUSES = frozenset({301, 302, 303, 307, 308})
SCHEMES = frozenset({"http", "https"})

_KEEP_METHOD = frozenset({307, 308})
_BODY_FIELDS = frozenset({"content-type", "content-length", "content-encoding", "content-language", "digest"})
_VALIDATORS = frozenset({"if-none-match", "if-modified-since"})  # of the address before (RFC 9110, 15.4)
_SHOWN_CHARS = 200
CUT = "…"  # where an address was too long to be shown

# Request fields that say how, never who: they go along to another origin. Every other one may hold a secret.
SAFE_FIELDS = frozenset(
    {"accept", "accept-language", "accept-encoding", "user-agent", "cache-control", "from", "dnt", "range"}
    | {"content-type", "content-language", "upgrade-insecure-requests"}
)


@dataclass(frozen=True, slots=True)
class Hop:
    """One request of a chain, without the credentials that are added when it is sent."""

    method: str
    url: httpx.URL
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes | None = None


def origin(url: httpx.URL) -> tuple[str, str, int | None]:
    """Scheme, host and port; two URLs share credentials only if all three are the same."""
    default = {"http": 80, "https": 443}.get(url.scheme)
    return url.scheme, url.host.rstrip(".").lower(), url.port or default


def parse(text: str) -> httpx.URL:
    """
    A URL that can be requested: http or https, with a host, no fragment, no user information.

    Raises:
        Blocked: it is none; nothing is sent.
    """
    try:
        url = httpx.URL(text)
        if url.scheme not in SCHEMES:
            raise Blocked(f"{shown(text)} is no http or https address")
        if not url.host:
            raise Blocked(f"{shown(text)} has no host")
        return url.copy_with(fragment=None, userinfo=b"") if url.fragment or url.userinfo else url
    except (httpx.InvalidURL, ValueError, UnicodeError) as error:
        raise Blocked(f"{shown(text)} is no valid address: {error}") from None


def joined(base_url: str, path: str) -> str:
    """A whole URL, or a path joined to base_url by exactly one "/"."""
    return path if "://" in path else f"{base_url.rstrip('/')}/{path.lstrip('/')}"


def next_hop(hop: Hop, status: int, location: str) -> Hop:
    """
    The request that a redirect asks for.

    303 turns into GET (HEAD stays), 301 and 302 turn a POST into GET as every client does, 307 and 308 change
    nothing. Fields that may hold a secret stay with their origin.

    Raises:
        BadAnswer: the Location cannot be read.
        Blocked: it leads to no http(s) address, or would carry a body from https to http.
    """
    try:
        target_text = urljoin(str(hop.url), location.strip())
    except ValueError as error:
        raise BadResponse(f"{shown(str(hop.url))} redirects to {shown(location)}: {error}") from None
    try:
        target = parse(target_text)
    except Blocked as error:
        raise Blocked(f"{shown(str(hop.url))} redirects: {error}") from None
    method, body = hop.method, hop.body
    headers = tuple(field for field in hop.headers if field[0].lower() not in _VALIDATORS)
    turns = (status == 303 and method != "HEAD") or (status in (301, 302) and method == "POST")
    if turns and status not in _KEEP_METHOD:
        method, body = "GET", None
        headers = tuple(field for field in headers if field[0].lower() not in _BODY_FIELDS)
    if origin(target) != origin(hop.url):
        if body and (hop.url.scheme, target.scheme) == ("https", "http"):
            raise Blocked(f"{shown(str(hop.url))} redirects its body from https to http")
        headers = tuple(field for field in headers if field[0].lower() in SAFE_FIELDS)
    return Hop(method, target, headers, body)


def shown(url: str) -> str:
    """A URL as an error shows it: no line breaks, no user information, not too long."""
    text = "".join(char if char.isprintable() else "?" for char in url)
    scheme, separator, rest = text.partition("://")
    if separator:
        authority, slash, path = rest.partition("/")
        text = f"{scheme}://{authority.rpartition('@')[2]}{slash}{path}"
    return text if len(text) <= _SHOWN_CHARS else f"{text[:_SHOWN_CHARS]}{CUT}"
