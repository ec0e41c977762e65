"""A proxy in front of a store that replies with errors to script calls, which then never reach the store."""

from __future__ import annotations

import asyncio
from pathlib import Path


class ErrorProxy:
    """
    Forwards requests to a store; replies with an error to the next script calls when a test says so.

    Args:
        socket: The socket of the store.
        path: The socket to listen on.
    """

    def __init__(self, socket: str, path: Path) -> None:
        self._socket = socket
        self.path = path
        self.error = b""
        self.errors_left = 0  # script calls that still get the error
        self.errors_sent = 0
        self._server: asyncio.Server | None = None
        self._serving: set[asyncio.Task[None]] = set()

    @property
    def url(self) -> str:
        """The URL for clients."""
        return f"unix://{self.path}"

    async def __aenter__(self) -> ErrorProxy:
        self._server = await asyncio.start_unix_server(self._serve, self.path)
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        for serving in self._serving:
            serving.cancel()

    def fail(self, error: str, times: int) -> None:
        """Reply to the next script calls with this error."""
        self.error, self.errors_left, self.errors_sent = error.encode(), times, 0

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        serving = asyncio.current_task()
        assert serving is not None
        self._serving.add(serving)
        store_reader, store_writer = await asyncio.open_unix_connection(self._socket)
        try:
            while True:
                request, words = await _read_request(reader)
                if self.errors_left > 0 and words[0].upper() in (b"FCALL", b"EVALSHA", b"EVAL"):
                    self.errors_left -= 1
                    self.errors_sent += 1
                    writer.write(b"-" + self.error + b"\r\n")
                else:
                    store_writer.write(request)
                    await store_writer.drain()
                    writer.write(await _read_reply(store_reader))
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            self._serving.discard(serving)
            store_writer.close()
            writer.close()


async def _read_request(reader: asyncio.StreamReader) -> tuple[bytes, list[bytes]]:
    """Read one request, an array of bulk strings; return its bytes and its words."""
    head = await reader.readuntil(b"\r\n")
    raw, words = [head], []
    for _ in range(int(head[1:])):
        size = await reader.readuntil(b"\r\n")
        body = await reader.readexactly(int(size[1:]) + 2)
        raw += [size, body]
        words.append(body[:-2])
    return b"".join(raw), words


async def _read_reply(reader: asyncio.StreamReader) -> bytes:
    """Read one reply of any type (RESP2); return its bytes."""
    head = await reader.readuntil(b"\r\n")
    if head[:1] == b"$" and int(head[1:]) >= 0:
        return head + await reader.readexactly(int(head[1:]) + 2)
    if head[:1] == b"*" and int(head[1:]) > 0:
        return head + b"".join([await _read_reply(reader) for _ in range(int(head[1:]))])
    return head
