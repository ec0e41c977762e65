"""An answer as it comes: its head checked, its body read under the cap, and what broke said in one line."""

from __future__ import annotations

import re
from collections.abc import Callable

import httpx

from scrapeq.errors import (
    BadResponse,
    Blocked,
    BodyTooLarge,
    ConnectionFailed,
    DeadlineExceeded,
    FetchError,
    Truncated,
)
from scrapeq.fetch.decoding import Body
from scrapeq.fetch.redirects import Hop, shown
from scrapeq.fetch.wire import MAX_HEADER_FIELDS, RawResponse

_MAX_HEADER_BYTES = 262_144
_DROPPED_BODY_BYTES = 16_384  # read so that the connection can be used again; a longer one is cut off
_BODILESS = frozenset({204, 304})
_SECONDS = re.compile(r"[0-9]+(?:\.[0-9]+)?", re.ASCII)


def names(hop: Hop) -> str:
    """A request, as errors name it."""
    return f"{hop.method} {shown(str(hop.url))}"


def check_head(hop: Hop, raw: RawResponse) -> None:
    """Raises BadAnswer for a head that no answer may have."""
    if not 200 <= raw.status <= 999:
        raise BadResponse(f"{names(hop)}: status {raw.status} is no answer")
    size = sum(len(name) + len(value) for name, value in raw.headers)
    if len(raw.headers) > MAX_HEADER_FIELDS or size > _MAX_HEADER_BYTES:
        raise BadResponse(f"{names(hop)}: {len(raw.headers)} header fields of {size} bytes are too many")


def says_wait(raw: RawResponse) -> bool:
    """A redirect with a Retry-After asks for time before the next request (RFC 9110, 10.2.3): a refusal."""
    value = raw.header("retry-after").strip()
    if _SECONDS.fullmatch(value):
        return float(value) > 0
    return value.endswith("GMT")


async def read(hop: Hop, raw: RawResponse, max_bytes: int, hidden: Callable[[str], str]) -> bytes:
    """
    The decoded body; read once, kept with the answer.

    Args:
        hop: The request.
        answer: Its answer.
        max_bytes: The most that it may be after decoding.
        hidden: Takes secrets out of what the wire says.
    """
    if raw.content is not None:
        return raw.content
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
    except httpx.TransportError as error:
        raise _broke_off(hop, error, hidden(str(error))) from None
    except (BadResponse, BodyTooLarge) as error:
        raise type(error)(f"{names(hop)}: {error}") from None


async def drop(raw: RawResponse) -> None:
    """Read a little of a body that nobody wants, undecoded, and close."""
    left = _DROPPED_BODY_BYTES
    try:
        if raw.content is None:
            async for piece in raw.pieces:
                left -= len(piece)
                if left < 0:
                    break
    except httpx.TransportError:
        pass  # what matters of it has come
    finally:
        await raw.aclose()


def failed(hop: Hop, error: httpx.TransportError, told: str) -> FetchError:
    """The error of a request that got no answer; `told`: its text without secrets."""
    text = f"{names(hop)}: {shown(told) or type(error).__name__}"
    if isinstance(error, httpx.TimeoutException):
        return DeadlineExceeded(text)
    if isinstance(error, httpx.UnsupportedProtocol | httpx.LocalProtocolError):
        return Blocked(text)
    if isinstance(error, httpx.RemoteProtocolError | httpx.DecodingError):
        return BadResponse(text)
    return ConnectionFailed(text)


def _broke_off(hop: Hop, error: httpx.TransportError, told: str) -> FetchError:
    """The error of an answer that began."""
    text = f"{names(hop)}: the body broke off: {shown(told) or type(error).__name__}"
    if isinstance(error, httpx.TimeoutException):
        return DeadlineExceeded(text)
    if (
        isinstance(error, httpx.RemoteProtocolError)
        and "incomplete" not in text
        and "without sending" not in text
    ):
        return BadResponse(text)
    return Truncated(text)
