"""Any response ends in a complete page or a specific error, within the deadline and bounded memory."""

from __future__ import annotations

import asyncio
import gzip
import time
import tracemalloc
import zlib
from functools import cache
from typing import Any

import brotli
import pytest
import zstandard
from fetch_server import RawResponse, Received, response, serving

from scrapeq import errors
from scrapeq.fetch import Egress
from scrapeq.page import Page
from scrapeq.plan import Client

CAP = 1 << 20
BOMB_BYTES = 64 << 20
DEADLINE_S = 0.5


def client(**settings: Any) -> Client:
    return Client(base_url="http://127.0.0.1", max_body_size=CAP, timeout_s=DEADLINE_S, **settings)


async def fetch(raw: bytes, *, close: bool = False, method: str = "GET") -> Page:
    """Fetch the page of a server that sends these bytes."""

    async def handle(request: Received, writer: asyncio.StreamWriter) -> None:
        writer.write(raw)
        if close:
            await writer.drain()
            writer.close()

    async with serving(handle) as server, Egress(client()) as egress:
        return await egress.send(method, server.url)


def compressed(coding: str, data: bytes) -> bytes:
    if coding == "gzip":
        return gzip.compress(data, mtime=0)
    if coding == "deflate":
        return zlib.compress(data)
    if coding == "raw deflate":
        compressor = zlib.compressobj(wbits=-15)
        return compressor.compress(data) + compressor.flush()
    if coding == "br":
        return bytes(brotli.compress(data))
    return zstandard.ZstdCompressor().compress(data)


@cache
def bomb(coding: str) -> bytes:
    """Return 64 MiB of zeros, compressed in pieces so that the test itself needs little memory."""
    zeros = bytes(1 << 20)
    if coding == "br":
        maker = brotli.Compressor(quality=1)
        parts = [maker.process(zeros) for _ in range(BOMB_BYTES >> 20)]
        return b"".join([*parts, maker.finish()])
    if coding == "zstd":
        zstd = zstandard.ZstdCompressor(level=3).compressobj()
        return b"".join(zstd.compress(zeros) for _ in range(BOMB_BYTES >> 20)) + zstd.flush()
    deflate = zlib.compressobj(wbits=31 if coding == "gzip" else 15)
    return b"".join(deflate.compress(zeros) for _ in range(BOMB_BYTES >> 20)) + deflate.flush()


CODINGS = ["gzip", "deflate", "br", "zstd"]


@pytest.mark.parametrize("coding", [*CODINGS, "raw deflate"])
async def test_content_codings_are_decoded(coding: str) -> None:
    """The body of the page is what was compressed."""
    data = b"".join(b"%d," % n for n in range(50_000))
    body = compressed(coding, data)
    page = await fetch(response(200, body, ("Content-Encoding", coding.split()[-1])))
    assert page.body == data


async def test_stacked_codings_and_members_are_decoded() -> None:
    """Three codings are removed in reverse order; gzip members and zstd frames may follow each other."""
    stacked = compressed("gzip", compressed("br", compressed("zstd", b"deep")))
    assert (await fetch(response(200, stacked, ("Content-Encoding", "zstd, br, gzip")))).body == b"deep"
    members = gzip.compress(b"one ") + gzip.compress(b"two")
    assert (await fetch(response(200, members, ("Content-Encoding", "gzip")))).body == b"one two"
    frames = compressed("zstd", b"one ") + compressed("zstd", b"two")
    assert (await fetch(response(200, frames, ("Content-Encoding", "zstd")))).body == b"one two"


@pytest.mark.parametrize("coding", CODINGS)
@pytest.mark.parametrize("status", [200, 302])
async def test_compression_bombs_end_at_the_size_limit(coding: str, status: int) -> None:
    """64 MiB of zeros end at the cap; on a redirect they are not even decoded."""
    raw = response(
        status, bomb(coding), ("Content-Encoding", coding), ("Location", "ftp://elsewhere.example/")
    )
    tracemalloc.start()
    try:
        with pytest.raises(errors.BodyTooLarge if status == 200 else errors.Blocked):
            await fetch(raw)
        assert tracemalloc.get_traced_memory()[1] < 32 << 20
    finally:
        tracemalloc.stop()


async def test_the_number_of_stacked_codings_is_limited() -> None:
    """More than five are an error."""
    body = b"x"
    for _ in range(6):
        body = gzip.compress(body)
    with pytest.raises(errors.BadResponse, match="6 content codings"):
        await fetch(response(200, body, ("Content-Encoding", ", ".join(["gzip"] * 6))))


