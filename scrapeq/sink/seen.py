"""Which records are new to a target: by its write_disposition, and by what the books remember."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from typing import Protocol

from scrapeq import plan
from scrapeq.errors import OutputError
from scrapeq.sink.output import Record

DIGEST_BYTES = 16


def disposition_of(output: plan.Output, default: str, allowed: Sequence[str]) -> str:
    """How an output treats a record that it has seen. Raises OutputError for what its type cannot do."""
    wanted = output.write_disposition or default
    if wanted not in allowed:
        raise OutputError(
            f"{output.type}: write_disposition: {wanted} is not possible here; one of {', '.join(allowed)}"
        )
    return wanted


def digest_of(data: bytes) -> bytes:
    """16 bytes that stand for any others."""
    return hashlib.blake2b(data, digest_size=DIGEST_BYTES).digest()


def append_key(run: str, record: Record) -> bytes:
    """What `append` knows a record by: the task of the run that gave it, and the record."""
    return digest_of(b"\0".join((run.encode(), record.task_id.encode(), record.key + record.digest)))


class Memory(Protocol):
    """What remembers for `Seen`; targets are numbers of files or tables."""

    def digest(self, target: int, key: bytes, /) -> bytes | None:
        """The digest of what was last written for an item, or None."""

    def was_appended(self, target: int, key: bytes, /) -> bool:
        """Whether a task has given the target this record already."""

    def set_digests(self, rows: list[tuple[int, bytes, bytes]], /) -> None:
        """(target, key, digest) of items written."""

    def set_appended(self, target: int, keys: Iterable[bytes], /) -> None:
        """Records that tasks gave the target."""


class Seen:
    """
    What one target has seen; what is new is remembered in the books by `save`.

    Args:
        books: What remembers.
        target: The target's number there.
        append: Each record counts once a task that gave it; else only when it changed.
        run: The run.
    """

    def __init__(self, books: Memory, target: int, *, append: bool, run: str) -> None:
        self._books = books
        self._target = target
        self._append = append
        self._run = run
        self._new: dict[bytes, bytes] = {}

    def key(self, record: Record) -> bytes:
        """What the books know the record by."""
        return append_key(self._run, record) if self._append else record.key

    def is_new(self, record: Record) -> bool:
        """Whether it is to be written; asked again, it is not."""
        if self._append:
            key = self.key(record)
            if key in self._new or self._books.was_appended(self._target, key):
                return False
            self._new[key] = b""
            return True
        key = record.key
        if (self._new.get(key) or self._books.digest(self._target, key)) == record.digest:
            return False
        self._new[key] = record.digest
        return True

    def save(self) -> None:
        """Put it into their transaction."""
        if self._append:
            self._books.set_appended(self._target, self._new)
        else:
            self._books.set_digests([(self._target, key, digest) for key, digest in self._new.items()])

    def forget(self) -> None:
        """What is new has been saved, or was not written."""
        self._new.clear()
