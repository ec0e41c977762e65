"""
Streaming decoders of gzip, deflate and zstd that hand out pieces of bounded size, so that a bomb costs no memory.

The caller counts the bytes and stops at its own cap. Decoders raise what their library raises (`zlib.error`,
`zstandard.ZstdError`) for data that is not theirs.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from zstandard import ZstdDecompressionObj

PIECE_BYTES = 65_536  # the most that `ZlibDecoder` hands out at once

_GZIP_WBITS = 31
_ZLIB_WBITS = 15
_ZLIB_HEADER_BYTES = 2  # they tell zlib from raw deflate
_GZIP_MAGIC = b"\x1f\x8b"
_ZSTD_SLICE_BYTES = 256  # a zstd block of 4 bytes may stand for 128 KiB, so 256 bytes decode to at most 8 MiB


class Decoder(Protocol):
    """Decodes one stream."""

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Yield the decoded pieces of the next bytes. Exhaust the iterator before the next call."""

    @property
    def is_complete(self) -> bool:
        """Whether the data so far ends where the format says that it ends."""


class ZlibDecoder:
    """
    Decodes gzip or deflate.

    gzip: any number of members, one after the other (RFC 1952, 2.2); what follows the last one is ignored as padding.
    deflate: with or without zlib's header, since servers mix the two up (RFC 9110, 8.4.1.2).

    Args:
        gzip: Whether the data is gzip; otherwise it is deflate.
    """

    def __init__(self, *, gzip: bool) -> None:
        self._wbits = _GZIP_WBITS if gzip else _ZLIB_WBITS
        self._decoder = zlib.decompressobj(self._wbits)
        self._has_decoded = False
        self._has_ended = False
        self._carried = b""  # the first byte of a header or magic number that the chunk's end has cut

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Yield the decoded pieces. Raises zlib.error."""
        data, self._carried = self._carried + data, b""
        if not self._has_decoded and self._wbits == _ZLIB_WBITS and len(data) < _ZLIB_HEADER_BYTES:
            self._carried = data
            return
        has_more = bool(data)
        while has_more:
            if self._decoder.eof and not self._start_member(data):
                return
            try:
                piece = self._decoder.decompress(data, PIECE_BYTES)
            except zlib.error:
                if self._wbits == _ZLIB_WBITS and not self._has_decoded:
                    self._wbits = -_ZLIB_WBITS
                    self._decoder = zlib.decompressobj(self._wbits)
                    continue
                raise
            self._has_decoded = True
            data = self._decoder.unconsumed_tail or self._decoder.unused_data
            has_more = (
                bool(data) or len(piece) == PIECE_BYTES
            )  # after a full piece, output may be left inside
            if piece:
                yield piece

    def _start_member(self, data: bytes) -> bool:
        """Return whether another member of a gzip file begins here."""
        if self._wbits != _GZIP_WBITS or self._has_ended:
            return False
        if data == _GZIP_MAGIC[:1]:
            self._carried = data
            return False
        if not data.startswith(_GZIP_MAGIC):
            self._has_ended = True
            return False
        self._decoder = zlib.decompressobj(self._wbits)
        return True

    @property
    def is_complete(self) -> bool:
        """Whether the last member has ended."""
        return self._decoder.eof


class ZstdDecoder:
    """
    Decodes zstd: any number of frames, one after the other (RFC 8878, 3.1).

    Args:
        window_bytes: The largest window that a frame may ask for, and so the memory that it may cost.
    """

    def __init__(self, window_bytes: int) -> None:
        self._window_bytes = window_bytes
        self._decoder = self._new_frame()

    def _new_frame(self) -> ZstdDecompressionObj:
        import zstandard  # loaded on first use: most runs never need it

        return zstandard.ZstdDecompressor(max_window_size=self._window_bytes).decompressobj()

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Yield the decoded pieces. Raises zstandard.ZstdError."""
        at = 0
        while at < len(data):
            if self._decoder.eof:
                self._decoder = self._new_frame()
            part = data[at : at + _ZSTD_SLICE_BYTES]
            piece = self._decoder.decompress(part)
            at += len(part) - len(self._decoder.unused_data)
            if piece:
                yield piece

    @property
    def is_complete(self) -> bool:
        """Whether the last frame has ended."""
        return self._decoder.eof
