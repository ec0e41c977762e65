"""A whole answer, as the engine sees it after redirects and decoding."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import orjson


@dataclass(frozen=True)
class Page:
    """
    A whole, decoded answer.

    Args:
        url: Where it came from, after redirects.
        status: HTTP status.
        headers: Name and value as sent, in order, repeated fields kept.
        body: Decoded bytes (content encodings removed), within `max_body_size`.
        elapsed_s: Seconds from the first byte sent to the last byte read.
        requested_url: What was asked for.
        method: The request's method.
    """

    url: str
    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes
    elapsed_s: float = 0.0
    requested_url: str = ""
    method: str = "GET"

    @cached_property
    def _by_name(self) -> dict[str, str]:
        found: dict[str, str] = {}
        for name, value in self.headers:
            key = name.lower()
            found[key] = f"{found[key]}, {value}" if key in found else value
        return found

    def header(self, name: str) -> str | None:
        """One header by name, any case; repeated fields joined with a comma (RFC 9110, 5.2); None if absent."""
        return self._by_name.get(name.lower())

    @cached_property
    def text(self) -> str:
        """The body as text: the charset that was declared if Python's text codecs know it, else UTF-8; never raises."""
        kind = self.header("content-type") or ""
        charset = "utf-8"
        for part in kind.split(";")[1:]:
            name, _, value = part.strip().partition("=")
            if name.strip().lower() == "charset":
                charset = value.strip().strip("\"'") or charset
        try:
            return self.body.decode(charset, "replace")
        except (LookupError, UnicodeError, TypeError, AssertionError, ValueError):
            return self.body.decode("utf-8", "replace")

    def json(self) -> Any:
        """The body as JSON. Raises ValueError (orjson.JSONDecodeError) when it is none."""
        return orjson.loads(self.body)
