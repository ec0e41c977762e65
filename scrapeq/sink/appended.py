"""
Files that grow at their end, in crash-safe commits.

A commit writes the bytes to the disk, then the ledger records the new length of the file. After a crash, bytes after
the recorded length are cut off. A file that rotates is a series of numbered parts. The ledger knows the open part;
closed parts belong to the user, who may move or remove them.
"""

from __future__ import annotations

import gzip
import logging
import os
import stat
import time
from collections.abc import Callable
from pathlib import Path
from typing import cast

import zstandard

from scrapeq import plan
from scrapeq.errors import OutputError
from scrapeq.sink.durable import keep_whole_lines, make_folder, sync_data, sync_folder
from scrapeq.sink.ledger import FileState, Ledger
from scrapeq.sink.output_paths import part_numbers, part_path
from scrapeq.sink.seen import Seen

GZIP_LEVEL = 6
ZSTD_LEVEL = 3
BLOCKS_PER_PART = 8  # a compressed part exceeds its size limit by at most one of this many blocks
JSON_LINES_SUFFIXES = (".jsonl", ".json", ".ndjson")
DAMAGED_SUFFIX = ".damaged"
# Keys in the `meta` of a file:
PART_STARTED = "began_s"  # Unix seconds of the first byte of the open part
REWRITING = "rewriting"  # `<name>.rewriting` replaces the file; length and meta describe the new content

Compress = Callable[[bytes], bytes]

_log = logging.getLogger("scrapeq.sink")


def compressor_for(path: Path) -> Compress | None:
    """
    Return the compression that a file name asks for; None if it is not compressed.

    Compressed blocks can simply be concatenated (RFC 1952, 2.2; RFC 8878, 3).
    """
    if path.suffix == ".gz":
        return lambda data: gzip.compress(data, GZIP_LEVEL)
    if path.suffix == ".zst":
        return zstandard.ZstdCompressor(ZSTD_LEVEL).compress
    return None


