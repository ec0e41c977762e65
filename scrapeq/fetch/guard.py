"""
The guard against server-side request forgery: which addresses a request may reach.

Private, loopback, link-local, multicast and other special addresses are blocked unless the user named their host. The
check applies to the address of the connection. A name that resolves to a special address, an unusual spelling of a
number, and an IPv6 form of an IPv4 address are therefore blocked, too.
"""

from __future__ import annotations

import ipaddress
import re
import socket
from collections.abc import Iterable
from urllib.parse import urlsplit

from aiohttp.abc import AbstractResolver, ResolveResult

from scrapeq.errors import Blocked
from scrapeq.fetch.names import Names
from scrapeq.resource.host import canonical_host, host_and_port

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address

# The special-purpose registries of IANA, as of 2026, since those of `ipaddress` depend on the version of Python. The
# few blocks in them that are globally reachable serve no web pages, so they are blocked, too.
_IPV4_SPECIAL = tuple(
    ipaddress.IPv4Network(network)
    for network in (
        "0.0.0.0/8",  # RFC 791: this network
        "10.0.0.0/8",  # RFC 1918: private
        "100.64.0.0/10",  # RFC 6598: behind carrier-grade NAT
        "127.0.0.0/8",  # RFC 1122: loopback
        "169.254.0.0/16",  # RFC 3927: link-local, with the metadata services of clouds
        "172.16.0.0/12",  # RFC 1918: private
        "192.0.0.0/24",  # RFC 6890: protocol assignments
        "192.0.2.0/24",  # RFC 5737: documentation
        "192.31.196.0/24",  # RFC 7535: AS112
        "192.52.193.0/24",  # RFC 7450: AMT
        "192.88.99.0/24",  # RFC 7526: 6to4 relays
        "192.168.0.0/16",  # RFC 1918: private
        "192.175.48.0/24",  # RFC 7534: AS112
        "198.18.0.0/15",  # RFC 2544: benchmarks
        "198.51.100.0/24",  # RFC 5737: documentation
        "203.0.113.0/24",  # RFC 5737: documentation
        "224.0.0.0/4",  # RFC 1112: multicast
        "240.0.0.0/4",  # RFC 1112: reserved, and broadcast
    )
)
_IPV6_UNICAST = ipaddress.IPv6Network("2000::/3")  # all global unicast addresses assigned so far
_IPV6_SPECIAL = tuple(
    ipaddress.IPv6Network(network)
    for network in (
        "2001::/23",  # RFC 2928: protocol assignments; Teredo, which embeds an IPv4 address
        "2001:db8::/32",  # RFC 3849: documentation
        "2002::/16",  # RFC 3056: 6to4, which embeds an IPv4 address
        "2620:4f:8000::/48",  # RFC 7534: AS112
        "3fff::/20",  # RFC 9637: documentation
    )
)
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")  # RFC 6052: allowed if the embedded IPv4 address is public
_ISATAP = frozenset({0x00005EFE, 0x02005EFE})  # RFC 5214: bits 64 to 95, followed by an IPv4 address
_IPV4_BITS = 0xFFFFFFFF
_ENDS_IN_NUMBER = re.compile(
    r"(?:.*\.)?(?:[0-9]+|0[xX][0-9a-fA-F]*)\.?", re.ASCII
)  # URL Standard, host parsing
_LOCAL_NAME = re.compile(r"(?:.*\.)?localhost\.?", re.ASCII | re.IGNORECASE)  # RFC 6761, 6.3


def is_public(address: IPAddress) -> bool:
    """Return whether an address is public. Of an IPv6 form that embeds an IPv4 address, that address decides."""
    if isinstance(address, ipaddress.IPv4Address):
        return not any(address in network for network in _IPV4_SPECIAL)
    if address.ipv4_mapped is not None:
        return is_public(address.ipv4_mapped)
    embedded = ipaddress.IPv4Address(int(address) & _IPV4_BITS)
    if address in _NAT64:
        return is_public(embedded)
    if address not in _IPV6_UNICAST or address.scope_id or any(address in one for one in _IPV6_SPECIAL):
        return False
    return int(address) >> 32 & _IPV4_BITS not in _ISATAP or is_public(embedded)


def normal_host(host: str) -> str:
    """Return a host for comparison: in its canonical spelling, without brackets and final dot."""
    try:
        return canonical_host(host).rstrip(".")
    except ValueError:
        return host.strip("[]").rstrip(".").lower()


class NamedHosts:
    """
    The hosts that the user named. `(host, port) in named` tells whether a host is one of them.

    Args:
        named: Hosts as `host`, `host:port`, or a URL, which names its host on every port.
    """

    def __init__(self, named: Iterable[str] = ()) -> None:
        self._hosts: set[tuple[str, int | None]] = set()
        for text in named:
            self._hosts.add(_host_and_port(text))

    def __contains__(self, host_and_port: tuple[str, int]) -> bool:
        host, port = host_and_port
        host = normal_host(host)
        return (host, None) in self._hosts or (host, port) in self._hosts


def _host_and_port(text: str) -> tuple[str, int | None]:
    try:
        if "://" in text:  # a URL names its host on every port
            return normal_host(urlsplit(text).hostname or ""), None
        host, port = host_and_port(text)
        return normal_host(host), port
    except ValueError:
        return normal_host(text), None


def check_literal(host: str) -> None:
    """
    Check a host that is written as an IP address. Other names pass; a resolver checks their addresses.

    Raises:
        Blocked: it is a special address, or is spelled in a form that programs read differently.
    """
    bare = normal_host(host)
    if not bare:
        raise Blocked("the URL does not name a host")
    if _LOCAL_NAME.fullmatch(bare):
        raise _blocked(host, "loopback")
    try:
        address = ipaddress.ip_address(bare)
    except ValueError:
        if _ENDS_IN_NUMBER.fullmatch(bare) or ":" in bare or "%" in bare:
            raise Blocked(f"{host} is an unusual form of an IP address; write the address in full") from None
        return
    if not is_public(address):
        raise _blocked(host, _kind_of(address))


def _blocked(host: str, kind: str) -> Blocked:
    return Blocked(f"{host} is a {kind} address; to allow it, add the host to client.allow_hosts")


def _kind_of(address: IPAddress) -> str:
    for kind in ("loopback", "link_local", "multicast", "unspecified", "private"):
        if getattr(address, f"is_{kind}"):
            return kind.replace("_", "-")
    return "special"


class NamedResolver(AbstractResolver):
    """
    Resolves the hosts that the user named, to any address.

    Args:
        names: Looks names up.
    """

    def __init__(self, names: Names) -> None:
        self._names = names

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """Raise OSError if the name does not resolve, Postponed if that takes long."""
        return [
            ResolveResult(
                hostname=host,
                host=address,
                port=port,
                family=of_family,
                proto=protocol,
                flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV,
            )
            for of_family, protocol, address in await self._names.addresses(host)
            if family in (socket.AF_UNSPEC, of_family)
        ]

    async def close(self) -> None:
        """Do nothing: the wire closes the names."""


class GuardedResolver(NamedResolver):
    """Resolves a name to its public addresses only. aiohttp connects to one of exactly these."""

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """Raise Blocked if all addresses of the name are special, OSError if it does not resolve."""
        check_literal(host)
        found = await super().resolve(host, port, family)
        public = [result for result in found if is_public(ipaddress.ip_address(result["host"]))]
        if not public:
            address = found[0]["host"] if found else "nothing"
            raise Blocked(
                f"{host} resolves to {address}, which is not a public address; "
                "to allow it, add the host to client.allow_hosts"
            )
        return public
