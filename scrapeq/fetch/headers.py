"""The header fields of requests."""

from __future__ import annotations

from collections.abc import Iterable

import httpx

from scrapeq.errors import Blocked
from scrapeq.fetch.redirects import printable

FRAMING = frozenset({"content-length", "transfer-encoding", "connection", "host"})
"""Fields that the wire sets itself."""

_CONTROL = frozenset(map(chr, (*range(9), *range(10, 32), 127)))


def fields_of(request: httpx.Request) -> list[tuple[str, str]]:
    """Return the header fields of an httpx request, with the case of their names preserved."""
    encoding = request.headers.encoding
    return [(name.decode("ascii"), value.decode(encoding)) for name, value in request.headers.raw]


def check_fields(fields: Iterable[tuple[str, str]]) -> None:
    """Raise Blocked for a control character, which could end a header field and inject another."""
    for name, value in fields:
        if not _CONTROL.isdisjoint(name + value) or not name.isascii():
            raise Blocked(f"the header {printable(name)!r} has a control character, or its name is not ASCII")
