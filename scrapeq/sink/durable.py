"""Files and folders that are there after a power cut."""

from __future__ import annotations

import os
from pathlib import Path

TAIL_BYTES = 65_536

sync_data = getattr(os, "fdatasync", os.fsync)  # macOS has no fdatasync


def make_folder(path: Path) -> None:
    """The folder and its parents, each entry on the disk."""
    if path.is_dir():
        return
    make_folder(path.parent)
    path.mkdir(exist_ok=True)
    sync_folder(path.parent)


def sync_folder(path: Path) -> None:
    """A new file is only there after a power cut when its folder is synced, too."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def keep_whole_lines(path: Path) -> int:
    """Cut a text file back to its whole lines; what is left of it, in bytes."""
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
