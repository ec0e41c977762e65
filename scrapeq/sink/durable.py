"""File operations whose result survives a power cut."""

from __future__ import annotations

import os
from pathlib import Path

TAIL_BYTES = 65_536

sync_data = getattr(os, "fdatasync", os.fsync)  # macOS does not have fdatasync


def make_folder(path: Path) -> None:
    """Create a folder and its missing parents, each durably."""
    if path.is_dir():
        return
    make_folder(path.parent)
    path.mkdir(exist_ok=True)
    sync_folder(path.parent)


def sync_folder(path: Path) -> None:
    """Make the entries of a folder durable: a new file survives a power cut only if its folder was synced."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def keep_whole_lines(path: Path) -> int:
    """Truncate a text file after its last line break; return its new length in bytes."""
    with path.open("rb+") as file:
        end = file.seek(0, os.SEEK_END)
        while end > 0:
            start = max(0, end - TAIL_BYTES)
            file.seek(start)
            newline = file.read(end - start).rfind(b"\n")
            if newline >= 0:
                end = start + newline + 1
                break
            end = start
        file.truncate(end)
        return end
