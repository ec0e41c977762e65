"""
Keeps the work on data off the event loop.

A page is read on the loop in short steps. A large one, and one with a step that takes too long, is read in a process of
its own: a fork of this one, with bounds for its processor time and its memory. Whatever a server sends, the loop goes
on, and only the page that costs too much is given up.
"""

from __future__ import annotations

import asyncio
import ctypes
import fcntl
import gc
import math
import os
import resource
import signal
import sys
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Mapping
from contextlib import aclosing, contextmanager, suppress
from itertools import islice
from types import FrameType
from typing import Any, NoReturn

from scrapeq.errors import ExtractError, ScrapeqError
from scrapeq.expression import pattern
from scrapeq.extract import PageExtractor
from scrapeq.extract.decode import MEMORY_FACTOR
from scrapeq.extract.unpack import is_compressed
from scrapeq.page import Page
from scrapeq.plan import Plan
from scrapeq.processes.launch import PR_SET_PDEATHSIG
from scrapeq.protocols import Extraction
from scrapeq.resource import Payload, check_payload
from scrapeq.worker.part_frames import FRAME_BYTES, LENGTH, FrameWriter, Warned, unpack

STEP_S = 0.03
"""Processor seconds of one step on the loop; a longer one is repeated in a process of its own."""

SMALL_BYTES = 16_384
"""A body up to this size is read without a timer, which would cost more than it saves."""

LARGE_BYTES = 1_000_000
"""Size of a body from which it is not read on the loop."""

LARGE_MARKUP_BYTES = 100_000
"""The same for XML and HTML, which take ten times as long."""

LARGE_COUNT = 30_000
"""The number of lists and objects in JSON that makes a body large: values cost more than bytes."""

LARGE_FILE_BYTES = 1_000
"""The same for compressed files, which may become a thousand times as large."""

DESCRIPTORS_MAX = 1 << 20  # where the system does not state a limit
NICENESS = 5  # the loop goes first
BACKSTOP_FACTOR, BACKSTOP_S = 20, 60.0  # of wall time, should a process hang without using the processor
KILL_AFTER_S = 5  # processor seconds after the bound, for a library that does not return

_END = object()
_VALUE_BYTES = (b"[", b"{")
_LIBC = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None
_LOOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGVTALRM)


class StepTooLong(BaseException):
    """A step on the loop took longer than STEP_S. Not an Exception, so that no library handles it."""


class OverBudget(BaseException):
    """A page took more processor time than it may."""


