"""An answer as it comes: its head checked, its body read under the cap, and what broke said in one line."""

from __future__ import annotations

import re
from collections.abc import Callable

import httpx

from scrapeq.errors import (
    BadAnswer,
    Blocked,
    BodyTooLarge,
    ConnectionFailed,
    DeadlineExceeded,
    FetchError,
    Truncated,
)
from scrapeq.fetch.decoding import Body
from scrapeq.fetch.redirects import Hop, shown
from scrapeq.fetch.wire import MAX_HEADER_FIELDS, Answer

_MAX_HEADER_BYTES = 262_144
_DROPPED_BODY_BYTES = 16_384  # read so that the connection can be used again; a longer one is cut off
_BODILESS = frozenset({204, 304})
_SECONDS = re.compile(r"[0-9]+(?:\.[0-9]+)?", re.ASCII)


def names(hop: Hop) -> str:
    """A request, as errors name it."""
    return f"{hop.method} {shown(str(hop.url))}"


def check_head(hop: Hop, answer: Answer) -> None:
    """Raises BadAnswer for a head that no answer may have."""
    if not 200 <= answer.status <= 999:
        raise BadAnswer(f"{names(hop)}: status {answer.status} is no answer")
    size = sum(len(name) + len(value) for name, value in answer.headers)
    if len(answer.headers) > MAX_HEADER_FIELDS or size > _MAX_HEADER_BYTES:
        raise BadAnswer(f"{names(hop)}: {len(answer.headers)} header fields of {size} bytes are too many")


def says_wait(answer: Answer) -> bool:
    """A redirect with a Retry-After asks for time before the next request (RFC 9110, 10.2.3): a refusal."""
    value = answer.header("retry-after").strip()
    if _SECONDS.fullmatch(value):
        return float(value) > 0
    return value.endswith("GMT")


async def read(hop: Hop, answer: Answer, max_bytes: int, hidden: Callable[[str], str]) -> bytes:
    """
    The decoded body; read once, kept with the answer.

    Args:
        hop: The request.
        answer: Its answer.
        max_bytes: The most that it may be after decoding.
        hidden: Takes secrets out of what the wire says.
    """
    if answer.content is not None:
        return answer.content
    try:
        collected = Body(answer.header("content-encoding"), max_bytes)
        length = answer.header("content-length")
        has_body = hop.method != "HEAD" and answer.status not in _BODILESS
        if has_body and not collected.is_encoded and length.isascii() and length.isdigit():
            collected.expect(length)
        async for piece in answer.pieces:
            collected.feed(piece)
        answer.content = collected.finish()
        return answer.content
    except httpx.TransportError as error:
        raise _broke_off(hop, error, hidden(str(error))) from None
    except (BadAnswer, BodyTooLarge) as error:
        raise type(error)(f"{names(hop)}: {error}") from None


async def drop(answer: Answer) -> None:
    """Read a little of a body that nobody wants, undecoded, and close."""
    left = _DROPPED_BODY_BYTES
    try:
        if answer.content is None:
            async for piece in answer.pieces:
                left -= len(piece)
                if left < 0:
                    break
    except httpx.TransportError:
        pass  # what matters of it has come
    finally:
        await answer.aclose()


def failed(hop: Hop, error: httpx.TransportError, told: str) -> FetchError:
    """The error of a request that got no answer; `told`: its text without secrets."""
    text = f"{names(hop)}: {shown(told) or type(error).__name__}"
    if isinstance(error, httpx.TimeoutException):
        return DeadlineExceeded(text)
    if isinstance(error, httpx.UnsupportedProtocol | httpx.LocalProtocolError):
        return Blocked(text)
    if isinstance(error, httpx.RemoteProtocolError | httpx.DecodingError):
        return BadAnswer(text)
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
        return BadAnswer(text)
    return Truncated(text)
