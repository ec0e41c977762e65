"""The runtime folder: short, private paths for Unix sockets."""

from __future__ import annotations

import base64
import hashlib
import os
import stat
from pathlib import Path

from scrapeq.errors import StoreError

SOCKET_PATH_BYTES = 103  # sun_path holds 108 bytes on Linux, 104 on macOS, the closing NUL included
LONGEST_NAME = "/writer.sock"  # what is put into the folder must still fit


def runtime_folder(folder: Path) -> Path:
    """
    The 0700 folder for the sockets of one data folder, made if it is missing.

    It is derived from the data folder's real path, so that every command on this machine finds the same one:
    `$XDG_RUNTIME_DIR/scrapeq/<digest>`, else `/tmp/scrapeq-<uid>/<digest>`.

    Raises:
        StoreError: no such folder can be made, or somebody else owns it.
    """
    digest = hashlib.blake2b(os.fsencode(folder.resolve()), digest_size=8).hexdigest()
    session = os.environ.get("XDG_RUNTIME_DIR", "")
    if session and Path(session).is_absolute() and os.access(session, os.W_OK | os.X_OK):
        place = Path(session) / "scrapeq"
        if len(os.fsencode(place / digest)) + len(LONGEST_NAME) <= SOCKET_PATH_BYTES:
            return _private(_private(place) / digest)
    return _private(_private(Path(f"/tmp/scrapeq-{os.getuid()}")) / digest)


def writer_socket(folder: Path, file: str, name: str) -> Path:
    """The socket of the writer of one file's run, for the data folder: two files never share one."""
    whose = f"{Path(file).absolute()}\0{name}".encode(errors="surrogateescape")
    digest = base64.b32encode(hashlib.blake2b(whose, digest_size=5).digest()).decode().lower()
    room = len(LONGEST_NAME) - len("/w.sock")
    return runtime_folder(folder) / f"w{digest[:room]}.sock"


def _private(path: Path) -> Path:
    """Make `path` with mode 0700 and refuse it if it is not ours alone: /tmp is everybody's."""
    try:
        path.mkdir(mode=0o700, exist_ok=True)
        found = path.lstat()
    except OSError as error:
        raise StoreError(f"{path}: the folder for sockets cannot be made: {error.strerror}") from None
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
        raise StoreError(
            f"{path}: is no folder of this user; remove it, or set XDG_RUNTIME_DIR to a private folder"
        )
    if stat.S_IMODE(found.st_mode) & 0o077:
        raise StoreError(f"{path}: others may enter it; run `chmod 700 {path}`")
    return path
