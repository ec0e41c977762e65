"""The runtime folder: a private folder whose path is short enough for Unix sockets."""

from __future__ import annotations

import base64
import hashlib
import os
import stat
from pathlib import Path

from scrapeq.errors import StoreError

SOCKET_PATH_MAX_BYTES = 103  # sun_path holds 108 bytes on Linux, 104 on macOS, the closing NUL included
LONGEST_NAME = "/writer.sock"  # the longest socket name that must fit into the folder


def runtime_folder(folder: Path) -> Path:
    """
    Return the folder (mode 0700) for the sockets of one data folder; create it if it is missing.

    The path is derived from the data folder's real path, so every command on this machine finds the same one:
    `$XDG_RUNTIME_DIR/scrapeq/<digest>`, else `/tmp/scrapeq-<uid>/<digest>`.

    Raises:
        StoreError: the folder cannot be created, or belongs to another user.
    """
    digest = hashlib.blake2b(os.fsencode(folder.resolve()), digest_size=8).hexdigest()
    runtime_dir = os.environ.get("XDG_RUNTIME_DIR", "")
    if runtime_dir and Path(runtime_dir).is_absolute() and os.access(runtime_dir, os.W_OK | os.X_OK):
        parent = Path(runtime_dir) / "scrapeq"
        if len(os.fsencode(parent / digest)) + len(LONGEST_NAME) <= SOCKET_PATH_MAX_BYTES:
            return _private(_private(parent) / digest)
    return _private(_private(Path(f"/tmp/scrapeq-{os.getuid()}")) / digest)


def writer_socket(folder: Path, file: str, name: str) -> Path:
    """Return the path of the writer's socket for one file's run; two files never share a socket."""
    identity = f"{Path(file).absolute()}\0{name}".encode(errors="surrogateescape")
    digest = base64.b32encode(hashlib.blake2b(identity, digest_size=5).digest()).decode().lower()
    digest_length = len(LONGEST_NAME) - len("/w.sock")
    return runtime_folder(folder) / f"w{digest[:digest_length]}.sock"


def _private(path: Path) -> Path:
    """Create `path` with mode 0700; refuse a folder that other users own or may enter, since /tmp is shared."""
    try:
        path.mkdir(mode=0o700, exist_ok=True)
        found = path.lstat()
    except OSError as error:
        raise StoreError(
            f"{path}: cannot create this folder for sockets: {error.strerror}. "
            "Set XDG_RUNTIME_DIR to a private folder that you can write to"
        ) from None
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
        raise StoreError(
            f"{path}: not a folder owned by this user. Remove it, or set XDG_RUNTIME_DIR to a private folder"
        )
    if stat.S_IMODE(found.st_mode) & 0o077:
        raise StoreError(f"{path}: other users can enter this folder. Run `chmod 700 {path}`")
    return path
