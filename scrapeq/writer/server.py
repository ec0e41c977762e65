"""
The writer: the one process of a machine that owns the output files.

Run as `python -m scrapeq.writer.server` by `WriterProcess`, which says its settings. It listens on a Unix socket
for fetchers; whatever arrives while one commit runs forms the next. An answer means committed. SIGTERM: what has
arrived is committed and answered, then it ends with 0. It says one line on standard output: `{"ready": true}`, or
`{"error": "..."}` before it ends with 7.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, cast

import orjson

from scrapeq import plan
from scrapeq.errors import LeaseLost, OutputError, ScrapeqError, UsageError
from scrapeq.exit_codes import Exit
from scrapeq.expression import Template, compile_template
from scrapeq.processes.child import enter_child
from scrapeq.protocols import Item
from scrapeq.sink import CommitRequest, OutputSet, SinkContext
from scrapeq.sink.commit_log import parse_token
from scrapeq.writer.frames import FrameReader, pack, read_page

QUEUE_MAX_BYTES = 64 * 1024 * 1024  # above it clients are not read from
QUEUE_MAX_REQUESTS = 10_000
BATCH_MAX_BYTES = 16 * 1024 * 1024  # of one commit
BATCH_MAX_REQUESTS = 500
TEMPLATES = ("path", "table")
TEMPLATE = "$"  # the key of a template's text
REST_EVERY_S = 1.0
DRAIN_FLUSH_S = 2.0  # for the last answers to leave

BODY_PART = 2  # parts of a message that is one of an answer's body

_Queued = tuple["_Connection", int, CommitRequest, int]


class Writer:
    """Serves `sink` on the socket at `path` until `drain`."""

    def __init__(self, sink: OutputSet, path: Path) -> None:
        self._sink = sink
        self._path = path
        self._queue: list[_Queued] = []
        self._queued_bytes = 0
        self._arrived = asyncio.Event()
        self._gone = asyncio.Event()  # no client is left
        self._draining = False
        self._paused = False
        self._connections: set[_Connection] = set()

    async def run(self) -> None:
        """Listen and commit until drained."""
        loop = asyncio.get_running_loop()
        with suppress(FileNotFoundError):
            os.unlink(self._path)
        server = await loop.create_unix_server(lambda: _Connection(self), self._path)
        os.chmod(self._path, 0o600)
        _report({"ready": True})
        try:
            while await self._commit_next():
                pass
            server.close()
            await self._flush()
        finally:
            server.close()
            with suppress(FileNotFoundError):
                os.unlink(self._path)

    def drain(self) -> None:
        """Take nothing more; commit and answer what has arrived; then `run` returns."""
        self._draining = True
        self._arrived.set()
        self._read_or_wait()

    def take(self, connection: _Connection, message: Any, size: int) -> None:
        """Queue one request. Raises ValueError or TypeError when it is none."""
        id_, task, token, raw, *said = message
        items = [Item(*entry) for entry in raw]
        texts = [task, token, *(item.resource for item in items), *(item.key for item in items)]
        if not isinstance(id_, int) or not all(isinstance(text, str) for text in texts):
            raise ValueError("no request")
        page, resource, seed = read_page(said[0], connection.body(id_)) if said else (None, "", {})
        try:
            parse_token(token)
        except UsageError as error:
            connection.answer([[id_, "usage", str(error)]])
            return
        size += len(page.body) if page is not None else 0
        self._queue.append((connection, id_, CommitRequest(task, token, items, page, resource, seed), size))
        self._queued_bytes += size
        self._arrived.set()
        self._read_or_wait()

    def joined(self, connection: _Connection) -> None:
        """A client has come."""
        self._connections.add(connection)
        if self._paused:
            connection.pause()

    def left(self, connection: _Connection) -> None:
        """A client has gone; what it sent is committed all the same."""
        self._connections.discard(connection)
        if not self._connections:
            self._gone.set()

    async def _commit_next(self) -> bool:
        """One group commit in a thread, while this loop goes on reading. False when there is nothing left to do."""
        while not self._queue:
            if self._draining:
                return False
            self._arrived.clear()
            await self._arrive_or_rest()
        batch: list[_Queued] = []
        size = 0
        for queued in self._queue[:BATCH_MAX_REQUESTS]:
            size += queued[-1]
            if batch and size > BATCH_MAX_BYTES:
                break
            batch.append(queued)
        del self._queue[: len(batch)]
        self._queued_bytes -= sum(queued[-1] for queued in batch)
        self._read_or_wait()
        answers = await asyncio.to_thread(self._commit, batch)
        by_client: dict[_Connection, list[Any]] = {}
        for queued, answer in zip(batch, answers, strict=True):
            by_client.setdefault(queued[0], []).append([queued[1], *answer])
        for connection, its in by_client.items():
            connection.answer(its)
        return True

    async def _arrive_or_rest(self) -> None:
        """Until something arrives; meanwhile the outputs do what is due by time."""
        if not self._sink.needs_idle_calls:
            await self._arrived.wait()
            return
        try:
            await asyncio.wait_for(self._arrived.wait(), REST_EVERY_S)
        except TimeoutError:
            with suppress(OutputError):  # the next commit meets the same, and tells it
                await asyncio.to_thread(self._sink.on_idle)

    def _commit(self, batch: list[_Queued]) -> list[tuple[str, int | str]]:
        """In the thread: the whole batch, or the one error for all of it."""
        try:
            results = self._sink.commit_many([request for _, _, request, _ in batch])
        except OutputError as error:
            return [("output", str(error))] * len(batch)
        except ScrapeqError as error:
            return [("usage", str(error))] * len(batch)
        return [("lost", str(r)) if isinstance(r, LeaseLost) else ("ok", r) for r in results]

    def _read_or_wait(self) -> None:
        """Read from clients only while there is room, and never while draining."""
        full = self._queued_bytes > QUEUE_MAX_BYTES or len(self._queue) > QUEUE_MAX_REQUESTS
        if (full or self._draining) != self._paused:
            self._paused = not self._paused
            for connection in self._connections:
                connection.pause() if self._paused else connection.resume()

    async def _flush(self) -> None:
        """Hang up, once the last answers have left."""
        self._gone.clear()
        for connection in list(self._connections):
            connection.close()
        if self._connections:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._gone.wait(), DRAIN_FLUSH_S)


class _Connection(asyncio.Protocol):
    """One fetcher. A client that breaks the protocol is cut off; nobody else notices."""

    _transport: asyncio.Transport

    def __init__(self, writer: Writer) -> None:
        self._writer = writer
        self._reader = FrameReader()
        self._bodies: dict[int, list[str]] = {}

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is no subclass
        self._writer.joined(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._writer.left(self)

    def data_received(self, data: bytes) -> None:
        try:
            for message, size in self._reader.feed(data):
                if len(message) == BODY_PART:
                    self._bodies.setdefault(message[0], []).append(message[1])
                else:
                    self._writer.take(self, message, size)
        except (ValueError, TypeError, KeyError):
            self._transport.abort()

    def body(self, id_: int) -> str:
        """The body of a request's answer, in Base64; its parts have come before the request."""
        return "".join(self._bodies.pop(id_, ()))

    def answer(self, answers: list[Any]) -> None:
        """Send answers, unless the client has gone."""
        if not self._transport.is_closing():
            self._transport.write(pack(answers))

    def pause(self) -> None:
        """Read no more from it for now."""
        self._transport.pause_reading()

    def resume(self) -> None:
        """Read again."""
        self._transport.resume_reading()

    def close(self) -> None:
        """Hang up after what is still to be sent."""
        self._transport.close()


