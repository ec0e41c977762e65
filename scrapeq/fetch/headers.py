"""The header fields of requests."""

from __future__ import annotations

from collections.abc import Iterable

import httpx

from scrapeq.errors import Blocked
from scrapeq.fetch.redirects import shown

FRAMING = frozenset({"content-length", "transfer-encoding", "connection", "host"})
"""The wire's own."""

_CONTROL = frozenset(map(chr, (*range(9), *range(10, 32), 127)))


def fields_of(request: httpx.Request) -> list[tuple[str, str]]:
    """An httpx request's fields in their own spelling."""
    encoding = request.headers.encoding
    return [(name.decode("ascii"), value.decode(encoding)) for name, value in request.headers.raw]


def check_fields(fields: Iterable[tuple[str, str]]) -> None:
    """Refuse what would end a field and begin another."""
    for name, value in fields:
        if not _CONTROL.isdisjoint(name + value) or not name.isascii():
            raise Blocked(f"the header {shown(name)!r} holds a control character, or is none")