class AppendedFile:
    """
    One file (or its open part) and the bytes that the current commit adds.

    Args:
        ledger: The ledger of its folder.
        state: Its committed state.
        output: The settings of the output: when to rotate.
        seen: The records that the file has.
        compresses: Compress the pieces as the file name asks for. False: they are compressed already.

    Attributes:
        pieces: The bytes to append with the next `append`, usually one line each.
    """

    def __init__(
        self, ledger: Ledger, state: FileState, output: plan.Output, seen: Seen, *, compresses: bool = True
    ) -> None:
        self.ledger = ledger
        self.state = state
        self.seen = seen
        self.pieces: list[bytes] = []
        self._rotate_bytes = output.rotate_bytes
        self._rotate_s = output.rotate_s
        self._compress = compressor_for(state.path) if compresses else None
        self._fd = -1
        self._part = state.part
        self._length = state.length
        self._meta = dict(state.meta)

    @property
    def path(self) -> Path:
        """The path of the open part."""
        return part_path(self.state.path, self._part)

    @property
    def is_open(self) -> bool:
        """Whether the file descriptor is open."""
        return self._fd >= 0

    @property
    def length(self) -> int:
        """The length of the open part in bytes, including what is not committed yet."""
        return self._length

    @property
    def meta(self) -> dict[str, object]:
        """What the output type stores with the file; committed by the next `save_state`."""
        return self._meta

    def append(self, *, header: Callable[[Path], bytes] | None = None) -> None:
        """
        Write the pieces to the end of the file and sync them to the disk, rotating when needed.

        Args:
            header: Returns the first bytes of each new part.
        """
        at = 0
        while at < len(self.pieces):
            if self.needs_next_part():
                self._next_part()
            block = [header(self.path)] if header and not self._length else []
            room = self._room_bytes()
            while at < len(self.pieces) and (room is None or room > 0):
                block.append(self.pieces[at])
                room = room - len(block[-1]) if room is not None else None
                at += 1
            data = b"".join(block)
            self._write(self._compress(data) if self._compress else data)
        self._sync()

    def save_state(self) -> None:
        """
        Add the new length and the new records to the open transaction of the ledger.

        If that transaction fails, the file is closed; the next `open` reads its true state from the ledger.
        """
        self.state.length, self.state.part, self.state.meta = self._length, self._part, dict(self._meta)
        self.ledger.set_file(self.state)
        self.seen.save()
        self.seen.clear()
        self.pieces = []

    def abandon(self) -> None:
        """Cut off the bytes that were not committed. What remains after an error, the next `open` cuts off."""
        if self.is_open and self._part == self.state.part:
            os.ftruncate(self._fd, self.state.length)

    def close(self) -> None:
        """Close the file descriptor."""
        if self.is_open:
            os.close(self._fd)
            self._fd = -1

    def start_next_part(self) -> None:
        """Close the open part, unless it is empty; what follows goes into the next one."""
        if self._length:
            self._next_part()

    def replace(self, length: int, mark: str = "") -> None:
        """Record at once that the content was replaced by another one of `length` bytes; `mark` is set in `meta`."""
        self.close()
        self._length = length
        if mark:
            self._meta[mark] = True
        self.state.length, self.state.part, self.state.meta = length, self._part, dict(self._meta)
        _save(self.ledger, self.state)

    def needs_next_part(self) -> bool:
        """Return whether the open part is full or old enough to rotate."""
        rotates = self._rotate_bytes is not None or self._rotate_s is not None
        if self._part == 0:
            return rotates
        if self._rotate_bytes is not None and self._length >= self._rotate_bytes:
            return True
        return self.is_older_than(self._rotate_s)

    def is_older_than(self, seconds: float | None) -> bool:
        """Return whether the first byte of the open part was written at least this long ago; None: never."""
        started_s = float(cast(float, self._meta.get(PART_STARTED, 0.0)))
        return seconds is not None and self._length > 0 and time.time() - started_s >= seconds

    def _next_part(self) -> None:
        self._sync()
        self.close()
        self._meta.pop(PART_STARTED, None)
        if self._part:
            self._part += 1
        else:  # record the number before the first line: a file of the user with such a name stays untouched
            self._part = max(part_numbers(self.state.path), default=0) + 1
            self.state.part, self.state.length, self.state.meta = self._part, 0, dict(self._meta)
            _save(self.ledger, self.state)
        self._length = 0
        self._open()
        os.ftruncate(self._fd, 0)

    def _room_bytes(self) -> int | None:
        """Return the size of the next block before compression; None = unlimited."""
        if self._rotate_bytes is None:
            return None
        return max(self._rotate_bytes - self._length, self._rotate_bytes // BLOCKS_PER_PART, 1)

    def _open(self) -> None:
        self._fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        if not self._length:
            sync_folder(self.path.parent)

    def _write(self, data: bytes) -> None:
        if not self.is_open:
            self._open()
        if not self._length:
            self._meta[PART_STARTED] = time.time()
        remaining = memoryview(data)
        end = self._length + len(data)
        while remaining:
            try:
                remaining = remaining[os.pwrite(self._fd, remaining, end - len(remaining)) :]
            except OSError as error:
                raise OSError(error.errno, error.strerror, str(self.path)) from None
        self._length = end

    def _sync(self) -> None:
        if self.is_open:
            sync_data(self._fd)


def register_file(ledger: Ledger, path: Path) -> tuple[FileState, bool]:
    """
    Return the ledger's state of a file, and whether the file is new to the ledger.

    A new file is added to the open transaction of the ledger. Commit that before the first line is written to it.

    Raises:
        OutputError: the path is not a regular file.
        OSError: the file cannot be opened.
    """
    state = ledger.file(path)
    is_new = state is None
    make_folder(path.parent)
    open_part = part_path(path, state.part if state else 0)
    fd = os.open(open_part, os.O_RDWR | os.O_CLOEXEC) if os.path.lexists(open_part) else -1
    try:
        if fd >= 0 and not stat.S_ISREG(os.fstat(fd).st_mode):
            raise OutputError(f"{path}: not a regular file; write to another path")
        if state is None:
            size = os.fstat(fd).st_size if fd >= 0 else 0
            if size and compressor_for(path) is None and os.pread(fd, 1, size - 1) != b"\n":
                size += os.pwrite(fd, b"\n", size)  # another program left its last line unfinished
                os.fsync(fd)
            ledger.begin()
            state = ledger.add_file(path, size)
    finally:
        if fd >= 0:
            os.close(fd)
    return state, is_new


def recover(ledger: Ledger) -> None:
    """
    Restore the files of a folder to what the ledger has committed.

    A file may be longer after a crash, and shorter or missing after the user edited or moved it.
    """
    for state in ledger.files():
        if state.meta.get(REWRITING):
            _finish_rewrite(ledger, state)
        path = part_path(state.path, state.part)
        if state.part:
            for part in part_numbers(state.path):
                if part > state.part:
                    _log.warning("%s: removed, since it was never committed", part_path(state.path, part))
                    part_path(state.path, part).unlink()
        size = path.stat().st_size if path.is_file() else -1
        if size == state.length or (size < 0 and not state.length):
            continue
        if size > state.length:
            _log.warning("%s: cut off %d bytes that were never committed", path, size - state.length)
            os.truncate(path, state.length)
        elif state.part:
            _log.warning("%s: missing or shortened; new items go into the next part", path)
            state.part, state.length, state.meta = max([*part_numbers(state.path), state.part]) + 1, 0, {}
            _save(ledger, state)
        else:
            _log.warning("%s: shorter than committed; all its items will be written again", path)
            state.length, state.meta = _salvage(path) if size > 0 else 0, {}
            _save(ledger, state, forget_items=True)


def _save(ledger: Ledger, state: FileState, *, forget_items: bool = False) -> None:
    """Commit the state of a file at once."""
    ledger.begin()
    if forget_items:
        ledger.forget_items(state.id)
    ledger.set_file(state)
    ledger.commit()


def rewrite_path(path: Path) -> Path:
    """Return where the new content of a file is written before it replaces the file."""
    return path.with_name(f"{path.name}.{REWRITING}")


def _finish_rewrite(ledger: Ledger, state: FileState) -> None:
    """Complete a rewrite whose new content was committed, but perhaps not renamed, before a crash."""
    path = part_path(state.path, state.part)
    if rewrite_path(path).exists():
        rewrite_path(path).replace(path)
        sync_folder(path.parent)
    del state.meta[REWRITING]
    _save(ledger, state)


def _salvage(path: Path) -> int:
    """
    Keep what is intact of a file that the user has shortened; return how many bytes that are.

    JSON Lines keep their whole lines. Of other files it is unknown what is intact: they become `<name>.damaged`.
    """
    if path.suffix in JSON_LINES_SUFFIXES:
        return keep_whole_lines(path)
    path.replace(path.with_name(path.name + DAMAGED_SUFFIX))
    return 0
