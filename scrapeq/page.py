"""A complete response, after redirects and decoding."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Self

from scrapeq.charsets import decoded, encoding_of
from scrapeq.errors import StatusError
from scrapeq.json_values import read_json

FIRST_ERROR_STATUS = 400


@dataclass(frozen=True)
class Page:
    """
    A complete, decoded response.

    Args:
        url: Its address, after redirects.
        status: HTTP status.
        headers: Names and values as sent, in order, with repeated fields.
        body: Bytes without content encodings, at most `max_body_size`.
        elapsed_s: Seconds from the first byte sent to the last byte read.
        requested_url: The address that was requested, before redirects.
        method: The method of the request.
        is_accepted: Whether a response action declares it a success. Then scrapeq does not look for errors in its body.
        is_unrequested: Whether it is a 206 or 304 to a request without a range or a condition.
    """

    url: str
    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes
    elapsed_s: float = 0.0
    requested_url: str = ""
    method: str = "GET"
    is_accepted: bool = False
    is_unrequested: bool = False

    @cached_property
    def _by_name(self) -> dict[str, str]:
        found: dict[str, str] = {}
        for name, value in self.headers:
            key = name.lower()
            found[key] = f"{found[key]}, {value}" if key in found else value
        return found

    def header(self, name: str) -> str | None:
        """Return a header by its name in any case, repeated fields joined by commas (RFC 9110, 5.2), or None."""
        return self._by_name.get(name.lower())

    @cached_property
    def text(self) -> str:
        """The body as text, in the encoding that it declares if Python knows it, else in UTF-8. Never raises."""
        return decoded(self.body, self.header("content-type") or "").removeprefix("\ufeff")

    def json(self) -> Any:
        """
        Return the body as JSON; NaN and infinite numbers are None. Raises ValueError when it is not JSON.
        """
        encoding = encoding_of(self.body, self.header("content-type") or "")
        body = self.body if encoding == "utf-8" else self.text.encode()
        return read_json(body, {}, text_beyond_64_bits=False)

    def raise_for_status(self) -> Self:
        """
        Return the page itself unless its status is 4xx or 5xx.

            items = (await fetcher.get("items")).raise_for_status().json()

        Raises:
            StatusError: the status is 400 or higher.
        """
        if self.status >= FIRST_ERROR_STATUS:
            raise StatusError(f"{self.method} {self.url}: status {self.status}", self.status)
        return self
