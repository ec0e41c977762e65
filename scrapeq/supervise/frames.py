"""
The wire between fetchers and the writer: a length (4 bytes, big-endian), then that many bytes of JSON.

A request is `[id, task, token, [[resource, key, record], ...]]`; an answer frame is a list of `[id, kind, value]`
with the kinds `ok` (how many items were new), `lost`, `output` and `usage` (a message).
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Iterator
from typing import Any

import orjson

FRAME_MAX_BYTES = 64 * 1024 * 1024

_LENGTH = struct.Struct(">I")


class FrameTooLarge(ValueError):
    """A frame above FRAME_MAX_BYTES, or one whose length says so."""


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
