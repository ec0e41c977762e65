"""The canonical spelling of a host: one for the wire, for limits and for comparison."""

from __future__ import annotations

import ipaddress
import re
import unicodedata
from functools import lru_cache
from urllib.parse import urlsplit

import idna

_HOSTS_CACHED = 4096
_MAX_CHARS = 253  # RFC 1035, 2.3.4
_LABEL_MAX_CHARS = 63
_SHOWN_CHARS = 80
_ACE = "xn--"
_DOTS = re.compile("[.。．｡]")  # the full stops of the URL Standard
_INVISIBLE = frozenset("\u200c\u200d")  # joiners: valid in some scripts only
_FORBIDDEN = re.compile(r"[\x00-\x20\x7f#/<>?@\[\\\]^|:%]")  # URL Standard, 3.1


@lru_cache(maxsize=_HOSTS_CACHED)
def canonical_host(host: str) -> str:
    """
    Return a host in lower-case ASCII, as it is sent: internationalized names in Punycode, IPv6 addresses compressed.

    Numbers in the form of an IPv4 address stay as they are. A final dot stays.

    Args:
        host: A name or an address; an IPv6 address with or without brackets.

    Returns:
        The host; an IPv6 address without brackets.

    Raises:
        ValueError: it is not a host, or an IPv6 address with a zone, which has a meaning on one machine only.
    """
    shown = host[:_SHOWN_CHARS]
    if host.startswith("[") or ":" in host:
        bare = host.removeprefix("[").removesuffix("]")
        if "%" in bare:
            raise ValueError(f"{shown}: an IPv6 address with a zone (%...) is not allowed in a URL")
        try:
            return ipaddress.IPv6Address(bare).compressed
        except ValueError:
            raise ValueError(f"{shown} is not an IPv6 address") from None
    if not host.isascii():
        host = ".".join(_label(label, shown) for label in _DOTS.split(_mapped(host, shown)))
    if _FORBIDDEN.search(host):
        raise ValueError(f"{shown!r} is not a valid host name")
    if len(host.rstrip(".")) > _MAX_CHARS:
        raise ValueError(f"{shown}… is longer than {_MAX_CHARS} characters")
    return host.lower()


def bracketed(host: str) -> str:
    """Return a host as URLs write it: an IPv6 address in brackets."""
    return f"[{host}]" if ":" in host and not host.startswith("[") else host


def _mapped(host: str, shown: str) -> str:
    """Apply the mapping of UTS 46, as browsers do: capitals, full-width letters, other full stops."""
    try:
        return unicodedata.normalize("NFC", idna.uts46_remap(host, std3_rules=False, transitional=False))
    except idna.IDNAError as error:
        raise ValueError(f"{shown} is not a valid host name: {error}") from None


def _label(label: str, shown: str) -> str:
    """Return one label in ASCII. Symbols that IDNA 2008 excludes are encoded as in browsers."""
    if label.isascii():
        return label
    try:
        return idna.alabel(label).decode("ascii")
    except idna.IDNAError as error:
        if not _INVISIBLE.isdisjoint(label):
            raise ValueError(f"{shown} is not a valid host name: {error}") from None
    encoded = _ACE + label.encode("punycode").decode("ascii")
    if len(encoded) > _LABEL_MAX_CHARS:
        raise ValueError(f"{shown}: {label[:_SHOWN_CHARS]} is longer than {_LABEL_MAX_CHARS} characters")
    return encoded


def host_and_port(text: str) -> tuple[str, int | None]:
    """
    Split `host`, `host:port`, `[IPv6]`, `[IPv6]:port` or a bare IPv6 address; the host is canonical.

    Raises:
        ValueError: the host or the port is invalid.
    """
    if text.count(":") > 1 and not text.startswith("["):
        return canonical_host(text), None
    parts = urlsplit(f"//{text}")
    return canonical_host(parts.hostname or ""), parts.port
