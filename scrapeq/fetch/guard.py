"""
The guard: which addresses a request may reach.

A private, loopback, link-local, multicast or otherwise special address is refused unless the user named its host.
The check is on the address that is connected to, so neither a name that resolves there, nor an odd spelling of a
number, nor an IPv6 form with an IPv4 address in it leads there.
"""

from __future__ import annotations

import asyncio
import ipaddress
import re
import socket
from collections.abc import Iterable
from urllib.parse import urlsplit

from aiohttp.abc import AbstractResolver, ResolveResult

from scrapeq.errors import Blocked

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address

_NAT64 = ipaddress.IPv6Network(
    "64:ff9b::/96"
)  # RFC 6052: a public IPv4 address in it is one that may be reached
_IPV6_UNICAST = ipaddress.IPv6Network("2000::/3")  # all that is assigned to the internet so far
_IPV6_SPECIAL = tuple(
    ipaddress.IPv6Network(network)
    for network in (
        "2001::/23",  # RFC 2928: protocol assignments, Teredo with an IPv4 address in it
        "2001:db8::/32",  # RFC 3849: documentation
        "2002::/16",  # RFC 3056: 6to4, with an IPv4 address in it
        "3fff::/20",  # RFC 9637: documentation
    )
)
_IPV4_SPECIAL = tuple(
    ipaddress.IPv4Network(network)
    for network in (
        "192.88.99.0/24",  # RFC 7526: 6to4 relays
        "224.0.0.0/4",  # multicast
        "240.0.0.0/4",  # reserved, broadcast
    )
)
_IPV4_BITS = 0xFFFFFFFF
_ENDS_IN_NUMBER = re.compile(
    r"(?:.*\.)?(?:[0-9]+|0[xX][0-9a-fA-F]*)\.?", re.ASCII
)  # URL Standard, host parsing
_LOCAL_NAME = re.compile(r"(?:.*\.)?localhost\.?", re.ASCII | re.IGNORECASE)  # RFC 6761, 6.3
_DEFAULT_PORTS = {"http": 80, "https": 443}


def is_public(address: IPAddress) -> bool:
    """Whether an address is of the public internet, looking through the forms that embed another."""
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None:
            return is_public(address.ipv4_mapped)
        if address in _NAT64:
            return is_public(ipaddress.IPv4Address(int(address) & _IPV4_BITS))
        if address not in _IPV6_UNICAST or address.scope_id:
            return False
        return address.is_global and not any(address in network for network in _IPV6_SPECIAL)
    return address.is_global and not any(address in network for network in _IPV4_SPECIAL)


def normal_host(host: str) -> str:
    """A host as names are compared: lower case, no brackets, no final dot."""
    return host.strip("[]").rstrip(".").lower()


class NamedHosts:
    """The hosts that the user named: `host`, `host:port`, or a URL whose host it is."""

    def __init__(self, named: Iterable[str] = ()) -> None:
        self._hosts: set[tuple[str, int | None]] = set()
        for one in named:
            self._hosts.add(_host_and_port(one))

    def __contains__(self, host_and_port: tuple[str, int]) -> bool:
        host, port = host_and_port
        host = normal_host(host)
        return (host, None) in self._hosts or (host, port) in self._hosts


def _host_and_port(text: str) -> tuple[str, int | None]:
    try:
        if "://" in text:  # a URL names its host, on whatever port
            return normal_host(urlsplit(text).hostname or ""), None
        if text.count(":") > 1 and not text.startswith("["):  # a bare IPv6 address
            return normal_host(text), None
        parts = urlsplit(f"//{text}")
        return normal_host(parts.hostname or ""), parts.port
    except ValueError:
        return normal_host(text), None


def check_literal(host: str) -> None:
    """
    Refuse a host that is written as an address, if it is not a public one; names pass.

    Raises:
        Blocked: it leads to a special address, or is spelled so that readers differ about it.
    """
    bare = normal_host(host)
    if not bare:
        raise Blocked("a URL without a host")
    if _LOCAL_NAME.fullmatch(bare):
        raise _blocked(host, "loopback")
    try:
        address = ipaddress.ip_address(bare)
    except ValueError:
        if _ENDS_IN_NUMBER.fullmatch(bare) or ":" in bare or "%" in bare:
            raise Blocked(f"{host} is an address in a form that is not allowed: write it in full") from None
        return
    if not is_public(address):
        raise _blocked(host, _kind_of(address))


def _blocked(host: str, kind: str) -> Blocked:
    return Blocked(f"{host} is a {kind} address; name its host in client.allow_hosts to allow it")


def _kind_of(address: IPAddress) -> str:
    for kind in ("loopback", "link_local", "multicast", "unspecified", "private"):
        if getattr(address, f"is_{kind}"):
            return kind.replace("_", "-")
    return "special"


class GuardedResolver(AbstractResolver):
    """Resolves a name to its public addresses only; the connection goes to one of exactly these."""

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """Raises Blocked when all of a name's addresses are special, OSError when there is none."""
        check_literal(host)
        found = await _look_up(host, port, family)
        public = [one for one in found if is_public(ipaddress.ip_address(one["host"]))]
        if not public:
            address = found[0]["host"] if found else "nothing"
            raise Blocked(
                f"{host} resolves to {address}, which is no public address; "
                "name the host in client.allow_hosts to allow it"
            )
        return public

    async def close(self) -> None:
        """Nothing to close."""


class NamedResolver(AbstractResolver):
    """Resolves the hosts that the user named, wherever they lead."""

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """Raises OSError when there is no address."""
        return await _look_up(host, port, family)

    async def close(self) -> None:
        """Nothing to close."""


async def _look_up(host: str, port: int, family: socket.AddressFamily) -> list[ResolveResult]:
    loop = asyncio.get_running_loop()
    answers = await loop.getaddrinfo(
        host, port, family=family, type=socket.SOCK_STREAM, flags=socket.AI_ADDRCONFIG
    )
    return [
        ResolveResult(
            hostname=host,
            host=str(address[0]),
            port=port,
            family=of_family,
            proto=protocol,
            flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV,
        )
        for of_family, _, protocol, _, address in answers
    ]
