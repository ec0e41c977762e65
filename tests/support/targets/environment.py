"""
Create the environments of third-party applications and run programs in them.

`python tests/support/targets/environment.py` creates them all.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

HOST = "127.0.0.1"
FOLDER = Path(__file__).parents[3] / "benchmarks" / ".targets"
INSTALL_TIMEOUT_S, START_TIMEOUT_S = 300.0, 30.0
REQUIREMENTS = {
    "datasette": ("datasette>=0.65,<1",),
    "django": ("django>=5.2,<6", "djangorestframework>=3.16,<4"),
}


def make(name: str) -> Path:
    """
    Return the Python of an environment; create the environment if it does not exist.

    Raises OSError, CalledProcessError, TimeoutExpired.
    """
    requirements = REQUIREMENTS[name]
    digest = hashlib.sha256("\n".join((sys.version, *requirements)).encode()).hexdigest()[:16]
    home = FOLDER / f"{name}-{digest}"
    python = home / "bin" / "python"
    if (home / "complete").exists():
        return python
    shutil.rmtree(home, ignore_errors=True)
    _call([sys.executable, "-m", "venv", "--without-pip", str(home)])
    _call([sys.executable, "-m", "pip", "--python", str(python), "install", "-q", *requirements])
    (home / "complete").touch()
    return python


def _call(command: Sequence[str]) -> None:
    subprocess.run(command, check=True, capture_output=True, text=True, timeout=INSTALL_TIMEOUT_S)


def python_of(name: str) -> Path:
    """Return the Python of an environment. Without one, fail in CI and skip the test elsewhere."""
    try:
        return make(name)
    except (OSError, subprocess.SubprocessError) as error:
        message = f"cannot install {name}: {getattr(error, 'stderr', '') or error}"
        if os.environ.get("CI") == "true":
            pytest.fail(message)
        pytest.skip(message)


def free_port() -> int:
    """Return a free port."""
    with socket.socket() as found:
        found.bind((HOST, 0))
        port: int = found.getsockname()[1]
        return port


@contextmanager
def served(command: Sequence[str], port: int, folder: Path) -> Iterator[str]:
    """Run a server in its own process; yield its URL once it accepts connections."""
    log = folder / "server.log"
    with log.open("wb") as out:
        process = subprocess.Popen(command, cwd=folder, stdout=out, stderr=out, stdin=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + START_TIMEOUT_S
        while True:
            try:
                socket.create_connection((HOST, port), timeout=1.0).close()
                break
            except OSError:
                assert process.poll() is None and time.monotonic() < deadline, log.read_text()[-2000:]
                time.sleep(0.05)
        yield f"http://{HOST}:{port}"
    finally:
        process.terminate()
        process.wait(START_TIMEOUT_S)


if __name__ == "__main__":
    for each in REQUIREMENTS:
        sys.stdout.write(f"{make(each)}\n")
