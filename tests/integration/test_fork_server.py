"""The fork server: its children receive signals, and their end is noticed, from their first moment on."""

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
EXITING = """
import os

def main():
    os._exit(9)
"""
EXITED = """
import asyncio
import contextlib
import os
from scrapeq.processes.child import Child, event_loop_runner, use_fork_server
from scrapeq.processes.fork_server import open_fork_server

async def exited():
    codes = set()
    for _ in range(100):
        child = Child("exiting", {"text": "x" * 1000}, capture_stdout=True)
        await child.start()
        assert await asyncio.wait_for(child.next_message(), 5.0) is None
        codes.add(await asyncio.wait_for(child.wait(), 5.0))
    return codes

async def slow_fork(*args):
    pid = await fork(*args)
    with contextlib.suppress(ProcessLookupError):  # raised when the child has ended
        while True:
            os.kill(pid, 0)
            await asyncio.sleep(0.001)
    return pid

fork_server = open_fork_server(["exiting"])
fork, fork_server.fork = fork_server.fork, slow_fork
use_fork_server(fork_server)
with event_loop_runner() as runner:
    print(runner.run(exited()))
fork_server.close()
"""


def run_script(folder: Path, **modules: str) -> subprocess.CompletedProcess[str]:
    """Write modules into a folder and run the last one."""
    for name, source in modules.items():
        (folder / f"{name}.py").write_text(source)
    return subprocess.run(
        [sys.executable, f"{name}.py"],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": f"{ROOT}:{folder}"},
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )


def test_a_signal_right_after_the_fork_is_not_lost(tmp_path: Path) -> None:
    """A run that ends at once sends such a signal to the child that it has just started."""
    done = run_script(tmp_path, sleeper=SLEEPER, signalled=SIGNALLED)
    assert (done.returncode, done.stdout) == (0, "{-15}\n"), done.stderr


def test_a_child_that_ends_before_it_reads_its_settings_is_no_error(tmp_path: Path) -> None:
    """Its input may be closed already when the parent writes the settings; the parent gets its exit code."""
    done = run_script(tmp_path, exiting=EXITING, exited=EXITED)
    assert (done.returncode, done.stdout) == (0, "{9}\n"), done.stderr
