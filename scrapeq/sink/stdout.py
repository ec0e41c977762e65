"""Items as JSON Lines on the standard output of the command."""

from __future__ import annotations

import os
import select
from collections.abc import Sequence

from scrapeq.errors import OutputError
from scrapeq.sink.batch import BatchSink
from scrapeq.sink.output import Record


class StdoutSink(BatchSink):
    """
    Prints a line for each item; a slow reader holds up the whole run, one that has gone ends it.

    After a kill, which may have come in the middle of a line, the next one begins on a line of its own.
    """

    default = "append"
    dispositions = ("append", "append_changes")
    _broken: bool | None = None

    def write_batch(self, records: Sequence[Record]) -> None:
        """All lines, whole."""
        text = b"".join(record.line + b"\n" for record in records)
        broken = self.context.restarted if self._broken is None else self._broken
        self._broken = True  # until all is written
        rest = memoryview(b"\n" + text if broken else text)
        fd = self.context.stdout
        while rest:
            try:
                rest = rest[os.write(fd, rest) :]
            except BlockingIOError:
                select.select([], [fd], [])
            except OSError as error:
                raise OutputError(f"stdout: the output cannot be written: {error.strerror}") from None
        self._broken = False
