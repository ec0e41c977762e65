"""`FileSink`, the base class of outputs that append to files: a folder with a ledger, and one file per path."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path

from scrapeq import plan
from scrapeq.errors import OutputError, UsageError
from scrapeq.sink.appended import AppendedFile, recover, register_file
from scrapeq.sink.durable import make_folder
from scrapeq.sink.ledger import Ledger
from scrapeq.sink.output import CapturedResponse, Record, SinkContext
from scrapeq.sink.output_paths import OutputPath
from scrapeq.sink.seen import Seen, disposition_of, look_up

MAX_OPEN_FILES = 128  # descriptors that one output keeps open between commits


class FileSink:
    """
    An output that appends to files (`output.OutputSink`).

    Args:
        output: The settings of the output.
        context: What the outputs of a plan share.
        file_name: The output's path is a folder, and this is the name of the file in it. "": the path is a file.

    Attributes:
        default, dispositions: See `BatchSink`.
        compresses: Files are compressed as their name asks for. False: the sink compresses its pieces itself.
    """

    default = "append_changes"
    dispositions: Sequence[str] = ("append", "append_changes")
    compresses = True

    def __init__(self, output: plan.Output, context: SinkContext, *, file_name: str = "") -> None:
        if output.path is None:
            raise UsageError(f"{output.type}: path is missing")
        self.output = output
        self.context = context
        self.output_path = OutputPath(output, context.base, file_name=file_name)
        self.append = disposition_of(output, self.default, self.dispositions) == "append"
        self.files: dict[Path, AppendedFile] = {}
        self._ledger: Ledger | None = None
        self._changed: dict[AppendedFile, None] = {}
        self._has_new_files = False  # files that this commit adds to the ledger

    @property
    def title(self) -> str:
        """The name of the output in error messages."""
        return str(self.output_path.folder)

    @property
    def ledger(self) -> Ledger:
        """The ledger of the folder, once it is open."""
        assert self._ledger is not None
        return self._ledger

    def open(self) -> None:
        """Lock the folder, repair its files after a crash, and make sure that they can be written."""
        make_folder(self.output_path.folder)
        self._ledger = self.context.ledger(self.output_path.folder, recover)
        if self.output.path is not None and "seed" not in self.output.path.names:
            for resource in self.output.resources:
                path = self.output_path.path(resource, {})
                if path.exists() and not os.access(path, os.W_OK):
                    raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))

    def stage(self, records: Sequence[Record], responses: Sequence[CapturedResponse]) -> Iterable[bool]:
        """Add the records that are new to their file."""
        targeted = [(self.file_for(record), record) for record in records]
        look_up((file.seen, record) for file, record in targeted)
        return [self.add(file, record) for file, record in targeted]

    def add(self, file: AppendedFile, record: Record) -> bool:
        """Add a record to its file if it is new there; return whether it is."""
        if not file.seen.add_if_new(record):
            return False
        file.pieces.append(record.line + b"\n")
        self._changed[file] = None
        return True

    def mark_changed(self, file: AppendedFile) -> None:
        """Include the file in the current commit."""
        self._changed[file] = None

    def write(self) -> None:
        """Write every changed file to the disk."""
        if self._has_new_files:
            self.ledger.commit()
            self._has_new_files = False
        for file in self._changed:
            self.write_file(file)
        if len(self.files) > MAX_OPEN_FILES:
            open_files = [file for file in self.files.values() if file.is_open]
            for file in open_files[: max(0, len(open_files) - MAX_OPEN_FILES)]:
                file.close()

    def write_file(self, file: AppendedFile) -> None:
        """Write what the commit adds to one file."""
        file.append()

    def commit(self) -> None:
        """Add the new state of every changed file to the transaction of the ledger."""
        if self._changed:
            self.ledger.begin()
        for file in self._changed:
            file.save_state()
        self._changed = {}

    def abandon(self) -> None:
        """Cut the changed files back to their committed length."""
        for file in self._changed:
            with suppress(OSError):
                file.abandon()

    def close(self) -> None:
        """Close the files; the context closes the ledger."""
        for file in self.files.values():
            file.close()
        self.files, self._changed, self._ledger = {}, {}, None

    def file_for(self, record: Record) -> AppendedFile:
        """Return the file of a record, registered in the ledger."""
        path = self.output_path.path(record.item.resource, record.item.seed)
        return self.files.get(path) or self.open_file(path)

    def open_file(self, path: Path) -> AppendedFile:
        """Register and return a file. Raises OutputError if another output of the plan writes to it."""
        if self.context.claim(path, self) is not self:
            raise OutputError(f"{path}: two outputs write to this file; give each its own path")
        state, is_new = register_file(self.ledger, path)
        self._has_new_files = self._has_new_files or is_new
        seen = Seen(self.ledger, state.id, append=self.append, run=self.context.run)
        self.files[path] = file = AppendedFile(
            self.ledger, state, self.output, seen, compresses=self.compresses
        )
        return file
