"""`BatchSink`, the base class of outputs that receive each new or changed record in batches."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from pathlib import Path

from scrapeq import plan
from scrapeq.private_files import private_file, private_folder
from scrapeq.sink.durable import make_folder
from scrapeq.sink.ledger import LEDGER_NAME
from scrapeq.sink.output import CapturedResponse, Record, SinkContext
from scrapeq.sink.seen import Seen, digest_of, disposition_of

NAME_DIGEST_CHARS = 8


class BatchSink(ABC):
    """
    An output that receives only new or changed records, one batch per commit.

    A subclass needs only `write_batch`. Which records were written is stored in a ledger in the data folder. If the
    process is killed between `write_batch` and the commit of the ledger, the same batch comes again after the
    restart: write by the record's identity (`Record.key`) where the target can, so that a repetition changes nothing.

        class MySink(BatchSink):
            def write_batch(self, records):
                for record in records:
                    self.database[record.key] = record.item.record

    Args:
        output: The settings of the output; `output.options` are the keys that only this type has.
        context: What the outputs of a plan share.

    Attributes:
        default: The `write_disposition` if the file sets none.
        dispositions: The write dispositions that this type supports.
    """

    default = "append_changes"
    dispositions: Sequence[str] = ("merge", "append", "append_changes")

    def __init__(self, output: plan.Output, context: SinkContext) -> None:
        self.output = output
        self.context = context
        self.append = disposition_of(output, self.default, self.dispositions) == "append"
        self._seen: Seen | None = None
        self._batch: list[Record] = []

    @property
    def title(self) -> str:
        """The name of the output in error messages."""
        return self.output.type

    def open_target(self) -> None:  # noqa: B027  # optional
        """Connect, and make sure that the target can be written. Raises OutputError."""

    @abstractmethod
    def write_batch(self, records: Sequence[Record]) -> None:
        """
        Write the records durably before returning.

        Raises:
            OutputError: they cannot be written.
            OutputUnavailable: they cannot be written now; a retry may help.
        """

    def close_target(self) -> None:  # noqa: B027  # optional
        """Disconnect. Safe to call twice."""

    def ledger_name(self) -> str:
        """Return the name of this target in the ledger. Another target gets another name, and all records again."""
        text = [self.output.type, self.output.url]
        text += [template.text for template in (self.output.path, self.output.table) if template is not None]
        text += sorted(f"{key}={value!r}" for key, value in self.output.options.items())
        return f"{self.output.type}-{digest_of(repr(text).encode()).hex()[:NAME_DIGEST_CHARS]}"

    def open(self) -> None:
        """Open the ledger and the target."""
        folder = Path(self.context.data) / (self.context.name or "plan")
        make_folder(folder)
        for private in (folder.parent, folder):
            private_folder(private)
        private_file(folder / LEDGER_NAME)
        ledger = self.context.ledger(folder)
        state = ledger.file(folder / self.ledger_name())
        if state is None:
            ledger.begin()
            state = ledger.add_file(folder / self.ledger_name(), 0)
            ledger.commit()
        self._ledger = ledger
        self._seen = Seen(ledger, state.id, append=self.append, run=self.context.run)
        self.open_target()

    def stage(self, records: Sequence[Record], responses: Sequence[CapturedResponse]) -> Iterable[bool]:
        """Add the new and changed records to the batch."""
        assert self._seen is not None
        self._seen.look_up(records)
        are_new = [self._seen.add_if_new(record) for record in records]
        self._batch += [record for record, is_new in zip(records, are_new, strict=True) if is_new]
        return are_new

    def write(self) -> None:
        """Write the batch."""
        if self._batch:
            self.write_batch(self._batch)

    def commit(self) -> None:
        """Add the batch to the transaction of the ledger."""
        if self._batch and self._seen is not None:
            self._ledger.begin()
            self._seen.save()
            self._seen.clear()
        self._batch = []

    def abandon(self) -> None:
        """Drop the batch."""
        self._batch = []

    def close(self) -> None:
        """Disconnect; the context closes the ledger."""
        self._batch, self._seen = [], None
        self.close_target()
