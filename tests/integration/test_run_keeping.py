"""What a run keeps alive, where its writer listens, and how long it waits for its store."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import pytest

from scrapeq import plan
from scrapeq.errors import OutputError, StoreError
from scrapeq.expression import compile_template
from scrapeq.processes.child import Child
from scrapeq.processes.runtime_folder import SOCKET_PATH_BYTES, writer_socket
from scrapeq.store import embedded as store
from scrapeq.store.embedded import EmbeddedStore
from scrapeq.supervise import child_supervision, supervisor
from scrapeq.supervise.child_supervision import ChildSupervision
from scrapeq.supervise.options import RunOptions
from scrapeq.supervise.supervisor import Supervisor
from scrapeq.writer.client import WriterProcess


def test_no_two_files_share_a_socket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Long names that begin alike, and one name in two files; and each path is short enough."""
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    names = ["n" * 40 + "a", "n" * 40 + "b", "ü" * 200]
    sockets = [writer_socket(tmp_path, file, name) for file in ("a.yaml", "b.yaml") for name in names]
    assert len(set(sockets)) == 6
    assert writer_socket(tmp_path, str(Path("a.yaml").absolute()), names[0]) == sockets[0]
    assert all(len(str(path)) <= SOCKET_PATH_BYTES for path in sockets)


async def test_a_child_that_cannot_be_started_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """No process to be had is told, and is no end of the child_supervision."""
    events: list[str] = []
    tries: list[Child] = []
    started = asyncio.Event()

    async def start(child: Child) -> None:
        tries.append(child)
        if len(tries) < 3:
            raise BlockingIOError(11, "Resource temporarily unavailable")
        started.set()

    monkeypatch.setattr(Child, "start", start)
    monkeypatch.setattr(child_supervision, "RESTART_FIRST_S", 0.001)
    kept = ChildSupervision(None, events.append, lambda code, message: None, lambda: False)
    kept.keep("fetcher 1", "no_module", {})
    await asyncio.wait_for(started.wait(), 5.0)
    await kept.close()
    assert events[0] == "fetcher 1 cannot be started (Resource temporarily unavailable); again in 0.001 s"


async def test_what_the_writer_complains_about_goes_to_the_log(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Its standard error is the log file's, not the terminal's."""
    outputs = [plan.Output("jsonl", compile_template("out.jsonl"), ())]
    with (tmp_path / "log").open("w") as log:
        writer = WriterProcess(outputs, base=tmp_path, path=tmp_path / "w.sock", stderr=log)
        writer._settings = {}  # it fails with a traceback
        with pytest.raises(OutputError):
            await writer.start()
    assert "KeyError" in (tmp_path / "log").read_text()
    assert capfd.readouterr().err == ""


async def test_a_store_that_loads_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its data may take longer to load than a store may be away."""
    embedded = EmbeddedStore(tmp_path)
    real = store._say
    seen: list[bool] = []

    async def say(socket: Path, command: bytes) -> bytes:
        said = await real(socket, command)
        if said.startswith(b"+PONG") and len(seen) < 3:
            said = b"-LOADING Redis is loading the dataset in memory"
            seen.append(embedded.loading)
        return said

    monkeypatch.setattr(store, "_say", say)
    try:
        await embedded.start()
        assert seen == [False, True, True]
        assert not embedded.loading
    finally:
        await embedded.stop()


@pytest.mark.parametrize("loading", [True, False])
async def test_how_long_a_run_waits(loading: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As long as the store loads; else it gives up, with the store's own words."""

    class Run:
        over, ticks, snapshot = False, 0, None
        failed: tuple[int, str] | None = None

        async def tick(self) -> None:
            self.ticks += 1
            if self.ticks < 4:
                raise StoreError("away")
            self.over = True

        def fail(self, code: int, message: str) -> None:
            self.failed = code, message

    class Nobody:
        def update(self, snapshots: Any) -> None: ...

    monkeypatch.setattr(supervisor, "STORE_GONE_S", -1.0 if not loading else 0.005)
    monkeypatch.setattr(supervisor, "TICK_S", 0.01)
    one: Any = Supervisor([], RunOptions(), Nobody(), tmp_path)  # type: ignore[arg-type]
    one._store = EmbeddedStore(tmp_path)
    one._store.loading = loading
    run = Run()
    one._runs = [run]
    began_s = time.monotonic()
    await one._watch()
    assert run.failed == (None if loading else (6, "away"))
    assert time.monotonic() - began_s < 5.0
