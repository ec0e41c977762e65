"""What the outputs that write files share: a folder with its ledger, a file for each path, few descriptors."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path

from scrapeq import plan
from scrapeq.errors import OutputError, UsageError
from scrapeq.sink.appended import AppendedFile, know_file, recover
from scrapeq.sink.durable import make_folder
from scrapeq.sink.ledger import Ledger
from scrapeq.sink.output import CapturedResponse, Record, SinkContext
from scrapeq.sink.output_paths import OutputPath
from scrapeq.sink.seen import Seen, disposition_of, look_up

OPEN_MAX = 128  # descriptors that one output keeps between commits


class FileSink:
    """
    An output of files that grow (`output.OutputSink`).

    Args:
        output: Its settings.
        context: Its surroundings.
        inside: Its path is a folder; the file in it.
    """

    default = "append_changes"
    dispositions: Sequence[str] = ("append", "append_changes")
    packs = True

    def __init__(self, output: plan.Output, context: SinkContext, *, inside: str = "") -> None:
        if output.path is None:
            raise UsageError(f"{output.type}: path is missing")
        self.output = output
        self.context = context
        self.place = OutputPath(output, context.base, inside=inside)
        self.append = disposition_of(output, self.default, self.dispositions) == "append"
        self.files: dict[Path, AppendedFile] = {}
        self._ledger: Ledger | None = None
        self._changed: dict[AppendedFile, None] = {}
        self._are_new = False  # files that the ledger did not know, now in its transaction

    @property
    def ledger(self) -> Ledger:
        """Its folder's."""
        assert self._ledger is not None
        return self._ledger

    def open(self) -> None:
        """Take the folder, and prove that its files can be written."""
        make_folder(self.place.folder)
        self._ledger = self.context.ledger(self.place.folder, recover)
        if self.output.path is not None and "seed" not in self.output.path.names:
            for resource in self.output.resources:
                path = self.place.path(resource, {})
                if path.exists() and not os.access(path, os.W_OK):
                    raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))

    def stage(self, records: Sequence[Record], answers: Sequence[CapturedResponse]) -> Iterable[bool]:
        """Take in the records that are new to their file."""
        placed = [(self.file_of(record), record) for record in records]
        look_up((file.seen, record) for file, record in placed)
        return [self.take(file, record) for file, record in placed]

    def take(self, file: AppendedFile, record: Record) -> bool:
        """Put a record into its file, if it is new there."""
        if not file.seen.is_new(record):
            return False
        file.pieces.append(record.line + b"\n")
        self._changed[file] = None
        return True

    def touch(self, file: AppendedFile) -> None:
        """The file has something to write."""
        self._changed[file] = None

    def write(self) -> None:
        """To the disk."""
        if self._are_new:
            self.ledger.commit()
            self._are_new = False
        for file in self._changed:
            self.write_file(file)
        held = [file for file in self.files.values() if file.is_open] if len(self.files) > OPEN_MAX else []
        for file in held[: max(0, len(held) - OPEN_MAX)]:
            file.close()

    def write_file(self, file: AppendedFile) -> None:
        """One file's part of it."""
        file.append()

    def commit(self) -> None:
        """Into the ledger's transaction."""
        if self._changed:
            self.ledger.begin()
        for file in self._changed:
            file.settle()
        self._changed = {}

    def abandon(self) -> None:
        """Cut the files back."""
        for file in self._changed:
            with suppress(OSError):
                file.abandon()

    def close(self) -> None:
        """Give back the descriptors; the context closes the ledger."""
        for file in self.files.values():
            file.close()
        self.files, self._changed, self._ledger = {}, {}, None

    def file_of(self, record: Record) -> AppendedFile:
        """The file of a record, known to the ledger."""
        path = self.place.path(record.item.resource, record.item.seed)
        return self.files.get(path) or self.file_at(path)

    def file_at(self, path: Path) -> AppendedFile:
        """A file that is not open yet."""
        if self.context.claim(path, self) is not self:
            raise OutputError(f"{path}: two outputs write to it; give each a path of its own")
        state, is_new = know_file(self.ledger, path)
        self._are_new = self._are_new or is_new
        seen = Seen(self.ledger, state.id, append=self.append, run=self.context.run)
        self.files[path] = file = AppendedFile(self.ledger, state, self.output, seen, packs=self.packs)
        return file
