"""Decompresses files that are compressed themselves (not by HTTP), under a size limit against decompression bombs."""

from __future__ import annotations

import importlib
import io
import zlib
from collections.abc import Callable, Iterator
from fnmatch import fnmatchcase
from typing import IO, TYPE_CHECKING

from scrapeq.decompression import Decoder, ZlibDecoder, ZstdDecoder
from scrapeq.errors import BrokenBody, ExtractError

if TYPE_CHECKING:
    from zipfile import ZipFile, ZipInfo

_SLICE_BYTES = 16 << 10  # fed at once: zlib copies what follows the end of each gzip member
_PIECE_BYTES = 1 << 20
_ZSTD_WINDOW_BYTES = 128 << 20  # the largest that `zstd --long` uses by default
_GZIP_MAGIC, _ZIP_MAGIC = b"\x1f\x8b\x08", b"PK\x03\x04"
_ZIP_ENCRYPTED = 0x1
_NAMES_MAX = 5  # of the files of an archive, in a message


def decompress(body: bytes, compression: str, max_bytes: int) -> tuple[bytes, str]:
    """
    Decompress a file; return its content and, for zip, the name of the file inside (else empty).

    Args:
        body: The file.
        compression: gzip, zip, bz2, xz or zstd; empty = gzip or zip if the first bytes say so.
        max_bytes: The most bytes that it may decompress to.

    Raises:
        BrokenBody: it is cut off or damaged.
        ExtractError: it is too large, or a zip of several files (`members` reads these).
    """
    kind = compression or _kind(body)
    if not kind:
        return body, ""
    try:
        if kind == "zip":
            return _only_member(body, max_bytes)
        return _READERS[kind](body, max_bytes), ""
    except (ExtractError, MemoryError):
        raise
    except Exception as error:  # the libraries raise many types of errors on unexpected bytes
        raise BrokenBody(
            f"the response is not a complete {kind} file: {error or type(error).__name__}"
        ) from None


def is_compressed(body: bytes, compression: str) -> bool:
    """Return whether `decompress` would decompress this file."""
    return bool(compression or _kind(body))


def _kind(body: bytes) -> str:
    if body.startswith(_GZIP_MAGIC):
        return "gzip"
    return "zip" if body.startswith(_ZIP_MAGIC) else ""


def _decoded(decoder: Decoder, body: bytes, max_bytes: int) -> bytes:
    whole = bytearray()
    for start in range(0, len(body), _SLICE_BYTES):
        for piece in decoder.feed(body[start : start + _SLICE_BYTES]):
            whole += piece
            _check_size(len(whole), max_bytes, max_bytes)
    if not decoder.is_complete:
        raise EOFError("the file ends early")
    return bytes(whole)


def _streamed(module: str, name: str) -> Callable[[bytes, int], bytes]:
    def read(body: bytes, max_bytes: int) -> bytes:
        # imported late: few plans need them
        stream: IO[bytes] = getattr(importlib.import_module(module), name)(io.BytesIO(body))
        with stream:
            return _all_of(stream, max_bytes, max_bytes)

    return read


_READERS: dict[str, Callable[[bytes, int], bytes]] = {
    "gzip": lambda body, max_bytes: _decoded(ZlibDecoder(gzip=True), body, max_bytes),
    "bz2": _streamed("bz2", "BZ2File"),
    "xz": _streamed("lzma", "LZMAFile"),
    "zstd": lambda body, max_bytes: _decoded(ZstdDecoder(_ZSTD_WINDOW_BYTES), body, max_bytes),
}


def members(body: bytes, pattern: str, max_bytes: int) -> Iterator[tuple[bytes, str]]:
    """
    Yield the content and the name of each file in a zip file whose path matches, in the order of the archive.

    Args:
        body: The zip file.
        pattern: A glob, in which `*` also matches `/`; `data.csv` matches in every folder.
        max_bytes: The most bytes that these files may decompress to, together.

    Raises:
        BrokenBody: it is cut off or damaged.
        ExtractError: it is too large, or no file matches.
    """
    import zipfile

    left = max_bytes
    try:
        with zipfile.ZipFile(io.BytesIO(body)) as archive:
            files = _files_in(archive)
            chosen = [one for one in files if _matches(one.filename, pattern)]
            if not chosen:
                raise ExtractError(f"the zip file contains {_named(files)}; none matches `files: {pattern}`")
            for one in chosen:
                content = _content(archive, one, left, max_bytes)
                left -= len(content)
                yield content, one.filename
    except (zipfile.BadZipFile, OSError, EOFError, ValueError, NotImplementedError, zlib.error) as error:
        raise BrokenBody(
            f"the response is not a complete zip file: {error or type(error).__name__}"
        ) from None


def _only_member(body: bytes, max_bytes: int) -> tuple[bytes, str]:
    import zipfile

    with zipfile.ZipFile(io.BytesIO(body)) as archive:
        files = _files_in(archive)
        if len(files) != 1:
            raise ExtractError(
                f'the zip file contains {_named(files)}; choose with `decoder: {{files: "*.csv"}}`'
            )
        return _content(archive, files[0], max_bytes, max_bytes), files[0].filename


def _files_in(archive: ZipFile) -> list[ZipInfo]:
    return [
        one for one in archive.infolist() if not one.is_dir() and not one.filename.startswith("__MACOSX/")
    ]


def _matches(name: str, pattern: str) -> bool:
    return fnmatchcase(name, pattern) or fnmatchcase(name, f"*/{pattern}")


def _named(files: list[ZipInfo]) -> str:
    names = ", ".join(one.filename for one in files[:_NAMES_MAX])
    rest = f" and {len(files) - _NAMES_MAX} more" if len(files) > _NAMES_MAX else ""
    return f"{len(files)} files ({names}{rest})" if files else "0 files"


def _content(archive: ZipFile, file: ZipInfo, left: int, max_bytes: int) -> bytes:
    if file.flag_bits & _ZIP_ENCRYPTED:
        raise ExtractError("the zip file is encrypted; scrapeq reads unencrypted zip files only")
    with archive.open(file) as stream:
        return _all_of(stream, left, max_bytes)


def _all_of(stream: IO[bytes], left: int, max_bytes: int) -> bytes:
    whole = bytearray()
    while piece := stream.read(_PIECE_BYTES):
        whole += piece
        _check_size(len(whole), left, max_bytes)
    return bytes(whole)


def _check_size(size: int, left: int, max_bytes: int) -> None:
    if size > left:
        raise ExtractError(
            f"the decompressed file is larger than {max_bytes} bytes; raise client.max_body_size to read it"
        )
