"""
Content codings (RFC 9110, 8.4), decoded while the body streams in, under a size cap.

At most `MAX_LAYERS` codings may be stacked. A compressed body that ends early is an error, never a page.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator

import brotli
import zstandard

from scrapeq.decompression import PIECE_BYTES, Decoder, ZlibDecoder, ZstdDecoder
from scrapeq.errors import BadResponse, BodyTooLarge, Truncated

ACCEPT_ENCODING = "gzip, br, zstd"
MAX_LAYERS = 5

_ZSTD_WINDOW_BYTES = 8 << 20  # RFC 9659, 3
_LENGTH_DIGITS = 18
_IDENTITY = frozenset({"", "identity", "none", "binary", "utf-8"})  # what servers send for an unencoded body
_CODING_SHOWN_CHARS = 40


class _BrotliDecoder:
    """Decodes Brotli (RFC 7932); bytes after the end of the stream are ignored."""

    def __init__(self) -> None:
        self._decoder = brotli.Decompressor()

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Yield the decoded pieces. Raises brotli.error."""
        decoder = self._decoder
        piece = b"" if decoder.is_finished() else decoder.process(data, output_buffer_limit=PIECE_BYTES)
        while piece:
            yield piece
            if decoder.is_finished():
                return
            piece = decoder.process(b"", output_buffer_limit=PIECE_BYTES)

    @property
    def is_complete(self) -> bool:
        """Whether the stream has ended."""
        return bool(self._decoder.is_finished())


_DECODERS: dict[str, Callable[[], Decoder]] = {
    "gzip": lambda: ZlibDecoder(gzip=True),
    "deflate": lambda: ZlibDecoder(gzip=False),
    "br": _BrotliDecoder,
    "zstd": lambda: ZstdDecoder(_ZSTD_WINDOW_BYTES),
}


class _Layer:
    """One content coding of a body, and the errors of its decoder as errors of the response."""

    def __init__(self, coding: str) -> None:
        self._coding = "gzip" if coding == "x-gzip" else coding  # RFC 9110, 8.4.1.3
        if self._coding not in _DECODERS:
            raise BadResponse(f"unknown content coding {coding[:_CODING_SHOWN_CHARS]!r}")
        self._decoder = _DECODERS[self._coding]()

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Yield the decoded pieces. Raises BadResponse."""
        try:
            yield from self._decoder.feed(data)
        except (zlib.error, brotli.error, zstandard.ZstdError) as error:
            raise BadResponse(f"the body is not valid {self._coding}: {error}") from None

    def finish(self) -> None:
        """Raise Truncated if the coding has not ended."""
        if not self._decoder.is_complete:
            raise Truncated(f"the {self._coding} body ended early")


class Body:
    """
    Collects a response body, and decodes it as it arrives.

    Args:
        content_encoding: The value of Content-Encoding; "" if the header is absent.
        max_bytes: The cap on the encoded body, and on the output of each coding.

    Raises:
        BadResponse: a coding is unknown, or too many are stacked; `feed`: the data is not valid for its coding.
        BodyTooLarge: more than `max_bytes`.
    """

    def __init__(self, content_encoding: str, max_bytes: int) -> None:
        codings = [coding.strip().lower() for coding in content_encoding.split(",")]
        codings = [coding for coding in codings if coding not in _IDENTITY]
        if len(codings) > MAX_LAYERS:
            raise BadResponse(f"{len(codings)} content codings are stacked; the limit is {MAX_LAYERS}")
        self._layers = [_Layer(coding) for coding in reversed(codings)]
        self._sizes = [0] * (len(self._layers) + 1)
        self._max_bytes = max_bytes
        self._pieces: list[bytes] = []
        self._raw_bytes = 0

    @property
    def is_encoded(self) -> bool:
        """Whether the body has a content coding to decode."""
        return bool(self._layers)

    def expect(self, content_length: str) -> None:
        """Raise BodyTooLarge for a Content-Length above the cap, before a byte of the body is read."""
        digits = content_length.lstrip("0")
        if len(digits) > _LENGTH_DIGITS or int(digits or "0") > self._max_bytes:
            raise self._too_large()

    def _too_large(self) -> BodyTooLarge:
        return BodyTooLarge(f"the body is larger than {self._max_bytes} bytes (client.max_body_size)")

    def feed(self, data: bytes) -> None:
        """Add the next bytes as they came over the wire."""
        self._raw_bytes += len(data)
        for piece in self._decoded(0, data):
            self._pieces.append(piece)

    def _decoded(self, depth: int, data: bytes) -> Iterator[bytes]:
        """Yield the pieces after the codings from `depth` on."""
        self._sizes[depth] += len(data)
        if self._sizes[depth] > self._max_bytes:
            raise self._too_large()
        if depth == len(self._layers):
            yield data
            return
        for piece in self._layers[depth].feed(data):
            yield from self._decoded(depth + 1, piece)

    def finish(self) -> bytes:
        """Return the whole body. Raises Truncated if a coding has not ended."""
        if self._raw_bytes:
            for layer in self._layers:
                layer.finish()
        return self._pieces[0] if len(self._pieces) == 1 else b"".join(self._pieces)
