"""
The writer process: it alone writes the output files of a machine.

`WriterProcess` runs it as `python -m scrapeq.writer.server` and sends it its settings. It listens on a Unix socket for
fetchers. Commits that arrive while one group commit runs form the next group. A reply means that the items are on the
disk. On SIGTERM it commits and acknowledges everything received, then ends with 0. It prints one JSON line:
`{"ready": true}`, or `{"error": "..."}` before it ends with 7.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple, cast

import orjson

from scrapeq import plan
from scrapeq.errors import LeaseLost, OutputError, RecordRejected, ScrapeqError, UsageError
from scrapeq.exit_codes import Exit
from scrapeq.expression import Template, compile_template
from scrapeq.processes.child import enter_child
from scrapeq.protocols import Item
from scrapeq.sink import CommitRequest, OutputSet, SinkContext
from scrapeq.sink.commit_log import parse_token
from scrapeq.writer.frames import BODY_PART_ELEMENTS, FrameReader, pack, unpack_page

QUEUE_MAX_BYTES = 64 * 1024 * 1024  # above this the writer stops reading from its clients
QUEUE_MAX_COMMITS = 10_000
GROUP_MAX_BYTES = 16 * 1024 * 1024  # of one group commit
GROUP_MAX_COMMITS = 500
IDLE_EVERY_S = 1.0  # how often outputs may do what is due while nothing arrives
DRAIN_FLUSH_S = 2.0  # for the last replies to be sent
SOCKET_MODE = 0o600
TEMPLATE_FIELDS = ("path", "table")
TEMPLATE_KEY = "$"  # marks the text of a template in the settings


class _Queued(NamedTuple):
    """A commit that waits for the next group."""

    connection: _Connection
    id: int
    request: CommitRequest
    size: int  # bytes


class Writer:
    """
    Commits what fetchers send.

    Args:
        sink: The outputs.
        path: The socket to listen on.
    """

    def __init__(self, sink: OutputSet, path: Path) -> None:
        self._sink = sink
        self._path = path
        self._queue: list[_Queued] = []
        self._queued_bytes = 0
        self._wake = asyncio.Event()  # a commit has arrived, or the drain has started
        self._no_clients = asyncio.Event()
        self._draining = False
        self._reading_paused = False
        self._connections: set[_Connection] = set()

    async def run(self) -> None:
        """Listen and commit until drained."""
        loop = asyncio.get_running_loop()
        with suppress(FileNotFoundError):
            os.unlink(self._path)
        server = await loop.create_unix_server(lambda: _Connection(self), self._path)
        os.chmod(self._path, SOCKET_MODE)
        _report({"ready": True})
        try:
            while await self._commit_group():
                pass
            server.close()
            await self._close_connections()
        finally:
            server.close()
            with suppress(FileNotFoundError):
                os.unlink(self._path)

    def drain(self) -> None:
        """Accept nothing more, commit and acknowledge everything received; then `run` returns."""
        self._draining = True
        self._wake.set()
        self._pause_or_resume_reading()

    def receive(self, connection: _Connection, message: Any, size: int) -> None:
        """Queue a commit. Raises ValueError or TypeError when the message is not a commit."""
        id_, task, token, raw, *response = message
        items = [Item(*entry) for entry in raw]
        texts = [task, token, *(item.resource for item in items), *(item.key for item in items)]
        if not isinstance(id_, int) or not all(isinstance(text, str) for text in texts):
            raise ValueError("not a commit")
        page, resource, seed = (
            unpack_page(response[0], connection.take_body(id_)) if response else (None, "", {})
        )
        try:
            parse_token(token)
        except UsageError as error:
            connection.reply([[id_, "usage", str(error)]])
            return
        size += len(page.body) if page is not None else 0
        self._queue.append(
            _Queued(connection, id_, CommitRequest(task, token, items, page, resource, seed), size)
        )
        self._queued_bytes += size
        self._wake.set()
        self._pause_or_resume_reading()

    def on_connect(self, connection: _Connection) -> None:
        """Serve a new client."""
        self._connections.add(connection)
        if self._reading_paused:
            connection.pause()

    def on_disconnect(self, connection: _Connection) -> None:
        """Forget a client; the commits that it has sent still run."""
        self._connections.discard(connection)
        if not self._connections:
            self._no_clients.set()

    async def _commit_group(self) -> bool:
        """Run one group commit in a thread, while this loop keeps reading. Return False once drained."""
        while not self._queue:
            if self._draining:
                return False
            self._wake.clear()
            await self._wait_for_commit()
        group = self._take_group()
        outcomes = await asyncio.to_thread(self._commit, [queued.request for queued in group])
        replies: dict[_Connection, list[Any]] = {}
        for queued, outcome in zip(group, outcomes, strict=True):
            replies.setdefault(queued.connection, []).append([queued.id, *outcome])
        if notes := self._sink.take_notes():
            replies[group[0].connection] += [[group[0].id, "note", note] for note in notes]
        for connection, own_replies in replies.items():
            connection.reply(own_replies)
        return True

    def _take_group(self) -> list[_Queued]:
        """Remove the next group from the queue: at least one commit, within the bounds of a group."""
        group: list[_Queued] = []
        size = 0
        for queued in self._queue[:GROUP_MAX_COMMITS]:
            size += queued.size
            if group and size > GROUP_MAX_BYTES:
                break
            group.append(queued)
        del self._queue[: len(group)]
        self._queued_bytes -= sum(queued.size for queued in group)
        self._pause_or_resume_reading()
        return group

    async def _wait_for_commit(self) -> None:
        """Wait until a commit arrives or the drain starts; while idle, let outputs do what is due by time."""
        if not self._sink.needs_idle_calls:
            await self._wake.wait()
            return
        try:
            await asyncio.wait_for(self._wake.wait(), IDLE_EVERY_S)
        except TimeoutError:
            with suppress(OutputError):  # the next commit meets the same error and reports it
                await asyncio.to_thread(self._sink.on_idle)

    def _commit(self, requests: list[CommitRequest]) -> list[tuple[str, int | str]]:
        """Commit a group; called in a thread. Return one outcome each, or one error for all of them."""
        try:
            results = self._sink.commit_many(requests)
        except OutputError as error:
            return [("output", str(error))] * len(requests)
        except ScrapeqError as error:
            return [("usage", str(error))] * len(requests)
        return [_outcome(result) for result in results]

    def _pause_or_resume_reading(self) -> None:
        """Read from clients only while the queue has room, and never while draining."""
        is_full = self._queued_bytes > QUEUE_MAX_BYTES or len(self._queue) > QUEUE_MAX_COMMITS
        if (is_full or self._draining) != self._reading_paused:
            self._reading_paused = not self._reading_paused
            for connection in self._connections:
                connection.pause() if self._reading_paused else connection.resume()

    async def _close_connections(self) -> None:
        """Close the connections once the last replies are sent."""
        self._no_clients.clear()
        for connection in list(self._connections):
            connection.close()
        if self._connections:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._no_clients.wait(), DRAIN_FLUSH_S)


def _outcome(result: int | LeaseLost | RecordRejected) -> tuple[str, int | str]:
    if isinstance(result, int):
        return "ok", result
    return "lost" if isinstance(result, LeaseLost) else "record", str(result)


class _Connection(asyncio.Protocol):
    """One fetcher. A client that breaks the protocol is disconnected; the others are not affected."""

    _transport: asyncio.Transport

    def __init__(self, writer: Writer) -> None:
        self._writer = writer
        self._reader = FrameReader()
        self._body_parts: dict[int, list[str]] = {}

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's transports are not subclasses of it
        self._writer.on_connect(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._writer.on_disconnect(self)

    def data_received(self, data: bytes) -> None:
        try:
            for message, size in self._reader.feed(data):
                if len(message) == BODY_PART_ELEMENTS:
                    self._body_parts.setdefault(message[0], []).append(message[1])
                else:
                    self._writer.receive(self, message, size)
        except (ValueError, TypeError, KeyError):
            self._transport.abort()

    def take_body(self, id_: int) -> str:
        """Return the Base64 body of a commit's response; its parts arrive before the commit."""
        return "".join(self._body_parts.pop(id_, ()))

    def reply(self, replies: list[Any]) -> None:
        """Send replies, unless the client has disconnected."""
        if not self._transport.is_closing():
            self._transport.write(pack(replies))

    def pause(self) -> None:
        """Stop reading from the client for now."""
        self._transport.pause_reading()

    def resume(self) -> None:
        """Read from the client again."""
        self._transport.resume_reading()

    def close(self) -> None:
        """Close the connection after sending what is buffered."""
        self._transport.close()


