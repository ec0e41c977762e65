"""
Files that grow at their end, in commits that a crash cannot halve.

The bytes reach the disk, then the ledger notes the length: that is the commit. What lies behind the committed length
after a crash is cut off. A file with a bound is a row of numbered parts; the ledger knows the open one, and the closed
ones are the user's, to move or to remove.
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
from scrapeq.sink.output_paths import numbered, parts_there
from scrapeq.sink.seen import Seen

GZIP_LEVEL = 6
ZSTD_LEVEL = 3
BLOCKS_A_PART = 8  # a part of packed blocks overshoots its bound by no more than one of so many
LINES = (".jsonl", ".json", ".ndjson")  # what is cut at a line's end when it was shortened by hand
DAMAGED = ".damaged"
BEGAN = "began_s"  # in a file's meta: when its open part was begun
REWRITING = (
    "rewriting"  # in a file's meta: `<name>.rewriting` replaces it; its length and meta are those of it
)

Pack = Callable[[bytes], bytes]

_log = logging.getLogger("scrapeq.sink")


def packing(path: Path) -> Pack | None:
    """How a file's blocks are packed, by its name: frames in a row are one file (RFC 1952, 2.2; RFC 8878, 3)."""
    if path.suffix == ".gz":
        return lambda data: gzip.compress(data, GZIP_LEVEL)
    if path.suffix == ".zst":
        return zstandard.ZstdCompressor(ZSTD_LEVEL).compress
    return None