def settings_of(outputs: tuple[plan.Output, ...], base: Path, path: Path) -> dict[str, Any]:
    """The writer's settings as JSON. Templates go as text in which all but their placeholders is filled in."""
    said = []
    for output in outputs:
        values = {name: getattr(output, name) for name in plan.Output.__slots__}
        for name in (*TEMPLATES, "options"):
            values[name] = _said(values[name])
        said.append(values)
    return {"outputs": said, "base": str(base.absolute()), "socket": str(path)}


def outputs_of(settings: dict[str, Any]) -> list[plan.Output]:
    """The outputs that `settings_of` has put into settings."""
    found = []
    for values in settings["outputs"]:
        read = {name: _read(values[name]) for name in (*TEMPLATES, "options")}
        found.append(plan.Output(**{**values, **read, "resources": tuple(values["resources"])}))
    return found


def _said(value: Any) -> Any:
    """A value as JSON, templates in it as `{"$": text}`."""
    if isinstance(value, Template):
        return {TEMPLATE: value.text}
    if isinstance(value, Mapping):
        return {key: _said(inner) for key, inner in value.items()}
    return [_said(inner) for inner in value] if isinstance(value, list | tuple) else value


def _read(value: Any) -> Any:
    """What `_said` said."""
    if isinstance(value, dict):
        if value.keys() == {TEMPLATE}:
            return compile_template(value[TEMPLATE])
        return {key: _read(inner) for key, inner in value.items()}
    return [_read(inner) for inner in value] if isinstance(value, list) else value


def _sink_of(settings: dict[str, Any]) -> OutputSet:
    base = Path(settings["base"])
    data = settings.get("data")
    context = SinkContext(
        base,
        data=Path(data) if data else None,
        name=settings.get("name", ""),
        run=settings.get("run", ""),
        stdout=settings.get("stdout"),
        restarted=settings.get("restarted", False),
    )
    return OutputSet(outputs_of(settings), base=base, context=context)


def _report(said: dict[str, Any]) -> None:
    sys.stdout.buffer.write(orjson.dumps(said) + b"\n")
    sys.stdout.buffer.flush()


async def _serve(sink: OutputSet, path: Path) -> None:
    writer = Writer(sink, path)
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, writer.drain)
    await writer.run()


def main() -> int:
    """The process. Its exit code: 0 drained, 7 an output that cannot be written."""
    settings = enter_child()
    try:
        sink = _sink_of(settings)
        sink.check()
    except ScrapeqError as error:
        _report({"error": str(error)})
        return Exit.OUTPUT
    try:
        asyncio.run(_serve(sink, Path(settings["socket"])))
        sink.finish()
    except OSError as error:
        _report({"error": f"{settings['socket']}: the writer cannot listen: {error.strerror}"})
        return Exit.OUTPUT
    except ScrapeqError as error:
        _report({"error": str(error)})
        return Exit.OUTPUT
    finally:
        sink.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
