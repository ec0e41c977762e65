"""Child processes: they receive settings, send messages, end with or without grace, and never become orphans."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import orjson
import pytest

import scrapeq
from scrapeq.processes.child import Child

MODULE = """
    import json, os, signal, sys, time
    from scrapeq.processes.child import enter_child

    settings = enter_child()
    if settings["ignores_sigterm"]:
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
        child = Child("some_child", {"ignores_sigterm": True, "code": None}, capture_stdout=True)
        await child.start()
        await child.next_message()
        print(child.pid, flush=True)
        await asyncio.sleep(60)

    asyncio.run(main())
"""


@pytest.fixture(autouse=True)
def some_child(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Create a module for children to run."""
    (tmp_path / "some_child.py").write_text(textwrap.dedent(MODULE))
    root = Path(scrapeq.__file__).parents[1]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(root), str(tmp_path)]))


async def test_a_child_receives_its_settings_in_its_own_session() -> None:
    """Ctrl-C in the parent's terminal does not reach it, and it ignores other SIGINTs."""
    child = Child("some_child", {"ignores_sigterm": False, "code": None, "text": "ü\n"}, capture_stdout=True)
    await child.start()
    message = await child.next_message()
    assert message is not None
    assert message["settings"]["text"] == "ü\n"
    assert message["session"] == message["pid"] == child.pid
    child.send_signal(signal.SIGINT)
    assert child.running
    assert await child.stop(5.0) == -signal.SIGTERM
    assert not child.running
    child.send_signal(signal.SIGTERM)  # a signal to an ended child is not an error


async def test_a_child_that_ignores_sigterm_is_killed_after_the_grace_time() -> None:
    """SIGTERM comes first, then SIGKILL."""
    child = Child("some_child", {"ignores_sigterm": True, "code": None}, capture_stdout=True)
    await child.start()
    await child.next_message()
    assert await child.stop(0.05) == -signal.SIGKILL


async def test_a_childs_return_code_is_known() -> None:
    """The code is the child's own, and its end yields no further message."""
    child = Child("some_child", {"ignores_sigterm": False, "code": 7}, capture_stdout=True)
    await child.start()
    message = await child.next_message()
    assert message is not None and message["settings"]["code"] == 7
    assert await child.wait() == child.returncode == 7
    assert await child.next_message() is None


async def test_lines_that_are_not_json_are_skipped(tmp_path: Path) -> None:
    """Output of a library neither ends the reading nor blocks the child on a full pipe."""
    noise = "print('a warning' * 1000 + chr(10) + '[1]', flush=True)"
    (tmp_path / "noisy.py").write_text(f"for n in range(200): {noise}\nprint('{{\"done\": 1}}')\n")
    child = Child("noisy", capture_stdout=True)
    await child.start()
    assert await asyncio.wait_for(child.next_message(), 20.0) == {"done": 1}
    assert await child.next_message() is None
    assert await child.wait() == 0


async def test_a_module_that_does_not_exist_ends_with_a_code(capfd: pytest.CaptureFixture[str]) -> None:
    """A child that cannot start does not raise an error in the parent."""
    child = Child("no_such_module")
    await child.start()
    assert await asyncio.wait_for(child.wait(), 10.0) == 1
    assert "no_such_module" in capfd.readouterr().err


@pytest.mark.skipif(
    not hasattr(os, "pidfd_open"), reason="needs pidfd_open to watch the child of another process"
)
@pytest.mark.parametrize("closed", [False, True], ids=["killed parent", "closed input"])
async def test_a_child_ends_with_its_parent(closed: bool) -> None:
    """The kernel's signal or the end of its input ends the child, even if it ignores SIGTERM."""
    if closed:
        child = Child("some_child", {"ignores_sigterm": True, "code": None}, capture_stdout=True)
        await child.start()
        await child.next_message()
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
    exited = asyncio.Event()
    asyncio.get_running_loop().add_reader(descriptor, exited.set)
    try:
        parent.kill()
        await parent.wait()
        await asyncio.wait_for(exited.wait(), 3.0)
    finally:
        asyncio.get_running_loop().remove_reader(descriptor)
        os.close(descriptor)


HELD = """
    import asyncio, json
    from scrapeq.processes.child import enter_child, wait_for_parent

    settings = enter_child()
    print(json.dumps({"settings": settings}), flush=True)
    asyncio.run(wait_for_parent())
    print(json.dumps({"began": True}), flush=True)
"""


@pytest.mark.parametrize("together", [True, False])
def test_a_child_begins_when_its_parent_lets_it(tmp_path: Path, together: bool) -> None:
    """Also if that line arrives together with the settings; large settings arrive whole."""
    (tmp_path / "held_child.py").write_text(textwrap.dedent(HELD))
    with subprocess.Popen(
        [sys.executable, "-m", "held_child"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as child:
        assert child.stdin is not None and child.stdout is not None
        settings = orjson.dumps({"text": "x" * 200_000}) + b"\n"
        child.stdin.write(settings + (b"\n" if together else b""))
        child.stdin.flush()
        assert orjson.loads(child.stdout.readline())["settings"] == {"text": "x" * 200_000}
        if not together:
            child.stdin.write(b"\n")
            child.stdin.flush()
        assert orjson.loads(child.stdout.readline()) == {"began": True}
        child.stdin.close()
