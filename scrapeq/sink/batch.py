"""The base of outputs that write a batch at once and have their books kept for them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from pathlib import Path

from scrapeq import plan
from scrapeq.sink.durable import make_folder
from scrapeq.sink.output import CapturedResponse, Record, SinkContext
from scrapeq.sink.seen import Seen, digest_of, disposition_of

NAME_DIGEST = 8


class BatchSink(ABC):
    """
    An output that is given what is new or changed, a batch at a time.

    It needs `write_batch` alone, which returns when the records will last. A kill right after it has them come again,
    so it writes by the record's identity (`Record.key`) where it can; otherwise a kill may repeat one batch.
    Which records it has seen is kept in a ledger in the data folder.

        class MySink(BatchSink):
            def write_batch(self, records):
                for record in records:
                    self.database[record.key] = record.item.record

    Args:
        output: Its settings; `output.options` are its own.
        context: Its surroundings.
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
        """What a person calls it."""
        return self.output.type

    def open_target(self) -> None:  # noqa: B027  # nothing to do, for some
        """Connect, and prove that it can be written. Raises OutputError."""

    @abstractmethod
    def write_batch(self, records: Sequence[Record]) -> None:
        """Write them. Raises OutputError, or OutputAway when a repeat may help."""

    def close_target(self) -> None:  # noqa: B027
        """Let go. May be repeated."""

    def commit_log_name(self) -> str:
        """The name of its row in the ledger: what is written to another place is new there."""
        text = [self.output.type, self.output.url]
        text += [template.text for template in (self.output.path, self.output.table) if template is not None]
        text += sorted(f"{key}={value!r}" for key, value in self.output.options.items())
        return f"{self.output.type}-{digest_of(repr(text).encode()).hex()[:NAME_DIGEST]}"

    def open(self) -> None:
        """Open the ledger and the target."""
        place = Path(self.context.data) / (self.context.name or "plan")
        make_folder(place)
        ledger = self.context.ledger(place)
        state = ledger.file(place / self.commit_log_name())
        if state is None:
            ledger.begin()
            state = ledger.add_file(place / self.commit_log_name(), 0)
            ledger.commit()
        self._ledger = ledger
        self._seen = Seen(ledger, state.id, append=self.append, run=self.context.run)
        self.open_target()

    def stage(self, records: Sequence[Record], answers: Sequence[CapturedResponse]) -> Iterable[bool]:
        """Keep what is new."""
        assert self._seen is not None
        self._seen.look_up(records)
        found = [self._seen.is_new(record) for record in records]
        self._batch += [record for record, is_new in zip(records, found, strict=True) if is_new]
        return found

    def write(self) -> None:
        """Write the batch."""
        if self._batch:
            self.write_batch(self._batch)

    def commit(self) -> None:
        """Remember it."""
        if self._batch and self._seen is not None:
            self._ledger.begin()
            self._seen.save()
            self._seen.forget()
        self._batch = []

    def abandon(self) -> None:
        """Forget it."""
        self._batch = []

    def close(self) -> None:
        """Let go; the context closes the ledger."""
        self._batch, self._seen = [], None
        self.close_target()
