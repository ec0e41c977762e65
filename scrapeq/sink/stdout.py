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
    Prints one line per item. A slow reader slows down the whole run; a reader that closes the pipe ends it.

    A killed writer may leave half a line. The next writer starts with a line break, so that only that line is broken.
    """

    default = "append"
    dispositions = ("append", "append_changes")
    _is_mid_line: bool | None = None

    def write_batch(self, records: Sequence[Record]) -> None:
        """Write all lines, waiting for the reader if needed."""
        text = b"".join(record.line + b"\n" for record in records)
        is_mid_line = self.context.restarted if self._is_mid_line is None else self._is_mid_line
        self._is_mid_line = True  # until everything is written
        remaining = memoryview(b"\n" + text if is_mid_line else text)
        fd = self.context.stdout
        while remaining:
            try:
                remaining = remaining[os.write(fd, remaining) :]
            except BlockingIOError:
                select.select([], [fd], [])
            except OSError as error:
                raise OutputError(f"stdout: the output cannot be written: {error.strerror}") from None
        self._is_mid_line = False
