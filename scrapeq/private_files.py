"""Files and folders that only their owner can use, whatever the umask: the data folder holds tasks and credentials."""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from pathlib import Path

FOLDER_MODE, FILE_MODE = 0o700, 0o600


def private_folder(path: Path) -> None:
    """Create a folder with mode 0700, or give that mode to a folder of this user. Raises OSError."""
    path.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)
    _restrict(path, FOLDER_MODE)


def private_file(path: Path) -> None:
    """Create a file with mode 0600, or give that mode to a file of this user. Raises OSError."""
    os.close(os.open(path, os.O_CREAT | os.O_RDWR, FILE_MODE))
    _restrict(path, FILE_MODE)


def keep_owner_bits() -> None:
    """Let the umask of this process never take rights from the owner; for others it stays as the user set it."""
    os.umask(os.umask(0) & 0o077)


def _restrict(path: Path, mode: int) -> None:
    found = path.stat()
    if found.st_uid == os.getuid() and stat.S_IMODE(found.st_mode) != mode:
        with suppress(PermissionError):  # a file system that fixes the modes
            path.chmod(mode)
