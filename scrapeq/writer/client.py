"""The other ends of the writer: the sink that a fetcher uses, and the process that the supervisor keeps."""

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
from scrapeq.errors import LeaseLost, OutputError, ScrapeqError, UsageError
from scrapeq.page import Page
from scrapeq.processes.child import Child
from scrapeq.protocols import Item
from scrapeq.sink.commit_log import parse_token
from scrapeq.writer.frames import BatchedWrites, FrameReader, FrameTooLarge, pack, pack_page
from scrapeq.writer.server import settings_of

PENDING_MAX = 1_000  # commits on their way from one client
PENDING_MAX_BYTES = 64 * 1024 * 1024
RECONNECT_FIRST_S = 0.02
RECONNECT_MAX_S = 0.5
GIVE_UP_S = 30.0  # without a writer
READY_TIMEOUT_S = 30.0
END_TIMEOUT_S = 2.0

_ERRORS: dict[str, type[ScrapeqError]] = {"lost": LeaseLost, "output": OutputError, "usage": UsageError}


class WriterClient:
    """
    The sink of a fetcher (`protocols.Sink`): commits through the writer at `path`.

    A commit survives a restart of the writer: it is sent again, and repeating it changes nothing.

    Args:
        path: The writer's socket.
        give_up_s: Seconds without a writer after which a commit fails.
        seeds: An output needs the items' seeds.
        answers: An output keeps answers.
    """

    def __init__(
        self, path: Path, *, give_up_s: float = GIVE_UP_S, seeds: bool = False, answers: bool = False
    ) -> None:
        self.captures_responses = answers
        self._path = path
        self._seeds = seeds
        self._give_up_s = give_up_s
        self._ids = itertools.count(1)
        self._pending: dict[int, tuple[asyncio.Future[int], bytes]] = {}
        self._pending_bytes = 0
        self._room = asyncio.Condition()
        self._waiting = 0
        self._link: _Link | None = None
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
        Write the items of one task; answered means on the disk.

        Returns:
            How many were new or changed (0 for what a repeat finds done).

        Raises:
            LeaseLost: a newer lease of this task has committed already.
            OutputError: the output cannot be written, or there is no writer.
            UsageError: the token or a record can never be written.
        """
        parse_token(lease_token)
        try:
            if self._seeds:
                raw: list[Any] = [(item.resource, item.key, item.record, item.seed) for item in items]
            else:
                raw = [(item.resource, item.key, item.record) for item in items]
            written = 0
            kept = (page, resource, seed or {}) if self.captures_responses and page is not None else None
            for id_, frame in self._frames(task_id, lease_token, raw, kept):
                written += await self._send(id_, frame)
        except FrameTooLarge as error:
            raise OutputError(f"an item of task {task_id} is too large for one commit: {error}") from None
        except TypeError as error:
            raise UsageError(f"the items of task {task_id} are no JSON: {error}") from None
        return written

    def _frames(
        self, task_id: str, token: str, raw: list[Any], kept: tuple[Page, str, Mapping[str, Any]] | None
    ) -> Iterator[tuple[int, bytes]]:
        """One request as a rule; items that are too many for a frame go in several, under the same token."""
        id_ = next(self._ids)
        body, said = pack_page(id_, *kept) if kept is not None else (b"", None)
        try:
            request = (id_, task_id, token, raw) if said is None else (id_, task_id, token, raw, said)
            frame = body + pack(request)
        except FrameTooLarge:
            if len(raw) <= 1:
                raise
            half = len(raw) // 2
            yield from self._frames(task_id, token, raw[:half], kept)
            yield from self._frames(task_id, token, raw[half:], None)
            return
        yield id_, frame

    async def _send(self, id_: int, frame: bytes) -> int:
        """One request and its answer."""
        if self._full:
            await self._wait_for_room()
        answer: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._pending[id_] = (answer, frame)
        self._pending_bytes += len(frame)
        try:
            if self._link is not None:
                self._link.send(frame)
            elif self._connecting is None:
                self._connecting = asyncio.create_task(self._connect())
            return await answer
        finally:
            del self._pending[id_]
            self._pending_bytes -= len(frame)
            if self._waiting:
                async with self._room:
                    self._room.notify_all()

    async def close(self) -> None:
        """Hang up. Commits on their way fail with OutputError."""
        if self._connecting is not None:
            self._connecting.cancel()
            await asyncio.wait([self._connecting])
            self._connecting = None
        link, self._link = self._link, None
        if link is not None:
            link.hang_up()
        self._fail("the writer's client was closed")

    @property
    def _full(self) -> bool:
        return len(self._pending) >= PENDING_MAX or self._pending_bytes > PENDING_MAX_BYTES

    async def _wait_for_room(self) -> None:
        self._waiting += 1
        try:
            async with self._room:
                await self._room.wait_for(lambda: not self._full)
        finally:
            self._waiting -= 1

    async def _connect(self) -> None:
        """Find the writer, then send again what it has not answered."""
        loop = asyncio.get_running_loop()
        until = loop.time() + self._give_up_s
        pauses = pauses_s(RECONNECT_FIRST_S, RECONNECT_MAX_S)
        while True:
            try:
                _, link = await loop.create_unix_connection(lambda: _Link(self), str(self._path))
                break
            except OSError as error:
                if loop.time() > until:
                    self._connecting = None
                    self._fail(f"{self._path}: there is no writer: {error.strerror}")
                    return
            await asyncio.sleep(next(pauses))
        self._connecting = None
        self._link = link
        for _, frame in self._pending.values():
            link.send(frame)

    def _fail(self, reason: str) -> None:
        for answer, _ in self._pending.values():
            if not answer.done():
                answer.set_exception(OutputError(reason))

    def answered(self, answers: list[tuple[int, str, int | str]]) -> None:
        """Answers have come."""
        for id_, kind, value in answers:
            answer, _ = self._pending.get(id_, (None, b""))
            if answer is None or answer.done():
                continue
            if kind == "ok":
                answer.set_result(int(value))
            else:
                answer.set_exception(_ERRORS[kind](str(value)))

    def lost(self, link: _Link) -> None:
        """The writer has gone: look for the next one if anything waits for it."""
        if self._link is not link:
            return
        self._link = None
        if self._pending and self._connecting is None:
            self._connecting = asyncio.create_task(self._connect())


class _Link(asyncio.Protocol):
    """One connection to the writer."""

    _transport: asyncio.Transport
    _writes: BatchedWrites

    def __init__(self, client: WriterClient) -> None:
        self._client = client
        self._reader = FrameReader()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is no subclass
        self._writes = BatchedWrites(self._transport)

    def data_received(self, data: bytes) -> None:
        try:
            for message, _ in self._reader.feed(data):
                self._client.answered(message)
        except (ValueError, TypeError, KeyError):
            self._transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self._client.lost(self)

    def send(self, frame: bytes) -> None:
        """Send a frame with the others of this turn."""
        self._writes.write(frame)

    def hang_up(self) -> None:
        """Close the connection."""
        self._transport.close()


class WriterProcess:
    """
    The writer as a child of the supervisor. Start it on the main thread (see `Child`).

    Args:
        outputs: The outputs of the plan.
        base: What relative output paths are relative to.
        path: Where it listens; in a runtime folder, since a socket's path is short.
        stderr: Where its standard error goes (an open file); None = the parent's.
        data: A folder for the books of outputs that have no folder; None = beside `base`.
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
        """Its process id, once started."""
        return self._child.pid if self._child else None

    async def start(self) -> None:
        """
        Start it, or start it again after it ended, and wait until it listens.

        Raises:
            OutputError: an output cannot be written, or another writer holds its folder.
            OSError: the system has no process left to give.
        """
        # under a number of its own: its standard output is where it reports to us
        descriptors = [] if self._stdout is None else [os.dup(self._stdout)]
        child = Child(
            "scrapeq.writer.server",
            {**self._settings, "stdout": descriptors[0] if descriptors else None},
            listen=True,
            stderr=self._stderr,
            descriptors=descriptors,
        )
        self._child = child
        try:
            await child.start()
        finally:
            for descriptor in descriptors:
                os.close(descriptor)
        try:
            said = await asyncio.wait_for(child.line(), READY_TIMEOUT_S)
        except TimeoutError:
            said = None
        if said is not None and said.get("ready"):
            self._settings["restarted"] = True
            return
        with suppress(TimeoutError):  # what has said why it ends does so by itself
            await asyncio.wait_for(child.wait(), END_TIMEOUT_S)
        code = await child.stop(0.0)
        reason = said.get("error") if said is not None else None
        raise OutputError(str(reason or f"the writer of the output files ended at its start (code {code})"))

    async def wait(self) -> int:
        """Until it ends; its return code: 0 drained, 7 output, negative a signal."""
        return await self._child.wait() if self._child else 0

    async def stop(self, grace_s: float) -> int:
        """Drain it: what has arrived is committed and answered; killed after `grace_s` seconds."""
        return await self._child.stop(grace_s) if self._child else 0
