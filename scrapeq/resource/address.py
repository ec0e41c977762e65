"""URLs: joining, parameters, and the canonical spelling under which two requests are the same."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from urllib.parse import SplitResult, quote, unquote_plus, urljoin, urlsplit

from scrapeq.errors import UsageError
from scrapeq.resource.host import bracketed, canonical_host

DEFAULT_PORTS = {"http": 80, "https": 443}
DIGEST_BYTES = 16
_SAFE_IN_PATH = "/:@!$&'()*+,;=~%"
_SAFE_IN_QUERY = _SAFE_IN_PATH + "?[]|"
# A URL that needs no cleaning. Most do not, and parsing one costs twenty times as much. Ports that may be invalid,
# user information, IPv6 hosts and capitals are left to the parser.
_CLEAN_URL = re.compile(
    r"(https?)://[a-z0-9](?:[a-z0-9.-]*[a-z0-9])?(?::([1-5]?[0-9]{1,4}))?"
    r"(/[/:@!$&'()*+,;=~%\w.-]*)?(?:\?([/:@!$&'()*+,;=~%?\[\]|\w.-]+))?",
    re.ASCII,
)


def parse_url(url: str) -> SplitResult:
    """
    Split an absolute http(s) URL into its parts, with the host in its canonical spelling.

    Raises:
        UsageError: it is not an absolute http(s) URL.
    """
    reason = ""
    try:
        parts = urlsplit(url)
        found, port = parts.hostname, parts.port
        parts.netloc.encode()  # a URL from a header may hold bytes that are not UTF-8
        host = canonical_host(found) if found else ""
    except ValueError as error:
        host, reason = "", f": {error}"
    if not host or parts.scheme not in DEFAULT_PORTS or any(letter <= " " for letter in parts.netloc):
        raise UsageError(f"{url[:200]!r} is not an http(s) URL{reason[:200]}")
    user, at, _ = parts.netloc.rpartition("@")
    return parts._replace(netloc=f"{user}{at}{bracketed(host)}{'' if port is None else f':{port}'}")


def clean(url: str) -> str:
    """
    Return the URL as it can be sent: percent-encoded where necessary, without a fragment.

    Raises:
        UsageError: it is not an http(s) URL.
    """
    if _CLEAN_URL.fullmatch(url):
        return url
    parts = parse_url(url.strip())
    path = quote(parts.path, safe=_SAFE_IN_PATH, errors="replace")
    query = quote(parts.query, safe=_SAFE_IN_QUERY, errors="replace")
    return parts._replace(path=path, query=query, fragment="").geturl()


def resolve(base: str, reference: str) -> str:
    """
    Resolve a reference found at `base` (RFC 3986, 5.2) and clean the result.

    Raises:
        UsageError: the result is not an http(s) URL.
    """
    try:
        return clean(urljoin(base, reference.strip()))
    except ValueError:
        raise UsageError(f"{reference[:200]!r} is not an http(s) URL") from None


def without_downgrade(base: str, url: str) -> str:
    """
    Return an http URL as https if it is on the host and port of `base`, which is https; any other URL as it is.

    Servers behind a proxy that terminates TLS write such links. Followed as they are, they would lose the encryption
    and the credential.
    """
    if not (url.startswith("http:") and base.startswith("https:")):
        return url
    own, target = urlsplit(base), parse_url(url)
    own_port = DEFAULT_PORTS["https"] if own.port is None else own.port
    target_port = DEFAULT_PORTS["http"] if target.port is None else target.port
    ports = (own_port, target_port)
    same_port = own_port == target_port or ports == (DEFAULT_PORTS["https"], DEFAULT_PORTS["http"])
    if not same_port or own.hostname != target.hostname:
        return url
    netloc = (
        target.netloc.removesuffix(f":{DEFAULT_PORTS['http']}") if own_port != target_port else target.netloc
    )
    return target._replace(scheme="https", netloc=netloc).geturl()


def join(base_url: str, path: str) -> str:
    """Join base and path with exactly one "/" between them; an empty path is the base itself."""
    return f"{base_url.rstrip('/')}/{path.lstrip('/')}" if path else base_url


def canonical(url: str) -> str:
    """
    Return the canonical spelling of a URL: lowercase host, no default port, no fragment, parameters sorted by name.

    Repeated parameters keep their order, which may be significant.

    Raises:
        UsageError: it is not an http(s) URL.
    """
    plain = _CLEAN_URL.fullmatch(url)
    if plain and plain[3] and "&" not in (plain[4] or ""):
        other_port = plain[2] is None or int(plain[2]) != DEFAULT_PORTS[plain[1]]
        if other_port:
            return url
    parts = parse_url(url)
    host = bracketed(parts.hostname or "")
    if parts.port is not None and parts.port != DEFAULT_PORTS[parts.scheme]:
        host = f"{host}:{parts.port}"
    user, at, _ = parts.netloc.rpartition("@")
    query = "&".join(sorted(filter(None, parts.query.split("&")), key=_name))
    return f"{parts.scheme}://{user}{at}{host}{parts.path or '/'}{'?' if query else ''}{query}"


def task_key(method: str, url: str, body: str | None, headers: Mapping[str, str] | None = None) -> str:
    """
    Return the identity of a request: method, canonical URL, digest of the body, digest of the given headers.

    Args:
        method: In upper case.
        url: The URL.
        body: The body; None = no body.
        headers: The headers by which requests to this URL differ.

    Raises:
        UsageError: the URL is not an http(s) URL.
    """
    key = f"{method} {canonical(url)}"
    if body is not None:
        key = f"{key} {digest(body.encode(errors='replace'))}"
    if headers:
        named = "\n".join(f"{name.lower()}: {headers[name]}" for name in sorted(headers))
        key = f"{key} #{digest(named.encode(errors='replace'))}"
    return key


def digest(data: bytes) -> str:
    """Return a short, stable name for some bytes (BLAKE2b, hex)."""
    return hashlib.blake2b(data, digest_size=DIGEST_BYTES).hexdigest()


def encode_params(params: Iterable[tuple[str, str]]) -> str:
    """Encode names and values as a query string."""
    return "&".join(f"{_quoted(name)}={_quoted(value)}" for name, value in params)


def with_params(url: str, params: Iterable[tuple[str, str]]) -> str:
    """Append parameters to the URL."""
    extra = encode_params(params)
    if not extra:
        return url
    url = url.partition("#")[0]
    return f"{url}{'&' if '?' in url else '?'}{extra}"


def get_param(url: str, name: str) -> str | None:
    """Return the first value of a parameter, decoded; None if it is missing."""
    for piece in url.partition("#")[0].partition("?")[2].split("&"):
        if piece and _name(piece) == name:
            return unquote_plus(piece.partition("=")[2])
    return None


def param_names(url: str) -> list[str]:
    """Return the names of a URL's parameters, decoded, in order."""
    pieces = url.partition("#")[0].partition("?")[2].split("&")
    return [_name(piece) for piece in pieces if piece]


def set_params(url: str, params: Mapping[str, str | Sequence[str] | None]) -> str:
    """Replace these parameters where they stand, or append them; None removes one, a list repeats it."""
    base, _, query = url.partition("#")[0].partition("?")
    remaining = dict(params)
    pieces: list[str] = []
    for piece in filter(None, query.split("&")):
        name = _name(piece)
        if name not in params:
            pieces.append(piece)
            continue
        pieces += _pieces(name, remaining.pop(name, None))
    for name, value in remaining.items():
        pieces += _pieces(name, value)
    return f"{base}?{'&'.join(pieces)}" if pieces else base


def _pieces(name: str, value: str | Sequence[str] | None) -> list[str]:
    values = () if value is None else (value,) if isinstance(value, str) else value
    return [f"{_quoted(name)}={_quoted(one)}" for one in values]


def _name(piece: str) -> str:
    return unquote_plus(piece.partition("=")[0])


def _quoted(text: str) -> str:
    return quote(text, safe="-._~", errors="replace")
