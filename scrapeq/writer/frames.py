"""
The wire protocol between fetchers and the writer: a length (4 bytes, big-endian), then that many bytes of JSON.

A commit is `[id, task, token, [[resource, key, record], ...]]`. Where an output needs it, an item has its seed as its
fourth element, and the commit has the response as its fifth: `[url, status, headers, elapsed_s, requested_url, method,
resource, seed]`. The response's body, in Base64, precedes the commit in frames `[id, part]`. A reply frame is a list
of `[id, kind, value]`; the kinds are `ok` (value: how many items were new), `lost`, `output` and `usage` (value: a
message).
"""

from __future__ import annotations

import asyncio
import struct
from base64 import b64decode, b64encode
from collections.abc import Iterator, Mapping
from typing import Any

import orjson

from scrapeq.page import Page

FRAME_MAX_BYTES = 64 * 1024 * 1024
BODY_PART_BYTES = (
    12 * 1024 * 1024
)  # of a response's body in one frame; a multiple of 3, so that Base64 parts join
BODY_PART_ELEMENTS = 2  # elements of a message that carries a part of a body

_LENGTH = struct.Struct(">I")


class FrameTooLarge(ValueError):
    """A frame is larger than FRAME_MAX_BYTES, or its length field says so."""


def pack_page(id_: int, page: Page, resource: str, seed: Mapping[str, Any]) -> tuple[bytes, list[Any]]:
    """Return the frames of a response's body, and the response's part of the commit."""
    starts = range(0, len(page.body), BODY_PART_BYTES)
    frames = [pack([id_, b64encode(page.body[start : start + BODY_PART_BYTES]).decode()]) for start in starts]
    return b"".join(frames), [
        page.url,
        page.status,
        page.headers,
        page.elapsed_s,
        page.requested_url,
        page.method,
        resource,
        seed,
    ]


def unpack_page(packed: list[Any], body: str) -> tuple[Page, str, dict[str, Any]]:
    """
    Return the page, resource and seed that `pack_page` has packed.

    Args:
        packed: The response's part of the commit.
        body: All parts of its body, joined.

    Raises:
        ValueError, TypeError: the message is not a packed page.
    """
    url, status, headers, elapsed_s, requested_url, method, resource, seed = packed
    fields = tuple((str(name), str(value)) for name, value in headers)
    page = Page(url, int(status), fields, b64decode(body), float(elapsed_s), requested_url, method)
    return page, str(resource), dict(seed)


def pack(message: Any) -> bytes:
    """Return a message as a frame. Raises FrameTooLarge, and TypeError for what JSON cannot express."""
    body = orjson.dumps(message)
    if len(body) > FRAME_MAX_BYTES:
        raise FrameTooLarge(f"{len(body)} bytes, more than the {FRAME_MAX_BYTES} of one frame")
    return _LENGTH.pack(len(body)) + body


class FrameReader:
    """Splits a stream of bytes into messages."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterator[tuple[Any, int]]:
        """
        Add bytes and yield the messages that are complete, each with its size in bytes.

        Raises:
            ValueError: a frame is too large (FrameTooLarge) or not JSON; the rest of the stream cannot be read.
        """
        buffer = self._buffer
        buffer += data
        start = 0
        while len(buffer) - start >= _LENGTH.size:
            (size,) = _LENGTH.unpack_from(buffer, start)
            if size > FRAME_MAX_BYTES:
                raise FrameTooLarge(f"{size} bytes, more than the {FRAME_MAX_BYTES} of one frame")
            end = start + _LENGTH.size + size
            if len(buffer) < end:
                break
            with memoryview(buffer) as view:
                message = orjson.loads(view[start + _LENGTH.size : end])
            start = end
            yield message, size
        del buffer[:start]


class BatchedWrites:
    """Joins the frames of one turn of the event loop into one write."""

    def __init__(self, transport: asyncio.WriteTransport) -> None:
        self._transport = transport
        self._waiting: list[bytes] = []

    def write(self, frame: bytes) -> None:
        """Send a frame at the end of this turn."""
        if not self._waiting:
            asyncio.get_running_loop().call_soon(self._flush)
        self._waiting.append(frame)

    def _flush(self) -> None:
        frames, self._waiting = self._waiting, []
        if not self._transport.is_closing():
            self._transport.write(b"".join(frames))