class OffLoopExtractor:
    """
    An `Extractor` that never holds the event loop for long. Create it on the main thread.

    Args:
        extractor: Reads the pages.
        plan: `client.max_body_size` and `client.extract_timeout` bound what a page may cost.
    """

    def __init__(self, extractor: PageExtractor, plan: Plan) -> None:
        from scrapeq.extract import xml_tree  # noqa: F401  (an import must not be interrupted)

        self._extractor = extractor
        self._decoders = {
            one.name: one.endpoint.decoder for one in plan.resources if one.endpoint is not None
        }
        self._memory_bytes = MEMORY_FACTOR * plan.client.max_body_size
        self._cpu_s = plan.client.extract_timeout_s
        self._one_at_a_time = asyncio.Semaphore(1)
        self._in_step = False
        signal.signal(signal.SIGVTALRM, self._on_alarm)

    async def chunks(
        self, payload: Mapping[str, Any], priority: float, page: Page
    ) -> AsyncIterator[Extraction]:
        """See `protocols.Extractor`."""
        payload = check_payload(payload)
        now_s, done = self._extractor.now_s(), 0
        if not self._is_large(payload, page):
            warned = self._extractor.warned()
            steps = self._extractor.steps(payload, priority, page, now_s)
            try:
                while True:
                    chunk = self._next(steps, has_timer=len(page.body) > SMALL_BYTES)
                    if isinstance(chunk, Extraction):
                        done += 1
                        yield chunk
                    elif chunk is _END:
                        return
                    else:
                        await asyncio.sleep(0)
            except StepTooLong:
                self._extractor.restore_warned(warned)
        async with (
            self._one_at_a_time,
            aclosing(self._isolated(payload, priority, page, now_s, done)) as parts,
        ):
            async for part in parts:
                yield part

    def _is_large(self, payload: Payload, page: Page) -> bool:
        body, decoder = page.body, self._decoders.get(payload["resource"])
        if is_compressed(body, decoder.compression if decoder is not None else ""):
            return len(body) > LARGE_FILE_BYTES
        is_markup = body[:64].lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"<")
        if is_markup or len(body) > LARGE_BYTES:
            return len(body) > LARGE_MARKUP_BYTES
        return len(body) > LARGE_COUNT and sum(map(body.count, _VALUE_BYTES)) > LARGE_COUNT

    def _next(self, steps: Iterator[Extraction | None], *, has_timer: bool) -> Any:
        """
        Return the next result, or _END. Raises StepTooLong if it takes more than STEP_S.

        Without the timer, only searches of patterns are interrupted; nothing else takes long for a small body.
        """
        pattern.limit_searches(STEP_S, StepTooLong)
        if not has_timer:
            try:
                return next(steps, _END)
            finally:
                pattern.limit_searches()
        self._in_step = True
        signal.setitimer(signal.ITIMER_VIRTUAL, STEP_S)
        try:
            return next(steps, _END)
        finally:
            self._in_step = False
            signal.setitimer(signal.ITIMER_VIRTUAL, 0)
            pattern.limit_searches()

    def _on_alarm(self, _number: int, _frame: FrameType | None) -> None:
        if self._in_step:  # it may also arrive just after the step
            raise StepTooLong

    async def _isolated(
        self, payload: Payload, priority: float, page: Page, now_s: float, skip: int
    ) -> AsyncGenerator[Extraction, None]:
        """Yield the chunks after the first `skip` ones, from a process of its own."""
        read_end, write_end = os.pipe()
        pipe = os.fdopen(read_end, "rb", buffering=0)
        pid = self._fork(write_end, payload, priority, page, now_s, skip)
        os.close(write_end)
        reader = asyncio.StreamReader(limit=FRAME_BYTES)
        transport: asyncio.ReadTransport | None = None
        try:
            transport, _ = await asyncio.get_running_loop().connect_read_pipe(
                lambda: asyncio.StreamReaderProtocol(reader), pipe
            )
            while True:
                try:
                    frame = await self._next_frame(reader)
                except asyncio.IncompleteReadError:
                    ended, pid = pid, 0
                    raise ExtractError(self._why_ended(*await asyncio.to_thread(_wait, ended))) from None
                if isinstance(frame, ScrapeqError):
                    raise frame
                if not isinstance(frame, Extraction):
                    self._extractor.add_warned(frame)
                    return
                yield frame
                await asyncio.sleep(0)  # the next frame may be there already
        finally:
            if transport is not None:
                transport.close()
            if pid:
                os.kill(pid, signal.SIGKILL)  # it has ended, or its results are not wanted any more
                await asyncio.shield(asyncio.to_thread(_wait, pid))

    async def _next_frame(self, reader: asyncio.StreamReader) -> Extraction | Warned | ScrapeqError:
        """Return the next frame. Raises ExtractError, and IncompleteReadError if the process has ended."""
        try:
            async with asyncio.timeout(BACKSTOP_FACTOR * self._cpu_s + BACKSTOP_S):
                (size,) = LENGTH.unpack(await reader.readexactly(LENGTH.size))
                data = await reader.readexactly(size)
        except TimeoutError:
            raise ExtractError("the page is given up: the process that reads it hangs") from None
        return unpack(data, self._extractor.builder)

    def _why_ended(self, code: int, cpu_s: float) -> str:
        if cpu_s >= self._cpu_s:
            return self._too_slow()
        name = signal.Signals(-code).name if code < 0 else f"code {code}"
        return f"{self._too_much_memory()} (its process ended with {name})"

    def _too_slow(self) -> str:
        return (
            f"the page is given up: reading it takes more than {self._cpu_s:g} s of processor time; "
            "raise client.extract_timeout to allow more"
        )

    def _too_much_memory(self) -> str:
        return (
            f"the page is given up: reading it takes more than {self._memory_bytes:,} bytes of memory, "
            f"{MEMORY_FACTOR} times client.max_body_size; raise that to allow more"
        )

    # --- in the process of the page

    def _fork(
        self, write_end: int, payload: Payload, priority: float, page: Page, now_s: float, skip: int
    ) -> int:
        """Start a process that reads the page; return its id."""
        parent = os.getpid()
        signal.pthread_sigmask(signal.SIG_BLOCK, _LOOP_SIGNALS)
        try:
            pid = os.fork()
            if pid == 0:
                _enter(write_end, parent)
                with os.fdopen(write_end, "wb", buffering=0) as pipe:
                    _exit(lambda: self._read_page(FrameWriter(pipe), payload, priority, page, now_s, skip))
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _LOOP_SIGNALS)
        return pid

    def _read_page(
        self, frames: FrameWriter, payload: Payload, priority: float, page: Page, now_s: float, skip: int
    ) -> None:
        """Write the parts of the page, then how it ended."""
        try:
            with _budget(self._cpu_s, self._memory_bytes):
                chunks = filter(None, self._extractor.steps(payload, priority, page, now_s))
                for chunk in islice(chunks, skip, None):
                    frames.part(chunk)
            frames.end(self._extractor.warned())
        except OverBudget:
            frames.error(ExtractError(self._too_slow()))
        except MemoryError:
            frames.error(ExtractError(self._too_much_memory()))
        except ScrapeqError as error:
            frames.error(error)
        except BrokenPipeError:  # the parent does not want the results any more
            return
        except Exception as error:
            frames.error(ExtractError(f"{type(error).__name__}: {error}"))


