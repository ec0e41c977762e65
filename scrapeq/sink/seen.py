"""Decide which records are new to a target, by its `write_disposition` and by what the commit log remembers."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from typing import Protocol

from scrapeq import plan
from scrapeq.errors import OutputError
from scrapeq.protocols import Item
from scrapeq.sink.output import Record

DIGEST_BYTES = 16


def disposition_of(output: plan.Output, default: str, allowed: Sequence[str]) -> str:
    """Return the write disposition of an output. Raises OutputError if its type does not support it."""
    disposition = output.write_disposition or default
    if disposition not in allowed:
        raise OutputError(
            f"{output.type}: write_disposition: {disposition} is not supported; use one of {', '.join(allowed)}"
        )
    return disposition


def digest_of(data: bytes) -> bytes:
    """Return a digest of 16 bytes."""
    return hashlib.blake2b(data, digest_size=DIGEST_BYTES).digest()


def identity_text(item: Item) -> str:
    """Return the identity of an item within its resource: its key, and what led to it."""
    return f"{item.key} @{item.origin}" if item.key and item.origin else item.key


def append_key(run: str, record: Record) -> bytes:
    """Return the identity of a record under `append`: the run, the task that produced it, and the record itself."""
    return digest_of(b"\0".join((run.encode(), record.task_id.encode(), record.key + record.digest)))


class DigestStore(Protocol):
    """Remembers which records each target has; a target is the number of a file or a table."""

    def known(self, target: int, keys: Sequence[bytes], /, *, append: bool) -> dict[bytes, bytes]:
        """Return the digest of each of these records that was written; b"" for appended ones."""

    def set_digests(self, rows: list[tuple[int, bytes, bytes]], /) -> None:
        """Remember (target, key, digest) of written records, in the open transaction."""

    def set_appended(self, target: int, keys: Iterable[bytes], /) -> None:
        """Remember the keys of appended records, in the open transaction."""


class Seen:
    """
    The records that one target has, and those that the current commit adds.

    Args:
        store: The commit log that remembers them.
        target: The number of the target in the store.
        append: Write a record once for each task that produced it. Otherwise: only if it is new or changed.
        run: The id of the run.
    """

    def __init__(self, store: DigestStore, target: int, *, append: bool, run: str) -> None:
        self._store = store
        self._target = target
        self._append = append
        self._run = run
        self._new: dict[bytes, bytes] = {}
        self._known: dict[bytes, bytes] = {}
        self._looked_up: set[bytes] = set()

    def look_up(self, records: Iterable[Record]) -> None:
        """Query the store for a whole batch at once. `add_if_new` queries any other record by itself."""
        self._looked_up = {self.key(record) for record in records}
        self._known = self._store.known(self._target, list(self._looked_up), append=self._append)

    def key(self, record: Record) -> bytes:
        """Return the key of the record in the store."""
        return append_key(self._run, record) if self._append else record.key

    def add_if_new(self, record: Record) -> bool:
        """Return whether the record has to be written; if so, count it as written from now on."""
        key = self.key(record)
        known = self._known
        if key not in self._looked_up:
            known = self._store.known(self._target, [key], append=self._append)
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
        """Add the new records to the open transaction of the store."""
        if self._append:
            self._store.set_appended(self._target, self._new)
        else:
            self._store.set_digests([(self._target, key, digest) for key, digest in self._new.items()])

    def clear(self) -> None:
        """Forget the new records: they were saved, or not written."""
        self._new.clear()


def look_up(targeted: Iterable[tuple[Seen, Record]]) -> None:
    """Look up a batch of records, each in its own target."""
    by_target: dict[Seen, list[Record]] = {}
    for seen, record in targeted:
        by_target.setdefault(seen, []).append(record)
    for seen, records in by_target.items():
        seen.look_up(records)
