"""The users of the writer: the sink through which a fetcher commits items, and the process that a run starts."""

from __future__ import annotations

import asyncio
import itertools
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Any, cast

from scrapeq import plan
from scrapeq.backoff import pauses_s
from scrapeq.errors import LeaseLost, OutputError, RecordRejected, ScrapeqError, UsageError
from scrapeq.page import Page
from scrapeq.processes.child import Child
from scrapeq.protocols import Item
from scrapeq.sink.commit_log import parse_token
from scrapeq.writer.frames import BatchedWrites, FrameReader, FrameTooLarge, pack, pack_page
from scrapeq.writer.server import settings_of

PENDING_MAX = 1_000  # commits of one client without a reply
PENDING_MAX_BYTES = 64 * 1024 * 1024
RECONNECT_FIRST_S = 0.02
RECONNECT_MAX_S = 0.5
GIVE_UP_S = 30.0  # without a writer
READY_TIMEOUT_S = 30.0
END_TIMEOUT_S = 2.0

_ERRORS: dict[str, type[ScrapeqError]] = {
    "lost": LeaseLost,
    "output": OutputError,
    "record": RecordRejected,
    "usage": UsageError,
}


class WriterKilled(OutputError):
    """The writer was killed by a signal while it started, so another start may succeed."""


