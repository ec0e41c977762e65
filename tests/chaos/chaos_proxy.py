"""A proxy before a store that answers in its place when told to: errors at a chosen command, which it never saw."""

from __future__ import annotations

import asyncio
from pathlib import Path


class ErrorProxy:
    """
    Args:
        socket: The real store.
        path: Where it listens.
    """

    def __init__(self, socket: str, path: Path) -> None:
        self._socket = socket
        self.path = path
        self.error = b""
        self.left = 0  # how many script calls are still answered with the error
        self.answered = 0
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
        """The next script calls get this error."""
        self.error, self.left, self.answered = error.encode(), times, 0

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        serving = asyncio.current_task()
        assert serving is not None
        self._serving.add(serving)
        to_reader, to_writer = await asyncio.open_unix_connection(self._socket)
        try:
            while True:
                request, words = await _read_request(reader)
                if self.left > 0 and words[0].upper() in (b"EVALSHA", b"EVAL"):
                    self.left -= 1
                    self.answered += 1
                    writer.write(b"-" + self.error + b"\r\n")
                else:
                    to_writer.write(request)
                    await to_writer.drain()
                    writer.write(await _read_reply(to_reader))
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            self._serving.discard(serving)
            to_writer.close()
            writer.close()


async def _read_request(reader: asyncio.StreamReader) -> tuple[bytes, list[bytes]]:
    """A whole request: an array of bulk strings."""
    head = await reader.readuntil(b"\r\n")
    raw, words = [head], []
    for _ in range(int(head[1:])):
        size = await reader.readuntil(b"\r\n")
        body = await reader.readexactly(int(size[1:]) + 2)
        raw += [size, body]
        words.append(body[:-2])
    return b"".join(raw), words


async def _read_reply(reader: asyncio.StreamReader) -> bytes:
    """A whole reply of any kind (RESP2)."""
    head = await reader.readuntil(b"\r\n")
    if head[:1] == b"$" and int(head[1:]) >= 0:
        return head + await reader.readexactly(int(head[1:]) + 2)
    if head[:1] == b"*" and int(head[1:]) > 0:
        return head + b"".join([await _read_reply(reader) for _ in range(int(head[1:]))])
    return head
