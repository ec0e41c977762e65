"""
The wire between fetchers and the writer: a length (4 bytes, big-endian), then that many bytes of JSON.

A request is `[id, task, token, [[resource, key, record], ...]]`. Where an output needs it, an item has its seed as its
fourth part, and the request has the answer as its fifth: `[url, status, headers, elapsed_s, requested_url, method,
resource, seed]`, whose body, in Base64, has come before it in frames `[id, part]`. An answer frame is a list of
`[id, kind, value]` with the kinds `ok` (how many items were new), `lost`, `output` and `usage` (a message).
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

_LENGTH = struct.Struct(">I")


class FrameTooLarge(ValueError):
    """A frame above FRAME_MAX_BYTES, or one whose length says so."""


BODY_PART_BYTES = 12 * 1024 * 1024  # of an answer's body in one frame; a multiple of 3, so that parts join


def pack_page(id_: int, page: Page, resource: str, seed: Mapping[str, Any]) -> tuple[bytes, list[Any]]:
    """An answer: the frames of its body, and its part of the request."""
    parts = range(0, len(page.body), BODY_PART_BYTES)
    frames = [pack([id_, b64encode(page.body[at : at + BODY_PART_BYTES]).decode()]) for at in parts]
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


def read_page(said: list[Any], body: str) -> tuple[Page, str, dict[str, Any]]:
    """What `pack_page` packed: the page, its resource and seed. Raises ValueError or TypeError when it is none."""
    url, status, headers, elapsed_s, requested_url, method, resource, seed = said
    fields = tuple((str(name), str(value)) for name, value in headers)
    page = Page(url, int(status), fields, b64decode(body), float(elapsed_s), requested_url, method)
    return page, str(resource), dict(seed)


def pack(message: Any) -> bytes:
    """A message as a frame. Raises FrameTooLarge, and TypeError when it is no JSON."""
    body = orjson.dumps(message)
    if len(body) > FRAME_MAX_BYTES:
        raise FrameTooLarge(f"{len(body)} bytes, and a frame holds {FRAME_MAX_BYTES}")
    return _LENGTH.pack(len(body)) + body


class FrameReader:
    """Cuts a stream into messages."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterator[tuple[Any, int]]:
        """
        The messages that are whole now, each with its size in bytes.

        Raises:
            ValueError: too large (FrameTooLarge), or no JSON; the stream is beyond repair.
        """
        buffer = self._buffer
        buffer += data
        start = 0
        while len(buffer) - start >= _LENGTH.size:
            (size,) = _LENGTH.unpack_from(buffer, start)
            if size > FRAME_MAX_BYTES:
                raise FrameTooLarge(f"{size} bytes, and a frame holds {FRAME_MAX_BYTES}")
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
        """Send it at the end of this turn."""
        if not self._waiting:
            asyncio.get_running_loop().call_soon(self._flush)
        self._waiting.append(frame)

    def _flush(self) -> None:
        frames, self._waiting = self._waiting, []
        if not self._transport.is_closing():
            self._transport.write(b"".join(frames))