class WriterClient:
    """
    The sink of a fetcher (`protocols.Sink`): it commits through the writer.

    A commit survives a restart of the writer: the client sends it again, and repeating it changes nothing.

    Args:
        path: The writer's socket.
        give_up_s: Seconds without a writer after which a commit fails.
        seeds: Whether an output needs the items' seeds.
        responses: Whether an output stores the responses.
        notes: Receives lines for the user.
    """

    def __init__(
        self,
        path: Path,
        *,
        give_up_s: float = GIVE_UP_S,
        seeds: bool = False,
        responses: bool = False,
        notes: list[str] | None = None,
    ) -> None:
        self._notes = [] if notes is None else notes
        self.captures_responses = responses
        self._path = path
        self._sends_seeds = seeds
        self._give_up_s = give_up_s
        self._ids = itertools.count(1)
        self._pending: dict[int, tuple[asyncio.Future[int], bytes]] = {}
        self._pending_bytes = 0
        self._room = asyncio.Condition()
        self._waiting_for_room = 0
        self._connection: _Connection | None = None
        self._connecting: asyncio.Task[None] | None = None

    async def commit(
        self,
        task_id: str,
        lease_token: str,
        items: Sequence[Item],
        page: Page | None = None,
        *,
        resource: str = "",
        seed: Mapping[str, Any] | None = None,
    ) -> int:
        """
        Write the items of one task; when this returns they are on the disk.

        Args:
            task_id: The task.
            lease_token: The token of its lease.
            items: The items.
            page: The response, for outputs that store responses.
            resource, seed: The resource and the seed of the response.

        Returns:
            How many items were new or changed (0 for a repeated commit).

        Raises:
            LeaseLost: a newer lease of this task has committed.
            OutputError: the output cannot be written, or no writer is running.
            RecordRejected: an output cannot hold one of the items, or the response.
            UsageError: the token is malformed.
        """
        parse_token(lease_token)
        try:
            if self._sends_seeds:
                raw: list[Any] = [(*_identified(item), item.seed, item.origin) for item in items]
            else:
                raw = [
                    (*_identified(item), {}, item.origin) if item.origin else _identified(item)
                    for item in items
                ]
            written = 0
            response = (page, resource, seed or {}) if self.captures_responses and page is not None else None
            for id_, frame in self._frames(task_id, lease_token, raw, response):
                written += await self._send(id_, frame)
        except FrameTooLarge as error:
            raise RecordRejected(
                f"an item of task {task_id} is too large to be written: {error}. "
                "Select fewer fields or a smaller record (data_selector)"
            ) from None
        except TypeError as error:
            raise RecordRejected(f"the items of task {task_id} cannot be written as JSON: {error}") from None
        return written

    def _frames(
        self, task_id: str, token: str, raw: list[Any], response: tuple[Page, str, Mapping[str, Any]] | None
    ) -> Iterator[tuple[int, bytes]]:
        """Yield one commit; items that do not fit into one frame go in several commits under the same token."""
        id_ = next(self._ids)
        body, packed_page = pack_page(id_, *response) if response is not None else (b"", None)
        try:
            commit = (id_, task_id, token, raw)
            frame = body + pack(commit if packed_page is None else (*commit, packed_page))
        except FrameTooLarge:
            if len(raw) <= 1:
                raise
            half = len(raw) // 2
            yield from self._frames(task_id, token, raw[:half], response)
            yield from self._frames(task_id, token, raw[half:], None)
            return
        yield id_, frame

    async def _send(self, id_: int, frame: bytes) -> int:
        """Send one commit and wait for its reply."""
        if self._is_full:
            await self._wait_for_room()
        reply: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._pending[id_] = (reply, frame)
        self._pending_bytes += len(frame)
        try:
            if self._connection is not None:
                self._connection.send(frame)
            elif self._connecting is None:
                self._connecting = asyncio.create_task(self._connect())
            return await reply
        finally:
            del self._pending[id_]
            self._pending_bytes -= len(frame)
            if self._waiting_for_room:
                async with self._room:
                    self._room.notify_all()

    async def close(self) -> None:
        """Disconnect. Commits without a reply fail with OutputError."""
        if self._connecting is not None:
            self._connecting.cancel()
            await asyncio.wait([self._connecting])
            self._connecting = None
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()
        self._fail_pending("the connection to the writer was closed before it replied")

    @property
    def _is_full(self) -> bool:
        return len(self._pending) >= PENDING_MAX or self._pending_bytes > PENDING_MAX_BYTES

    async def _wait_for_room(self) -> None:
        self._waiting_for_room += 1
        try:
            async with self._room:
                await self._room.wait_for(lambda: not self._is_full)
        finally:
            self._waiting_for_room -= 1

    async def _connect(self) -> None:
        """Connect to the writer and send again every commit without a reply."""
        loop = asyncio.get_running_loop()
        deadline_s = loop.time() + self._give_up_s
        pauses = pauses_s(RECONNECT_FIRST_S, RECONNECT_MAX_S)
        while True:
            try:
                _, connection = await loop.create_unix_connection(lambda: _Connection(self), str(self._path))
                break
            except OSError as error:
                if loop.time() > deadline_s:
                    self._connecting = None
                    self._fail_pending(
                        f"{self._path}: the writer of the output files cannot be reached: {error.strerror}"
                    )
                    return
            await asyncio.sleep(next(pauses))
        self._connecting = None
        self._connection = connection
        for _, frame in self._pending.values():
            connection.send(frame)

    def _fail_pending(self, reason: str) -> None:
        for reply, _ in self._pending.values():
            if not reply.done():
                reply.set_exception(OutputError(reason))

    def on_replies(self, replies: list[tuple[int, str, int | str]]) -> None:
        """Complete the commits that the writer replied to."""
        for id_, kind, value in replies:
            if kind == "note":
                self._notes.append(str(value))
                continue
            reply, _ = self._pending.get(id_, (None, b""))
            if reply is None or reply.done():
                continue
            if kind == "ok":
                reply.set_result(int(value))
            else:
                reply.set_exception(_ERRORS[kind](str(value)))

    def on_disconnect(self, connection: _Connection) -> None:
        """Reconnect if a commit waits for its reply."""
        if self._connection is not connection:
            return
        self._connection = None
        if self._pending and self._connecting is None:
            self._connecting = asyncio.create_task(self._connect())


