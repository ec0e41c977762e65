"""
Content codings (RFC 9110, 8.4), decoded while the body streams in, under a size cap.

At most `MAX_LAYERS` codings may be stacked. A compressed body that ends early is an error, never a page.
"""

from __future__ import annotations

import re
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
_AWS_CHUNKED = "aws-chunked"
_CHUNK_HEAD = re.compile(rb"(?:\r\n)?([0-9a-fA-F]{1,16})(?:;[^\r\n]*)?\r\n")
_SIGNED_HEAD = re.compile(rb"[0-9a-fA-F]{1,16};chunk-signature=")  # anything less might be data
_CHUNK_HEAD_BYTES = 256


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


class _AwsChunkedDecoder:
    """
    Decodes the framing of S3 uploads (`size;chunk-signature=…`), if the body has it.

    S3 stores the header that an upload had, but mostly without its framing; then the body stays as it is.
    """

    def __init__(self) -> None:
        self._buffer = b""
        self._left = 0  # bytes of the current chunk
        self._is_framed: bool | None = None
        self.is_complete = True

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Yield the decoded pieces. Raises BadResponse."""
        if self._is_framed is False:
            yield data
            return
        self._buffer += data
        if self._is_framed is None:
            if len(self._buffer) < _CHUNK_HEAD_BYTES and b"\n" not in self._buffer:
                return
            self._is_framed = _SIGNED_HEAD.match(self._buffer) is not None
            if not self._is_framed:
                yield self.rest()
                return
            self.is_complete = False
        while self._buffer and not self.is_complete:
            if self._left:
                piece, self._buffer = self._buffer[: self._left], self._buffer[self._left :]
                self._left -= len(piece)
                yield piece
                continue
            head = _CHUNK_HEAD.match(self._buffer)
            if head is None:
                if len(self._buffer) >= _CHUNK_HEAD_BYTES:
                    raise BadResponse("the body is not valid aws-chunked: a chunk has no size")
                return
            self._left, self._buffer = int(head[1], 16), self._buffer[head.end() :]
            self.is_complete = not self._left  # trailers may follow

    def rest(self) -> bytes:
        """Return what is buffered because it may be framing; at the end of a body it is not."""
        rest, self._buffer = (self._buffer, b"") if not self._is_framed else (b"", self._buffer)
        return rest


_DECODERS: dict[str, Callable[[], Decoder]] = {
    "gzip": lambda: ZlibDecoder(gzip=True),
    "deflate": lambda: ZlibDecoder(gzip=False),
    "br": _BrotliDecoder,
    "zstd": lambda: ZstdDecoder(_ZSTD_WINDOW_BYTES),
    _AWS_CHUNKED: _AwsChunkedDecoder,
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

    def rest(self) -> bytes:
        """Return what the decoder has not decoded yet."""
        return self._decoder.rest() if isinstance(self._decoder, _AwsChunkedDecoder) else b""

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
        has_chunks = _AWS_CHUNKED in codings
        codings = [coding for coding in codings if coding not in _IDENTITY and coding != _AWS_CHUNKED]
        if len(codings) > MAX_LAYERS:
            raise BadResponse(f"{len(codings)} content codings are stacked; the limit is {MAX_LAYERS}")
        if has_chunks:
            codings.append(_AWS_CHUNKED)  # the outermost, wherever the header names it
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

    def start(self, max_bytes: int) -> bytes:
        """Return the beginning of the body, as far as it was read."""
        return b"".join(self._pieces)[:max_bytes]

    def finish(self) -> bytes:
        """Return the whole body. Raises Truncated if a coding has not ended."""
        if self._raw_bytes:
            for depth, layer in enumerate(self._layers):
                if rest := layer.rest():
                    self._pieces += self._decoded(depth + 1, rest)
                layer.finish()
        return self._pieces[0] if len(self._pieces) == 1 else b"".join(self._pieces)