class AppendedFile:
    """
    One file, or its open part, and what a commit adds.

    Args:
        ledger: Of its folder.
        state: What of it is committed.
        output: Its bounds.
        seen: Which records are new to it.
        packs: Its pieces are packed here, by its name; else they come packed.
    """

    def __init__(
        self, ledger: Ledger, state: FileState, output: plan.Output, seen: Seen, *, packs: bool = True
    ) -> None:
        self.ledger = ledger
        self.state = state
        self.seen = seen
        self.pieces: list[bytes] = []
        self._rotate_bytes = output.rotate_bytes
        self._rotate_s = output.rotate_s
        self._pack = packing(state.path) if packs else None
        self._fd = -1
        self._part = state.part
        self._length = state.length
        self._meta = dict(state.meta)

    @property
    def path(self) -> Path:
        """Where it is written to now."""
        return numbered(self.state.path, self._part)

    @property
    def is_open(self) -> bool:
        """Whether it holds a descriptor."""
        return self._fd >= 0

    @property
    def length(self) -> int:
        """What its open part holds, in bytes, with what is not committed."""
        return self._length

    def append(self, *, head: Callable[[Path], bytes] | None = None) -> None:
        """Write the pieces behind what is there, down to the disk; each new part begins with its `head`."""
        at = 0
        while at < len(self.pieces):
            if self.is_over():
                self._next_part()
            block = [head(self.path)] if head and not self._length else []
            room = self._room()
            while at < len(self.pieces) and (room is None or room > 0):
                block.append(self.pieces[at])
                room = room - len(block[-1]) if room is not None else None
                at += 1
            data = b"".join(block)
            self._write(self._pack(data) if self._pack else data)
        self._sync()

    def settle(self) -> None:
        """Into the ledger's transaction. If that fails, this is closed, and the next open looks at the truth."""
        self.state.length, self.state.part, self.state.meta = self._length, self._part, dict(self._meta)
        self.ledger.set_file(self.state)
        self.seen.save()
        self.seen.forget()
        self.pieces = []

    def abandon(self) -> None:
        """Cut off what was not committed, as far as that can be done; the next open looks at the truth."""
        if self.is_open and self._part == self.state.part:
            os.ftruncate(self._fd, self.state.length)

    def close(self) -> None:
        """Give back the descriptor."""
        if self.is_open:
            os.close(self._fd)
            self._fd = -1

    def close_part(self) -> None:
        """What follows goes into the next part."""
        if self._length:
            self._next_part()

    def replace(self, length: int, mark: str = "") -> None:
        """The file has another content, of that length: the ledger knows at once, with `meta` and the mark."""
        self.close()
        self._length = length
        if mark:
            self._meta[mark] = True
        self.state.length, self.state.part, self.state.meta = length, self._part, dict(self._meta)
        self.ledger.begin()
        self.ledger.set_file(self.state)
        self.ledger.commit()

    @property
    def meta(self) -> dict[str, object]:
        """What its type keeps; committed with the next `settle`."""
        return self._meta

    def is_over(self) -> bool:
        """Whether what follows goes into another part: the open one is full, or old."""
        rotates = self._rotate_bytes is not None or self._rotate_s is not None
        if self._part == 0:
            return rotates
        if self._rotate_bytes is not None and self._length >= self._rotate_bytes:
            return True
        return self.is_older_than(self._rotate_s)

    def is_older_than(self, seconds: float | None) -> bool:
        """Whether what it holds was begun so long ago."""
        began_s = float(cast(float, self._meta.get(BEGAN, 0.0)))
        return seconds is not None and self._length > 0 and time.time() - began_s >= seconds

    def _next_part(self) -> None:
        self._sync()
        self.close()
        self._meta.pop(BEGAN, None)
        if self._part:
            self._part += 1
        else:  # known before it has a line: another file of that name may be there, and is left alone
            self._part = max(parts_there(self.state.path), default=0) + 1
            self.state.part, self.state.length, self.state.meta = self._part, 0, dict(self._meta)
            self.ledger.begin()
            self.ledger.set_file(self.state)
            self.ledger.commit()
        self._length = 0
        self._open()
        os.ftruncate(self._fd, 0)

    def _room(self) -> int | None:
        """How many bytes the next block takes, before they are packed; None = no bound."""
        if self._rotate_bytes is None:
            return None
        return max(self._rotate_bytes - self._length, self._rotate_bytes // BLOCKS_A_PART, 1)

    def _open(self) -> None:
        self._fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        if not self._length:
            sync_folder(self.path.parent)

    def _write(self, data: bytes) -> None:
        if not self.is_open:
            self._open()
        if not self._length:
            self._meta[BEGAN] = time.time()
        rest = memoryview(data)
        end = self._length + len(data)
        while rest:
            try:
                rest = rest[os.pwrite(self._fd, rest, end - len(rest)) :]
            except OSError as error:
                raise OSError(error.errno, error.strerror, str(self.path)) from None
        self._length = end

    def _sync(self) -> None:
        if self.is_open:
            sync_data(self._fd)


def know_file(ledger: Ledger, path: Path) -> tuple[FileState, bool]:
    """
    The ledger's row of a file; one that it does not know yet is put into its transaction (the second: whether it was).

    That is to be committed before the file's first line is written.

    Raises:
        OutputError: it is no regular file.
        OSError: it cannot be opened.
    """
    state = ledger.file(path)
    is_new = state is None
    make_folder(path.parent)
    there = numbered(path, state.part if state else 0)
    fd = os.open(there, os.O_RDWR | os.O_CLOEXEC) if os.path.lexists(there) else -1
    try:
        if fd >= 0 and not stat.S_ISREG(os.fstat(fd).st_mode):
            raise OutputError(f"{path}: is no regular file")
        if state is None:
            size = os.fstat(fd).st_size if fd >= 0 else 0
            if size and packing(path) is None and os.pread(fd, 1, size - 1) != b"\n":
                size += os.pwrite(fd, b"\n", size)  # somebody else's last line
                os.fsync(fd)
            ledger.begin()
            state = ledger.add_file(path, size)
    finally:
        if fd >= 0:
            os.close(fd)
    return state, is_new


def recover(ledger: Ledger) -> None:
    """
    The files of a folder as the ledger has them.

    After a crash a file may be longer than committed, after a person's hand shorter or gone.
    """
    for state in ledger.files():
        if state.meta.get(REWRITING):
            _finish_rewriting(ledger, state)
        path = numbered(state.path, state.part)
        if state.part:
            for part in parts_there(state.path):
                if part > state.part:
                    _log.warning("%s: was not committed and is removed", numbered(state.path, part))
                    numbered(state.path, part).unlink()
        size = path.stat().st_size if path.is_file() else -1
        if size == state.length or (size < 0 and not state.length):
            continue
        if size > state.length:
            _log.warning("%s: %d bytes that were not committed are cut off", path, size - state.length)
            os.truncate(path, state.length)
        elif state.part:
            _log.warning("%s: was taken away; what follows goes into the next part", path)
            state.part, state.length, state.meta = max([*parts_there(state.path), state.part]) + 1, 0, {}
            _set(ledger, state)
        else:
            _log.warning("%s: is shorter than what was committed; its items are written again", path)
            state.length, state.meta = _keep_what_is_whole(path) if size > 0 else 0, {}
            _set(ledger, state, forget=True)


def _set(ledger: Ledger, state: FileState, *, forget: bool = False) -> None:
    ledger.begin()
    if forget:
        ledger.forget_items(state.id)
    ledger.set_file(state)
    ledger.commit()


def rewriting_name(path: Path) -> Path:
    """Where a file's new content is written before it replaces it."""
    return path.with_name(f"{path.name}.{REWRITING}")


def _finish_rewriting(ledger: Ledger, state: FileState) -> None:
    """The new content was committed; it may not have its name yet."""
    path = numbered(state.path, state.part)
    if rewriting_name(path).exists():
        rewriting_name(path).replace(path)
        sync_folder(path.parent)
    del state.meta[REWRITING]
    _set(ledger, state)


def _keep_what_is_whole(path: Path) -> int:
    """
    What stays of a file that a person has shortened, in bytes: whole lines of JSON.

    In other files nothing can be told, so they are put aside as `<name>.damaged`.
    """
    if path.suffix in LINES:
        return keep_whole_lines(path)
    path.replace(path.with_name(path.name + DAMAGED))
    return 0