def settings_of(outputs: tuple[plan.Output, ...], base: Path, path: Path) -> dict[str, Any]:
    """
    Return the writer's settings as JSON.

    Args:
        outputs: The plan's outputs. Templates become texts in which only placeholders are left to fill in.
        base: The folder to which relative output paths are relative.
        path: The socket to listen on.
    """
    packed = []
    for output in outputs:
        values = {name: getattr(output, name) for name in plan.Output.__slots__}
        for name in (*TEMPLATE_FIELDS, "options"):
            values[name] = _to_json(values[name])
        packed.append(values)
    return {"outputs": packed, "base": str(base.absolute()), "socket": str(path)}


def outputs_of(settings: dict[str, Any]) -> list[plan.Output]:
    """Return the outputs that `settings_of` has put into the settings."""
    outputs = []
    for values in settings["outputs"]:
        decoded = {name: _from_json(values[name]) for name in (*TEMPLATE_FIELDS, "options")}
        outputs.append(plan.Output(**{**values, **decoded, "resources": tuple(values["resources"])}))
    return outputs


def _to_json(value: Any) -> Any:
    """Return a value as JSON, with templates as `{"$": text}`."""
    if isinstance(value, Template):
        return {TEMPLATE_KEY: value.text}
    if isinstance(value, Mapping):
        return {key: _to_json(inner) for key, inner in value.items()}
    return [_to_json(inner) for inner in value] if isinstance(value, list | tuple) else value


def _from_json(value: Any) -> Any:
    """Return the value that `_to_json` has encoded."""
    if isinstance(value, dict):
        if value.keys() == {TEMPLATE_KEY}:
            return compile_template(value[TEMPLATE_KEY])
        return {key: _from_json(inner) for key, inner in value.items()}
    return [_from_json(inner) for inner in value] if isinstance(value, list) else value


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


def _report(message: dict[str, Any]) -> None:
    """Send one JSON line to the supervisor."""
    sys.stdout.buffer.write(orjson.dumps(message) + b"\n")
    sys.stdout.buffer.flush()


async def _serve(sink: OutputSet, path: Path) -> None:
    writer = Writer(sink, path)
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, writer.drain)
    await writer.run()


def main() -> int:
    """Run the process; return its exit code: 0 drained, 7 an output cannot be written."""
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
        _report({"error": f"{settings['socket']}: the writer cannot listen on this socket: {error.strerror}"})
        return Exit.OUTPUT
    except ScrapeqError as error:
        _report({"error": str(error)})
        return Exit.OUTPUT
    finally:
        sink.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
