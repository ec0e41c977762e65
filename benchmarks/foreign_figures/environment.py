"""Installs the third-party servers into a separate environment, never into the project's."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import venv
from pathlib import Path

FOLDER = Path(__file__).resolve().parents[1]
SERVERS = FOLDER / "servers"
ENVIRONMENT = FOLDER / ".env"
TIMEOUT_S = 600


class MissingError(Exception):
    """A requirement of a server is missing on this machine, or could not be installed."""


def command(kind: str) -> list[str]:
    """Return the command that starts a server of a kind (`node`, `python`, `nginx`); install its requirements first."""
    return {"node": _node, "python": _python, "nginx": _nginx}[kind]()


def variables(kind: str) -> dict[str, str]:
    """Return the environment variables of its process."""
    return {"NODE_PATH": str(ENVIRONMENT / "node" / "node_modules")} if kind == "node" else {}


def _node() -> list[str]:
    for needed in ("node", "npm"):
        if shutil.which(needed) is None:
            raise MissingError(f"{needed} is not on PATH; install Node.js")
    files = [SERVERS / "node" / name for name in ("package.json", "package-lock.json")]
    folder = ENVIRONMENT / "node"
    if _stale(folder, files):
        folder.mkdir(parents=True, exist_ok=True)
        for file in files:
            shutil.copy(file, folder)
        _install(
            ["npm", "ci", "--no-audit", "--no-fund", "--ignore-scripts", "--prefix", str(folder)],
            folder,
            files,
        )
    return ["node", str(SERVERS / "node" / "serve.js")]


def _python() -> list[str]:
    files = [SERVERS / "python" / "requirements.txt"]
    folder = ENVIRONMENT / "python"
    python = folder / "bin" / "python"
    if _stale(folder, files):
        venv.create(folder, clear=True, with_pip=True)
        _install([str(python), "-m", "pip", "install", "-q", "-r", str(files[0])], folder, files)
    return [str(python), str(SERVERS / "python" / "serve.py")]


def _nginx() -> list[str]:
    if shutil.which("nginx") is None:
        raise MissingError("nginx is not on PATH (Debian: apt install nginx-light)")
    return [sys.executable, str(SERVERS / "nginx" / "serve.py")]


def _digest(files: list[Path]) -> str:
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()


def _stale(folder: Path, files: list[Path]) -> bool:
    stamp = folder / "installed"
    return not stamp.exists() or stamp.read_text() != _digest(files)


def _install(install: list[str], folder: Path, files: list[Path]) -> None:
    print(f"  installing into {folder.relative_to(FOLDER.parent)} …", flush=True)
    try:
        done = subprocess.run(install, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    except subprocess.TimeoutExpired:
        raise MissingError(f"{install[0]} did not finish within {TIMEOUT_S} s") from None
    if done.returncode:
        raise MissingError(f"{' '.join(install)}: {done.stderr.strip()[-500:]}")
    (folder / "installed").write_text(_digest(files))