def _enter(write_end: int, parent: int) -> None:
    """Cut the new process off from everything of its parent except the pipe. Nothing of the loop may be used here."""
    gc.disable()  # a collection would copy all memory that is shared with the parent
    signal.set_wakeup_fd(-1)
    for number in _LOOP_SIGNALS:
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _LOOP_SIGNALS)
    if _LIBC is not None:
        _LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(1)
    os.nice(NICENESS)
    os.closerange(3, write_end)  # else connections that the parent closes would stay open
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    os.closerange(write_end + 1, most if 0 < most < DESCRIPTORS_MAX else DESCRIPTORS_MAX)
    if sys.platform == "linux":
        with suppress(OSError):
            fcntl.fcntl(write_end, fcntl.F_SETPIPE_SZ, FRAME_BYTES)


def _exit(work: Callable[[], None]) -> NoReturn:
    """Do the work and end this process, without anything that Python does at an exit."""
    code = 1
    try:
        work()
        code = 0
    except BrokenPipeError:
        code = 0
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        os._exit(code)


@contextmanager
def _budget(cpu_s: float, memory_bytes: int) -> Iterator[None]:
    """Raise OverBudget inside after so much processor time, and MemoryError beyond so much more memory."""

    def give_up(_number: int, _frame: FrameType | None) -> None:
        raise OverBudget

    signal.signal(signal.SIGPROF, give_up)
    signal.setitimer(signal.ITIMER_PROF, cpu_s)
    last_s = math.ceil(cpu_s) + KILL_AFTER_S  # for a library that does not return
    resource.setrlimit(resource.RLIMIT_CPU, (last_s, last_s))
    before = resource.getrlimit(resource.RLIMIT_AS)
    size = _virtual_bytes()
    if size:
        with suppress(ValueError):  # the system allows less anyway
            resource.setrlimit(resource.RLIMIT_AS, (size + memory_bytes, before[1]))
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        resource.setrlimit(resource.RLIMIT_AS, before)


def _virtual_bytes() -> int:
    """Return the size of this process's address space; 0 where the system does not tell."""
    try:
        with open("/proc/self/statm", "rb") as file:
            return int(file.read().split()[0]) * resource.getpagesize()
    except OSError:
        return 0


def _wait(pid: int) -> tuple[int, float]:
    """Wait for a process; return its exit code (negative: the signal) and its processor seconds."""
    _, status, usage = os.wait4(pid, 0)
    return os.waitstatus_to_exitcode(status), usage.ru_utime + usage.ru_stime
