"""Check the head of a response, read its body under the size cap, and turn transport errors into one-line errors."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import httpx

from scrapeq.errors import (
    BadResponse,
    Blocked,
    BodyTooLarge,
    ConnectionFailed,
    DeadlineExceeded,
    FetchError,
    TlsFailed,
    Truncated,
)
from scrapeq.fetch.decoding import Body
from scrapeq.fetch.redirects import Hop, printable
from scrapeq.fetch.wire import MAX_HEADER_FIELDS, NameLookupError, RawResponse, TlsHandshakeError
from scrapeq.responses.budgets import Fields
from scrapeq.responses.retry_after import retry_after_s

_MAX_HEADER_BYTES = 262_144
_DISCARDED_BODY_BYTES = 16_384  # read so that the connection can be reused; a longer body closes it
_FIRST_REDIRECT = 300
_ERROR_BODY_BYTES = 65_536
_BODILESS = frozenset({204, 304})


_ANSWERS_TO: Mapping[int, frozenset[str]] = {
    206: frozenset({"range"}),  # RFC 9110, 15.3.7
    304: frozenset(
        {"if-none-match", "if-modified-since", "if-match", "if-unmodified-since", "if-range"}
    ),  # 15.4.5
}


def is_unrequested(hop: Hop, status: int, client_headers: Iterable[str]) -> bool:
    """Return whether a response is to a request with a range or a condition, which this one had not."""
    if status not in _ANSWERS_TO:
        return False
    return _ANSWERS_TO[status].isdisjoint({*client_headers, *(name.lower() for name, _ in hop.headers)})


def describe(hop: Hop) -> str:
    """Return a request as error messages name it."""
    return f"{hop.method} {printable(str(hop.url))}"


def check_head(hop: Hop, raw: RawResponse) -> None:
    """Raise BadResponse for an impossible status or oversized headers."""
    if not 200 <= raw.status <= 999:
        raise BadResponse(f"{describe(hop)}: {raw.status} is not a final status code")
    size = sum(len(name) + len(value) for name, value in raw.headers)
    if len(raw.headers) > MAX_HEADER_FIELDS or size > _MAX_HEADER_BYTES:
        raise BadResponse(f"{describe(hop)}: too many headers ({len(raw.headers)} fields, {size} bytes)")


def has_retry_after(raw: RawResponse) -> bool:
    """Return whether a redirect has a Retry-After, which makes it a refusal (RFC 9110, 10.2.3)."""
    value = raw.header("retry-after")
    return bool(value and retry_after_s(Fields([("Retry-After", value)]), 0.0))  # a date counts, past or not


async def read(hop: Hop, raw: RawResponse, max_bytes: int, redact: Callable[[str], str]) -> bytes:
    """
    Return the decoded body. It is read once and stored with the response.

    The status and the headers of an error say what to do next, so whatever is wrong with its body, they count: the body
    is then what could be read of it, at most 64 KiB.

    Args:
        hop: The request.
        raw: Its response.
        max_bytes: The size cap, after decoding.
        redact: Removes secrets from the messages of transport errors.

    Raises:
        FetchError: the body is too large, malformed or incomplete.
    """
    if raw.content is not None:
        return raw.content
    collected: Body | None = None
    try:
        collected = Body(raw.header("content-encoding"), max_bytes)
        length = raw.header("content-length")
        has_body = hop.method != "HEAD" and raw.status not in _BODILESS
        if has_body and not collected.is_encoded and length.isascii() and length.isdigit():
            collected.expect(length)
        async for piece in raw.pieces:
            collected.feed(piece)
        raw.content = collected.finish()
        return raw.content
    except (httpx.TransportError, BadResponse, BodyTooLarge) as error:
        if raw.status >= _FIRST_REDIRECT:
            raw.content = b"" if collected is None else collected.start(_ERROR_BODY_BYTES)
            return raw.content
        if not isinstance(error, httpx.TransportError):
            raise type(error)(f"{describe(hop)}: {error}") from None
        raise _body_failure(hop, error, redact(str(error))) from None


async def discard(raw: RawResponse) -> None:
    """Read a short body without decoding it, so that the connection can be reused, and close the response."""
    left = _DISCARDED_BODY_BYTES
    try:
        if raw.content is None:
            async for piece in raw.pieces:
                left -= len(piece)
                if left < 0:
                    break
    except httpx.TransportError:
        pass  # the head has arrived, and the body is not needed
    finally:
        await raw.aclose()


def transport_failure(hop: Hop, error: httpx.TransportError, message: str) -> FetchError:
    """Return the error of a request without a response. `message`: the redacted text of the transport error."""
    text = f"{describe(hop)}: {printable(message) or type(error).__name__}"
    if isinstance(error, httpx.TimeoutException):
        return DeadlineExceeded(text)
    if isinstance(error, TlsHandshakeError):
        return TlsFailed(text)
    if isinstance(error, httpx.UnsupportedProtocol | httpx.LocalProtocolError):
        return Blocked(text)
    if isinstance(error, httpx.RemoteProtocolError | httpx.DecodingError):
        return BadResponse(text)
    failure = ConnectionFailed(text)
    if isinstance(error, NameLookupError):
        failure.wait_s = error.wait_s
    return failure


def _body_failure(hop: Hop, error: httpx.TransportError, message: str) -> FetchError:
    """Return the error of a response whose body ended with a transport error."""
    text = f"{describe(hop)}: the body is incomplete: {printable(message) or type(error).__name__}"
    if isinstance(error, httpx.TimeoutException):
        return DeadlineExceeded(text)
    is_incomplete = "incomplete" in message or "without sending" in message
    if isinstance(error, httpx.RemoteProtocolError) and not is_incomplete:
        return BadResponse(text)
    return Truncated(text)