async def test_a_bomb_in_a_bomb_ends_at_its_first_layer() -> None:
    """The cap applies to every layer: members without content are 20 bytes each, and decode to nothing."""
    inner = gzip.compress(b"") * (CAP // 20 + 1)
    with pytest.raises(errors.BodyTooLarge):
        await fetch(response(200, gzip.compress(inner), ("Content-Encoding", "gzip, gzip")))


@pytest.mark.parametrize("coding", CODINGS)
async def test_an_incomplete_compressed_body_is_truncated(coding: str) -> None:
    """If the framing is correct but the coding does not end, the error is Truncated, never a partial page."""
    body = compressed(coding, bytes(range(256)) * 400)
    with pytest.raises(errors.Truncated):
        await fetch(response(200, body[:-9], ("Content-Encoding", coding)))


@pytest.mark.parametrize("coding", CODINGS)
async def test_a_body_with_the_wrong_coding_is_a_bad_response(coding: str) -> None:
    """The error for plain text under a content coding names the coding."""
    with pytest.raises(errors.BadResponse, match=coding):
        await fetch(response(200, b"<html>not compressed at all</html>", ("Content-Encoding", coding)))


async def test_an_empty_body_may_have_any_coding() -> None:
    """Servers send Content-Encoding in responses without a body."""
    assert (await fetch(response(200, b"", ("Content-Encoding", "gzip")))).body == b""


HEAD = b"HTTP/1.1 200 OK\r\n"
BROKEN: dict[str, tuple[bytes, type[errors.FetchError]]] = {
    "no HTTP": (b"SSH-2.0-OpenSSH_9.2\r\n\r\n", errors.BadResponse),
    "HTTP/0.9": (b"<html>hello</html>", errors.BadResponse),
    "a bad length": (HEAD + b"Content-Length: x\r\n\r\n", errors.BadResponse),
    "a negative length": (HEAD + b"Content-Length: -5\r\n\r\nhello", errors.BadResponse),
    "two lengths": (HEAD + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello!", errors.BadResponse),
    "a short body": (HEAD + b"Content-Length: 50\r\n\r\nhello", errors.Truncated),
    "a bad chunk": (HEAD + b"Transfer-Encoding: chunked\r\n\r\nzz\r\nhello\r\n0\r\n\r\n", errors.BadResponse),
    "a huge chunk": (
        HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + b"f" * 40 + b"\r\nhello",
        errors.BadResponse,
    ),
    "chunks without an end": (HEAD + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n", errors.Truncated),
    "NUL in a header": (HEAD + b"X-A: a\0b\r\nContent-Length: 0\r\n\r\n", errors.BadResponse),
    "too many headers": (HEAD + b"X-A: b\r\n" * 5_000 + b"Content-Length: 0\r\n\r\n", errors.BadResponse),
    "a huge header": (HEAD + b"X-A: " + b"b" * 1_000_000 + b"\r\n\r\n", errors.BadResponse),
    "a huge status line": (b"HTTP/1.1 200 " + b"O" * 1_000_000 + b"\r\n\r\n", errors.BadResponse),
    "a header cut off": (HEAD + b"Content-Le", errors.FetchError),
    "nothing": (b"", errors.ConnectionFailed),
    "status 99": (b"HTTP/1.1 099 X\r\nContent-Length: 0\r\n\r\n", errors.FetchError),
    "a protocol switch": (
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
        errors.BadResponse,
    ),
    "too long by its length": (HEAD + b"Content-Length: 99999999999\r\n\r\nhello", errors.BodyTooLarge),
    "too long without one": (HEAD + b"Connection: close\r\n\r\n" + bytes(CAP + 1), errors.BodyTooLarge),
    "an unknown coding": (
        HEAD + b"Content-Encoding: rot13\r\nContent-Length: 1\r\n\r\nx",
        errors.BadResponse,
    ),
}


@pytest.mark.parametrize("case", BROKEN)
async def test_broken_responses_are_named_errors(case: str) -> None:
    """Each kind has its own error, with one line that names the request."""
    raw, expected = BROKEN[case]
    with pytest.raises(expected) as caught:
        await fetch(raw, close=True)
    assert "\n" not in str(caught.value)
    assert "GET http://127.0.0.1:" in str(caught.value)


async def _header_drip(request: Received, writer: asyncio.StreamWriter) -> None:
    writer.write(HEAD)
    while True:
        writer.write(b"X")
        await writer.drain()
        await asyncio.sleep(0.1)


async def _body_drip(request: Received, writer: asyncio.StreamWriter) -> None:
    writer.write(HEAD + b"Content-Length: 100000\r\n\r\n")
    while True:
        writer.write(b"x")
        await writer.drain()
        await asyncio.sleep(0.1)


async def _silence(request: Received, writer: asyncio.StreamWriter) -> None:
    await asyncio.sleep(60)


async def _flood_of_1xx(request: Received, writer: asyncio.StreamWriter) -> None:
    while True:
        writer.write(b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" * 500)
        await writer.drain()


async def _slow_redirects(request: Received, writer: asyncio.StreamWriter) -> None:
    await asyncio.sleep(0.15)
    step = int(request.path[1:] or 0) + 1
    writer.write(response(302, b"", ("Location", f"/{step}")))


@pytest.mark.parametrize("behaviour", [_header_drip, _body_drip, _silence, _flood_of_1xx, _slow_redirects])
@pytest.mark.serial  # it measures how late a deadline is
async def test_the_deadline_holds_whatever_is_slow(behaviour: RawResponse) -> None:
    """Slow headers, bodies, hops and floods all end within half a second after the deadline."""
    async with serving(behaviour) as server, Egress(client()) as egress:
        started = time.monotonic()
        with pytest.raises(errors.DeadlineExceeded, match=r"0\.5 s"):
            await egress.send("GET", server.url)
        assert DEADLINE_S <= time.monotonic() - started < DEADLINE_S + 0.5


async def test_a_closed_port_is_a_failed_connection() -> None:
    """The message names the request."""
    async with serving(_silence) as server:
        url = server.url
    async with Egress(client()) as egress:
        with pytest.raises(errors.ConnectionFailed, match=url):
            await egress.send("GET", url)


async def test_a_name_that_does_not_resolve_is_a_failed_connection() -> None:
    """`.invalid` never resolves (RFC 6761)."""
    async with Egress(client()) as egress:
        with pytest.raises(errors.ConnectionFailed, match=r"nowhere\.invalid"):
            await egress.send("GET", "http://nowhere.invalid/")


async def test_errors_do_not_leave_asyncio_tasks() -> None:
    """After every kind of error, only the test's own task runs."""
    for raw, _ in BROKEN.values():
        with pytest.raises(errors.FetchError):
            await fetch(raw, close=True)
    await asyncio.sleep(0)
    assert len(asyncio.all_tasks()) == 1
