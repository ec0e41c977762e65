"""Items as JSON Lines (`.jsonl`), compressed if the file name ends in `.gz` or `.zst`."""

from __future__ import annotations

from scrapeq.sink.files import FileSink


class JsonlSink(FileSink):
    """Appends one line per item to the file at its path. In a compressed file, each commit is one frame."""
