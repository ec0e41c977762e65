"""Items as JSON Lines, each once; `.gz` and `.zst` by the file's name."""

from __future__ import annotations

from scrapeq.sink.files import FileSink


class JsonlSink(FileSink):
    """Appends a line for each item to the file of its path; packed, a frame for each commit."""
