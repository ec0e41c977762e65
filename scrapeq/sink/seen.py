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

    def known(self, target: int, keys: Sequence[bytes], /, *, append: bool) -> dict[bytes, bytes]:
        """Of these items, those that were written, with the digest of what was (`append`: with nothing)."""

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

    def __init__(self, commit_log: Memory, target: int, *, append: bool, run: str) -> None:
        self._commit_log = commit_log
        self._target = target
        self._append = append
        self._run = run
        self._new: dict[bytes, bytes] = {}
        self._known: dict[bytes, bytes] = {}
        self._asked: set[bytes] = set()

    def look_up(self, records: Iterable[Record]) -> None:
        """What the books know of a batch, in one go; `is_new` asks them for any other record."""
        self._asked = {self.key(record) for record in records}
        self._known = self._commit_log.known(self._target, list(self._asked), append=self._append)

    def key(self, record: Record) -> bytes:
        """What the books know the record by."""
        return append_key(self._run, record) if self._append else record.key

    def is_new(self, record: Record) -> bool:
        """Whether it is to be written; asked again, it is not."""
        key = self.key(record)
        known = self._known
        if key not in self._asked:
            known = self._commit_log.known(self._target, [key], append=self._append)
        if self._append:
            if key in self._new or key in known:
                return False
            self._new[key] = b""
            return True
        if (self._new.get(key) or known.get(key)) == record.digest:
            return False
        self._new[key] = record.digest
        return True

    def save(self) -> None:
        """Put it into their transaction."""
        if self._append:
            self._commit_log.set_appended(self._target, self._new)
        else:
            self._commit_log.set_digests([(self._target, key, digest) for key, digest in self._new.items()])

    def forget(self) -> None:
        """What is new has been saved, or was not written."""
        self._new.clear()


def look_up(placed: Iterable[tuple[Seen, Record]]) -> None:
    """Ask the books of each target for its part of a batch."""
    by_target: dict[Seen, list[Record]] = {}
    for seen, record in placed:
        by_target.setdefault(seen, []).append(record)
    for seen, records in by_target.items():
        seen.look_up(records)
