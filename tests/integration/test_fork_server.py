"""The fork server: its children receive signals from their first moment on."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
TIMEOUT_S = 60.0
SLEEPER = """
import time

def main():
    time.sleep(60)
"""
SIGNALLED = """
import asyncio, os, signal, sys
from scrapeq.processes.fork_server import open_fork_server

async def signalled(fork_server):
    codes = set()
    for _ in range(50):
        pid = await fork_server.fork("sleeper", (), (0, 1, 2))
        os.kill(pid, signal.SIGTERM)
        codes.add(await asyncio.wait_for(fork_server.wait(pid), 5.0))
    return codes

fork_server = open_fork_server(["sleeper"])
try:
    print(asyncio.run(signalled(fork_server)))
finally:
    fork_server.close()
"""


def test_a_signal_right_after_the_fork_is_not_lost(tmp_path: Path) -> None:
    """A run that ends at once sends such a signal to the child that it has just started."""
    (tmp_path / "sleeper.py").write_text(SLEEPER)
    (tmp_path / "signalled.py").write_text(SIGNALLED)
    done = subprocess.run(
        [sys.executable, "signalled.py"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": f"{ROOT}:{tmp_path}"},
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "{-15}\n"), done.stderr
