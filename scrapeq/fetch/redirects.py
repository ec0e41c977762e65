"""Where a redirect leads, and which headers and body go with it (RFC 9110, 15.4). Pure."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import urljoin, urlsplit

import httpx

from scrapeq.errors import BadResponse, Blocked
from scrapeq.resource.host import bracketed, canonical_host

REDIRECT_STATUSES = frozenset({301, 302, 303, 307, 308})
SCHEMES = frozenset({"http", "https"})

_BODY_FIELDS = frozenset({"content-type", "content-length", "content-encoding", "content-language", "digest"})
_VALIDATORS = frozenset({"if-none-match", "if-modified-since"})  # of the previous URL (RFC 9110, 15.4)
_PRINTABLE_CHARS = 200
ELLIPSIS = "…"  # where `printable` has truncated a URL

# Request fields that describe the request, never the user, so that another origin may see them. Any other field may
# contain a secret.
SAFE_FIELDS = frozenset(
    {"accept", "accept-language", "accept-encoding", "user-agent", "cache-control", "from", "dnt", "range"}
    | {"content-type", "content-language", "upgrade-insecure-requests"}
)


@dataclass(frozen=True, slots=True)
class Hop:
    """One request of a redirect chain, without the credentials that are added when it is sent."""

    method: str
    url: httpx.URL
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes | None = None


def origin(url: httpx.URL) -> tuple[str, str, int | None]:
    """Return scheme, host and port. Two URLs share credentials only if all three are equal."""
    default = {"http": 80, "https": 443}.get(url.scheme)
    return url.scheme, url.raw_host.decode("ascii").rstrip(".").lower(), url.port or default


def parse_url(text: str) -> httpx.URL:
    """
    Return an http or https URL with a host, without fragment and user information.

    Raises:
        Blocked: the text is not such a URL.
    """
    try:
        url = httpx.URL(_with_canonical_host(text))
        if url.scheme not in SCHEMES:
            raise Blocked(f"{printable(text)} is not an http or https URL")
        if not url.host:
            raise Blocked(f"{printable(text)} does not name a host")
        return url.copy_with(fragment=None, userinfo=b"") if url.fragment or url.userinfo else url
    except (httpx.InvalidURL, ValueError, UnicodeError) as error:
        raise Blocked(f"{printable(text)} is not a valid URL: {error}") from None


def _with_canonical_host(text: str) -> str:
    """Return a URL with its host in the canonical spelling; a text without a host stays as it is. Raises ValueError."""
    parts = urlsplit(text)
    if not parts.hostname or parts.scheme not in SCHEMES:
        return text
    host = canonical_host(parts.hostname)
    if host == parts.hostname and ":" not in host:
        return text
    port = "" if parts.port is None else f":{parts.port}"
    return parts._replace(netloc=f"{bracketed(host)}{port}").geturl()


def join_url(base_url: str, path: str) -> str:
    """Return a path joined to base_url with exactly one "/"; a whole URL stays as it is."""
    return path if "://" in path else f"{base_url.rstrip('/')}/{path.lstrip('/')}"


def next_hop(hop: Hop, status: int, location: str) -> Hop:
    """
    Return the request that a redirect asks for.

    303 changes the method to GET (HEAD stays), 301 and 302 change POST to GET as every client does, 307 and 308 change
    nothing. Fields that may contain a secret are not sent to another origin.

    Raises:
        BadResponse: the Location header is malformed.
        Blocked: it does not lead to an http(s) URL, or it would send a body from https to http.
    """
    try:
        target_text = urljoin(str(hop.url), location.strip())
    except ValueError as error:
        raise BadResponse(f"{printable(str(hop.url))} redirects to {printable(location)}: {error}") from None
    try:
        target = parse_url(target_text)
    except Blocked as error:
        raise Blocked(f"{printable(str(hop.url))} redirects: {error}") from None
    method, body = hop.method, hop.body
    headers = tuple(field for field in hop.headers if field[0].lower() not in _VALIDATORS)
    becomes_get = (status == 303 and method != "HEAD") or (status in (301, 302) and method == "POST")
    if becomes_get:
        method, body = "GET", None
        headers = tuple(field for field in headers if field[0].lower() not in _BODY_FIELDS)
    if origin(target) != origin(hop.url):
        if body and (hop.url.scheme, target.scheme) == ("https", "http"):
            raise Blocked(f"{printable(str(hop.url))} redirects its body from https to http")
        headers = tuple(field for field in headers if field[0].lower() in SAFE_FIELDS)
    return Hop(method, target, headers, body)


def printable(url: str) -> str:
    """Return a URL for an error message: on one line, without user information, truncated if it is long."""
    text = "".join(char if char.isprintable() else "?" for char in url)
    scheme, separator, rest = text.partition("://")
    if separator:
        authority, slash, path = rest.partition("/")
        text = f"{scheme}://{authority.rpartition('@')[2]}{slash}{path}"
    return text if len(text) <= _PRINTABLE_CHARS else f"{text[:_PRINTABLE_CHARS]}{ELLIPSIS}"
