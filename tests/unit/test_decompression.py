"""The streaming decoders that responses and packed files share."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Callable

import pytest
import zstandard

from scrapeq.decompression import PIECE_BYTES, Decoder, ZlibDecoder, ZstdDecoder

TEXT = b"abc " * 50_000


def raw_deflate(data: bytes) -> bytes:
    """Compress with deflate, without the header of zlib."""
    packer = zlib.compressobj(wbits=-15)
    return packer.compress(data) + packer.flush()


FORMATS: dict[str, tuple[Callable[[], Decoder], bytes]] = {
    "gzip": (lambda: ZlibDecoder(gzip=True), gzip.compress(TEXT)),
    "two gzip members": (lambda: ZlibDecoder(gzip=True), gzip.compress(TEXT[:7]) + gzip.compress(TEXT[7:])),
    "zlib": (lambda: ZlibDecoder(gzip=False), zlib.compress(TEXT)),
    "raw deflate": (lambda: ZlibDecoder(gzip=False), raw_deflate(TEXT)),
    "zstd": (lambda: ZstdDecoder(8 << 20), zstandard.compress(TEXT)),
    "two zstd frames": (
        lambda: ZstdDecoder(8 << 20),
        zstandard.compress(TEXT[:7]) + zstandard.compress(TEXT[7:]),
    ),
}


def decoded(decoder: Decoder, data: bytes, step: int) -> bytes:
    """Return the decoded data, fed in chunks of `step` bytes; check that each piece is bounded."""
    pieces = [piece for at in range(0, len(data), step) for piece in decoder.feed(data[at : at + step])]
    assert all(0 < len(piece) <= max(PIECE_BYTES, 8 << 20) for piece in pieces)
    return b"".join(pieces)


@pytest.mark.parametrize("step", [1, 2, 3, 100, 10**6])
@pytest.mark.parametrize("name", FORMATS)
def test_chunks_of_any_size_give_the_same_output(name: str, step: int) -> None:
    """A chunk may even end inside the magic number of the next gzip member."""
    new, data = FORMATS[name]
    decoder = new()
    assert decoded(decoder, data, step) == TEXT
    assert decoder.is_complete


@pytest.mark.parametrize("name", FORMATS)
def test_a_truncated_stream_is_incomplete(name: str) -> None:
    """The decoder does not raise an error; the caller reads `is_complete`."""
    new, data = FORMATS[name]
    decoder = new()
    decoded(decoder, data[:-3], 100)
    assert not decoder.is_complete


@pytest.mark.parametrize("step", [1, 10**6])
def test_padding_after_the_last_gzip_member_is_ignored(step: int) -> None:
    """A gzip member after the padding is ignored, too."""
    decoder = ZlibDecoder(gzip=True)
    assert decoded(decoder, gzip.compress(b"a") + b"\0\0" + gzip.compress(b"b"), step) == b"a"
    assert decoder.is_complete


@pytest.mark.parametrize("name", FORMATS)
def test_other_data_raises_the_error_of_the_library(name: str) -> None:
    """Text is not any of the formats."""
    with pytest.raises((zlib.error, zstandard.ZstdError)):
        decoded(FORMATS[name][0](), b"<html>" * 10, 100)


def test_a_zstd_window_above_the_limit_is_refused() -> None:
    """Decoding it would take as much memory as the window."""
    parameters = zstandard.ZstdCompressionParameters(window_log=24)
    frame = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    data = frame.compress(TEXT) + frame.flush()
    with pytest.raises(zstandard.ZstdError):
        decoded(ZstdDecoder(8 << 20), data, 100)