class _Connection(asyncio.Protocol):
    """One connection to the writer."""

    _transport: asyncio.Transport
    _writes: BatchedWrites

    def __init__(self, client: WriterClient) -> None:
        self._client = client
        self._reader = FrameReader()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's transports are not subclasses of it
        self._writes = BatchedWrites(self._transport)

    def data_received(self, data: bytes) -> None:
        try:
            for message, _ in self._reader.feed(data):
                self._client.on_replies(message)
        except (ValueError, TypeError, KeyError):
            self._transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self._client.on_disconnect(self)

    def send(self, frame: bytes) -> None:
        """Send a frame together with the others of this turn."""
        self._writes.write(frame)

    def close(self) -> None:
        """Close the connection."""
        self._transport.close()


class WriterProcess:
    """
    The writer as a child of the supervisor. Start it on the main thread (see `Child`).

    Args:
        outputs: The outputs of the plan.
        base: The folder to which relative output paths are relative.
        path: The socket on which it listens; in a runtime folder, because socket paths must be short.
        stderr: An open file for its standard error; None = the parent's.
        data: The folder for the commit logs of outputs without a folder; None = beside `base`.
        name: The plan's name.
        run: The run's id.
        stdout: The descriptor that outputs of type stdout write to.
    """

    def __init__(
        self,
        outputs: Sequence[plan.Output],
        *,
        base: Path,
        path: Path,
        stderr: IO[str] | None = None,
        data: Path | None = None,
        name: str = "",
        run: str = "",
        stdout: int = 1,
    ) -> None:
        self.path = path
        self._stdout = stdout if any(output.type == "stdout" for output in outputs) else None
        self._settings = settings_of(tuple(outputs), base, path)
        self._settings |= {"data": str(data) if data else None, "name": name, "run": run}
        self._settings["restarted"] = False
        self._stderr = stderr
        self._child: Child | None = None

    @property
    def pid(self) -> int | None:
        """The process id; None before the start."""
        return self._child.pid if self._child else None

    async def start(self) -> None:
        """
        Start the writer, or restart it after it ended, and wait until it listens.

        Raises:
            WriterKilled: a signal ended it before it listened.
            OutputError: an output cannot be written, or another writer holds its folder.
            OSError: the system cannot create a process.
        """
        # A duplicate, because the child's own standard output carries its reports to this process.
        descriptors = [] if self._stdout is None else [os.dup(self._stdout)]
        child = Child(
            "scrapeq.writer.server",
            {**self._settings, "stdout": descriptors[0] if descriptors else None},
            capture_stdout=True,
            stderr=self._stderr,
            descriptors=descriptors,
        )
        self._child = child
        try:
            await child.start()
        finally:
            for descriptor in descriptors:
                os.close(descriptor)
        message, in_time = None, True
        try:
            message = await asyncio.wait_for(child.next_message(), READY_TIMEOUT_S)
        except TimeoutError:
            in_time = False
        if message is not None and message.get("ready"):
            self._settings["restarted"] = True
            return
        with suppress(TimeoutError):  # a writer that has reported an error ends by itself
            await asyncio.wait_for(child.wait(), END_TIMEOUT_S)
        code = await child.stop(0.0)
        reason = message.get("error") if message is not None else None
        if not reason and in_time and code < 0:
            raise WriterKilled(f"the writer of the output files was killed during its start (code {code})")
        raise OutputError(
            str(reason or f"the writer of the output files ended during its start (code {code})")
        )

    async def wait(self) -> int:
        """Wait until the writer ends and return its code: 0 drained, 7 output error, negative: a signal."""
        return await self._child.wait() if self._child else 0

    async def stop(self, grace_s: float) -> int:
        """Drain the writer, which commits and acknowledges everything received; kill it after `grace_s` seconds."""
        return await self._child.stop(grace_s) if self._child else 0


def _identified(item: Item) -> tuple[str, str, dict[str, Any]]:
    return item.resource, item.key, item.record
