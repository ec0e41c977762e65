"""The guard blocks every spelling of a special-purpose address, unless the user named its host."""

from __future__ import annotations

import ipaddress
import socket

import httpx
import pytest

from scrapeq.errors import Blocked
from scrapeq.fetch import Egress
from scrapeq.fetch.guard import GuardedResolver, NamedHosts, check_literal, is_public
from scrapeq.fetch.names import Names
from scrapeq.plan import Client

TABLE = """
127.0.0.1 127.0.0.2 127.255.255.254 127.1 127.0.1 0177.0.0.1 0x7f.0.0.1 0x7f.1 0x7f000001 2130706433 017700000001
0 0.0.0.0 0x0 00 127.0.0.1. 127.1. 10.0.0.1 10.255.255.255 172.16.0.1 172.31.255.255 192.168.0.1 192.168.1.1
192.168.257 3232235777 0xc0a80101 169.254.169.254 169.254.1.1 2852039166 0xa9fea9fe 169.254.43518 0251.0376.0251.0376
100.64.0.1 192.0.0.1 192.0.2.1 198.18.0.1 198.51.100.1 203.0.113.1 192.88.99.1 224.0.0.1 239.255.255.250 240.0.0.1
255.255.255.255 localhost LOCALHOST localhost. a.localhost a.localhost.
[::1] [::] [0:0:0:0:0:0:0:1] [::ffff:127.0.0.1] [::ffff:7f00:1] [::ffff:10.0.0.1] [::ffff:a9fe:a9fe] [::127.0.0.1]
[::7f00:1] [::ffff:0:127.0.0.1] [64:ff9b::127.0.0.1] [64:ff9b::7f00:1] [64:ff9b::a9fe:a9fe] [64:ff9b:1::1]
[2002:7f00:1::] [2002:a00:1::1] [2001::1] [2001:0:7f00:1::] [2001:db8::1] [3fff::1] [fe80::1] [fec0::1] [fc00::1]
192.0.0.8 192.0.0.9 192.0.0.170 192.0.0.255 100.127.255.255 198.19.0.1 192.31.196.1 [::ffff:c000:8] [64:ff9b::c000:8]
[2620:4f:8000::1] [2001:db9:0:0:0:5efe:7f00:1] [2a00::200:5efe:10.0.0.1] [fd00:ec2::254]
[ff02::1] [ff0e::1] [100::1] [5f00::1] [4000::1]
①②⑦.⓪.⓪.① １２７.０.０.１ 127。0。0。1 127．0．0．1 ⓛⓞⓒⓐⓛⓗⓞⓢⓣ %31%32%37.0.0.1 127.0.0.1%2f 999.1.1.1 1.2.3.4.5 08.8.8.8
"""
SPELLINGS = TABLE.split()


async def _unreachable(request: httpx.Request) -> httpx.Response:
    raise AssertionError(f"{request.url} was sent")


@pytest.mark.parametrize("host", SPELLINGS)
async def test_special_addresses_are_blocked_in_every_spelling(host: str) -> None:
    """Nothing is sent, and the error names the address."""
    async with Egress(Client(), transport=httpx.MockTransport(_unreachable)) as egress:
        with pytest.raises(Blocked):
            await egress.send("GET", f"http://{host}/")


@pytest.mark.parametrize("host", SPELLINGS)
async def test_redirects_to_special_addresses_are_blocked(host: str) -> None:
    """Each hop is checked like the first request."""

    async def respond(request: httpx.Request) -> httpx.Response:
        assert request.url.host == "public.example"
        return httpx.Response(302, headers=[(b"Location", f"http://{host}:6379/".encode())])

    async with Egress(Client(), transport=httpx.MockTransport(respond)) as egress:
        with pytest.raises(Blocked):
            await egress.send("GET", "http://public.example/")


@pytest.mark.parametrize(
    "url",
    [
        "file:///etc/passwd",
        "ftp://a.example/",
        "gopher://a.example",
        "data:,x",
        "//a.example",
        "http://",
        "x",
        "",
    ],
)
async def test_only_http_is_allowed(url: str) -> None:
    """Any other scheme, or a missing one, is blocked."""
    async with Egress(Client(), transport=httpx.MockTransport(_unreachable)) as egress:
        with pytest.raises(Blocked):
            await egress.send("GET", url)


def test_the_table_has_at_least_80_spellings() -> None:
    """The table must not shrink."""
    assert len(set(SPELLINGS)) >= 80


@pytest.mark.parametrize(
    "address", ["8.8.8.8", "1.1.1.1", "2606:4700::1111", "64:ff9b::808:808", "192.0.1.9"]
)
def test_public_addresses_pass(address: str) -> None:
    """An IPv4 address behind NAT64 is public, too."""
    assert is_public(ipaddress.ip_address(address))
    check_literal(f"[{address}]" if ":" in address else address)


@pytest.mark.parametrize(
    "host", ["a.example", "1.example", "0x7f.example", "localhost.example", "xn--bcher-kva.example"]
)
def test_names_are_left_to_the_resolver(host: str) -> None:
    """A host that only resembles a number is a name."""
    check_literal(host)


@pytest.mark.parametrize(
    ("named", "host", "port", "is_named"),
    [
        ("127.0.0.1", "127.0.0.1", 80, True),
        ("127.0.0.1", "127.0.0.2", 80, False),
        ("Intra.Example.", "intra.example", 443, True),
        ("intra.example", "a.intra.example", 443, False),
        ("localhost:8080", "localhost", 8080, True),
        ("localhost:8080", "localhost", 6379, False),
        ("http://localhost:8080/x", "localhost", 9090, True),
        ("[::1]:80", "::1", 80, True),
        ("::1", "::1", 80, True),
        ("http://[::1]:80/", "::1", 81, True),
        ("http://[broken", "broken", 80, False),
        ("bücher.example", "xn--bcher-kva.example", 80, True),
        ("xn--bcher-kva.example:81", "BÜCHER.example", 81, True),
        ("[0:0::1]:80", "[::1]", 80, True),
        ("fd00::7", "fd00:0:0::7", 443, True),
    ],
)
def test_a_named_host_covers_its_port_or_all_ports(named: str, host: str, port: int, is_named: bool) -> None:
    """A name without a port covers all ports, and so does a URL; `host:port` covers one."""
    assert ((host, port) in NamedHosts([named])) is is_named


async def test_special_addresses_of_a_name_are_removed(monkeypatch: pytest.MonkeyPatch) -> None:
    """If the name has only special addresses, the host is blocked."""
    table = {"mixed.example": ["10.0.0.1", "8.8.8.8"], "inside.example": ["10.0.0.1", "169.254.169.254"]}

    def getaddrinfo(host: str, port: object, **_: object) -> list[tuple[object, ...]]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (one, 0)) for one in table[host]]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    resolver = GuardedResolver(Names())
    assert [one["host"] for one in await resolver.resolve("mixed.example", 80)] == ["8.8.8.8"]
    with pytest.raises(Blocked, match=r"inside\.example resolves to 10\.0\.0\.1"):
        await resolver.resolve("inside.example", 80)
