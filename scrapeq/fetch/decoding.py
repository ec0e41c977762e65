"""
Content codings (RFC 9110, 8.4) removed while streaming, under a cap, so that a bomb costs no memory.

At most `MAX_LAYERS` codings may be stacked. A compressed body that ends early is an error, never a page.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from typing import Protocol

import brotli
import zstandard

from scrapeq.errors import BadResponse, BodyTooLarge, Truncated

ACCEPT_ENCODING = "gzip, br, zstd"
MAX_LAYERS = 5

_CHUNK_BYTES = 65_536  # what a decoder hands out at once
_ZSTD_SLICE_BYTES = 256  # a zstd block of 4 bytes may stand for 128 KiB: 256 bytes are at most 8 MiB
_ZSTD_WINDOW_BYTES = 8 << 20  # RFC 9659
_GZIP_WBITS = 31
_ZLIB_WBITS = 15
_LENGTH_DIGITS = 18
_GZIP_MAGIC = b"\x1f\x8b"
_NO_CODINGS = frozenset({"", "identity", "none", "binary", "utf-8"})  # what servers write for "none"


class _Layer(Protocol):
    def feed(self, data: bytes) -> Iterator[bytes]:
        """Decoded pieces of bounded size."""

    def finish(self) -> None:
        """Raises Truncated when the coding did not end."""


class _Deflated:
    """gzip (any number of members) and deflate (with or without zlib's frame, which servers mix up)."""

    def __init__(self, name: str, wbits: int) -> None:
        self._name = name
        self._wbits = wbits
        self._decoder = zlib.decompressobj(wbits)
        self._fed = False

    def feed(self, data: bytes) -> Iterator[bytes]:
        more = bool(data)
        while more:
            if self._decoder.eof:
                if self._wbits != _GZIP_WBITS or not data.startswith(_GZIP_MAGIC):
                    return  # padding behind the end
                self._decoder = zlib.decompressobj(self._wbits)
            try:
                piece = self._decoder.decompress(data, _CHUNK_BYTES)
            except zlib.error as error:
                if self._wbits == _ZLIB_WBITS and not self._fed:
                    self._wbits = -_ZLIB_WBITS
                    self._decoder = zlib.decompressobj(self._wbits)
                    continue
                raise BadResponse(f"the body is no valid {self._name}: {error}") from None
            self._fed = True
            data = self._decoder.unconsumed_tail or self._decoder.unused_data
            more = bool(data) or len(piece) == _CHUNK_BYTES  # a full piece may leave output inside
            if piece:
                yield piece

    def finish(self) -> None:
        if not self._decoder.eof:
            raise Truncated(f"the {self._name} body ended early")


class _Brotli:
    def __init__(self) -> None:
        self._decoder = brotli.Decompressor()

    def feed(self, data: bytes) -> Iterator[bytes]:
        decoder = self._decoder
        try:
            piece = b"" if decoder.is_finished() else decoder.process(data, output_buffer_limit=_CHUNK_BYTES)
            while piece:
                yield piece
                if decoder.is_finished():
                    return
                piece = decoder.process(b"", output_buffer_limit=_CHUNK_BYTES)
        except brotli.error as error:
            raise BadResponse(f"the body is no valid br: {error}") from None

    def finish(self) -> None:
        if not self._decoder.is_finished():
            raise Truncated("the br body ended early")


class _Zstandard:
    def __init__(self) -> None:
        self._decoder = self._new()

    @staticmethod
    def _new() -> zstandard.ZstdDecompressionObj:
        return zstandard.ZstdDecompressor(max_window_size=_ZSTD_WINDOW_BYTES).decompressobj(
            write_size=_CHUNK_BYTES
        )

    def feed(self, data: bytes) -> Iterator[bytes]:
        at = 0
        while at < len(data):
            if self._decoder.eof:
                self._decoder = self._new()  # the next frame
            part = data[at : at + _ZSTD_SLICE_BYTES]
            try:
                piece = self._decoder.decompress(part)
            except zstandard.ZstdError as error:
                raise BadResponse(f"the body is no valid zstd: {error}") from None
            at += len(part) - len(self._decoder.unused_data)
            if piece:
                yield piece

    def finish(self) -> None:
        if not self._decoder.eof:
            raise Truncated("the zstd body ended early")


def _layer(coding: str) -> _Layer:
    if coding in ("gzip", "x-gzip"):
        return _Deflated("gzip", _GZIP_WBITS)
    if coding == "deflate":
        return _Deflated("deflate", _ZLIB_WBITS)
    if coding == "br":
        return _Brotli()
    if coding == "zstd":
        return _Zstandard()
    raise BadResponse(f"the content coding {coding[:40]!r} is not known")


class Body:
    """
    Collects a body, decoding as it comes.

    Args:
        content_encoding: The field's value; "" = none.
        max_bytes: The most that may come out, of each layer.

    Raises:
        BadAnswer: an unknown coding, too many layers, or data that is not what it says.
        BodyTooLarge: more than `max_bytes`.
    """

    def __init__(self, content_encoding: str, max_bytes: int) -> None:
        codings = [coding.strip().lower() for coding in content_encoding.split(",")]
        codings = [coding for coding in codings if coding not in _NO_CODINGS]
        if len(codings) > MAX_LAYERS:
            raise BadResponse(f"{len(codings)} content codings are stacked; at most {MAX_LAYERS} are taken")
        self._layers = [_layer(coding) for coding in reversed(codings)]
        self._sizes = [0] * (len(self._layers) + 1)
        self._max_bytes = max_bytes
        self._pieces: list[bytes] = []
        self._raw = 0

    @property
    def is_encoded(self) -> bool:
        """Whether there is anything to decode."""
        return bool(self._layers)

    def expect(self, content_length: str) -> None:
        """Refuse a body by its Content-Length, before a byte of it is read."""
        digits = content_length.lstrip("0")
        if len(digits) > _LENGTH_DIGITS or int(digits or "0") > self._max_bytes:
            raise self._too_large()

    def _too_large(self) -> BodyTooLarge:
        return BodyTooLarge(f"the body is larger than {self._max_bytes} bytes (client.max_body_size)")

    def feed(self, data: bytes) -> None:
        """Take the next bytes as they came."""
        self._raw += len(data)
        for piece in self._through(0, data):
            self._pieces.append(piece)

    def _through(self, depth: int, data: bytes) -> Iterator[bytes]:
        self._sizes[depth] += len(data)
        if self._sizes[depth] > self._max_bytes:
            raise self._too_large()
        if depth == len(self._layers):
            yield data
            return
        for piece in self._layers[depth].feed(data):
            yield from self._through(depth + 1, piece)

    def finish(self) -> bytes:
        """The whole body. Raises Truncated when a coding did not end."""
        if self._raw:
            for layer in self._layers:
                layer.finish()
        return self._pieces[0] if len(self._pieces) == 1 else b"".join(self._pieces)
