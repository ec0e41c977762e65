"""Child processes: settings in, lines out, ended with a grace time or without, and never orphans."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

import scrapeq
from scrapeq.processes.child import Child

MODULE = """
    import json, os, signal, sys, time
    from scrapeq.processes.child import enter_child

    settings = enter_child()
    if settings["deaf"]:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    print(json.dumps({"settings": settings, "session": os.getsid(0), "pid": os.getpid()}), flush=True)
    if settings["code"] is not None:
        sys.exit(settings["code"])
    time.sleep(60)
"""
PARENT = """
    import asyncio, sys
    from scrapeq.processes.child import Child

    async def main():
        child = Child("some_child", {"deaf": True, "code": None}, listen=True)
        await child.start()
        await child.line()
        print(child.pid, flush=True)
        await asyncio.sleep(60)

    asyncio.run(main())
"""


@pytest.fixture(autouse=True)
def some_child(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A module for children to run."""
    (tmp_path / "some_child.py").write_text(textwrap.dedent(MODULE))
    root = Path(scrapeq.__file__).parents[1]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(root), str(tmp_path)]))


async def test_a_child_gets_its_settings_and_its_own_session() -> None:
    """Ctrl-C in the parent's terminal does not reach it, and it ignores SIGINT from elsewhere."""
    child = Child("some_child", {"deaf": False, "code": None, "text": "ü\n"}, listen=True)
    await child.start()
    line = await child.line()
    assert line["settings"]["text"] == "ü\n"
    assert line["session"] == line["pid"] == child.pid
    child.send_signal(signal.SIGINT)
    assert child.running
    assert await child.stop(5.0) == -signal.SIGTERM
    assert not child.running
    child.send_signal(signal.SIGTERM)  # the child is gone: not an error


async def test_a_child_that_ignores_sigterm_is_killed_after_the_grace_time() -> None:
    """SIGTERM first, then SIGKILL."""
    child = Child("some_child", {"deaf": True, "code": None}, listen=True)
    await child.start()
    await child.line()
    assert await child.stop(0.05) == -signal.SIGKILL


async def test_a_childs_return_code_is_known() -> None:
    """It has its own code, and sends no line after its end."""
    child = Child("some_child", {"deaf": False, "code": 7}, listen=True)
    await child.start()
    assert (await child.line())["settings"]["code"] == 7
    assert await child.wait() == child.returncode == 7
    assert await child.line() is None


async def test_lines_that_are_not_json_are_ignored(tmp_path: Path) -> None:
    """Output of libraries neither ends the reading nor blocks the child on a full pipe."""
    noise = "print('a warning' * 1000 + chr(10) + '[1]', flush=True)"
    (tmp_path / "noisy.py").write_text(f"for n in range(200): {noise}\nprint('{{\"done\": 1}}')\n")
    child = Child("noisy", listen=True)
    await child.start()
    assert await asyncio.wait_for(child.line(), 20.0) == {"done": 1}
    assert await child.line() is None
    assert await child.wait() == 0


async def test_a_missing_module_ends_with_an_exit_code(capfd: pytest.CaptureFixture[str]) -> None:
    """A child that cannot start raises nothing in the parent."""
    child = Child("no_such_module")
    await child.start()
    assert await asyncio.wait_for(child.wait(), 10.0) == 1
    assert "no_such_module" in capfd.readouterr().err


@pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="watches a process that is not a child")
@pytest.mark.parametrize("closed", [False, True], ids=["killed parent", "closed input"])
async def test_a_child_ends_with_its_parent(closed: bool) -> None:
    """By a signal of the kernel, and otherwise by the end of its input, even if it ignores SIGTERM."""
    if closed:
        child = Child("some_child", {"deaf": True, "code": None}, listen=True)
        await child.start()
        await child.line()
        assert child._process is not None
        assert child._process.stdin is not None
        child._process.stdin.close()
        assert await asyncio.wait_for(child.wait(), 3.0) == 1
        return
    parent = await asyncio.create_subprocess_exec(
        sys.executable, "-c", textwrap.dedent(PARENT), stdout=subprocess.PIPE
    )
    assert parent.stdout is not None
    descriptor = os.pidfd_open(int(await parent.stdout.readline()))
    gone = asyncio.Event()
    asyncio.get_running_loop().add_reader(descriptor, gone.set)
    try:
        parent.kill()
        await parent.wait()
        await asyncio.wait_for(gone.wait(), 3.0)
    finally:
        asyncio.get_running_loop().remove_reader(descriptor)
        os.close(descriptor)
