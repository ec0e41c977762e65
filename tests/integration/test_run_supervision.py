"""Restarts of children, the writer's socket and log, and how long a run waits for its store."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import pytest

from scrapeq import plan
from scrapeq.errors import OutputError, StoreError
from scrapeq.exit_codes import Exit
from scrapeq.expression import compile_template
from scrapeq.processes import process_group
from scrapeq.processes.child import Child
from scrapeq.processes.process_group import ProcessGroup
from scrapeq.processes.runtime_folder import SOCKET_PATH_MAX_BYTES, writer_socket
from scrapeq.store import embedded
from scrapeq.store.embedded import EmbeddedStore
from scrapeq.supervise import supervisor
from scrapeq.supervise.options import RunOptions
from scrapeq.supervise.run_children import RunChildren
from scrapeq.supervise.supervisor import Supervisor
from scrapeq.writer.client import WriterProcess


def test_no_two_files_share_a_writer_socket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Names with a long common prefix, and one name in two files; every path is short enough for a socket."""
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    names = ["n" * 40 + "a", "n" * 40 + "b", "ü" * 200]
    sockets = [writer_socket(tmp_path, file, name) for file in ("a.yaml", "b.yaml") for name in names]
    assert len(set(sockets)) == 6
    assert writer_socket(tmp_path, str(Path("a.yaml").absolute()), names[0]) == sockets[0]
    assert all(len(str(path)) <= SOCKET_PATH_MAX_BYTES for path in sockets)


async def test_a_child_that_cannot_be_started_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """If the system cannot create a process, the user sees why, and the group tries again."""
    events: list[str] = []
    tries: list[Child] = []
    started = asyncio.Event()

    async def start(child: Child) -> None:
        tries.append(child)
        if len(tries) < 3:
            raise BlockingIOError(11, "Resource temporarily unavailable")
        started.set()

    monkeypatch.setattr(Child, "start", start)
    monkeypatch.setattr(process_group, "RESTART_FIRST_S", 0.001)
    group = ProcessGroup(lambda message: False, events.append, lambda: True, None)
    group.keep_running("fetcher 1", "no_module", {})
    await asyncio.wait_for(started.wait(), 5.0)
    await group.close()
    assert events[0] == (
        "fetcher 1 cannot be started (Resource temporarily unavailable); next try in 0.001 s"
    )


def test_reports_of_children_reach_the_run() -> None:
    """Counts add up, a finding about the file is shown once, and a fatal report ends the run."""
    events: list[str] = []
    failures: list[tuple[int, str]] = []
    children = RunChildren(None, events.append, lambda *failure: failures.append(failure), lambda: False)
    did_work = [
        children._on_message({"ready": True, "events": ["check  3 pages; of a", "fetcher 1 parked"]}),
        children._on_message({"tally": {"done": 1, "requests": 2}, "events": ["check  4 pages; of b"]}),
        children._on_message({"tally": {"requests": 1}, "fatal": "bound", "message": "--max-requests 3"}),
    ]
    assert did_work == [False, True, False]
    assert children.ready
    assert children.take_tally() == {"done": 1, "requests": 3}
    assert children.take_tally() == {}
    assert events == ["check  3 pages; of a", "fetcher 1 parked"]
    assert failures == [(Exit.STOPPED, "--max-requests 3")]


async def test_the_writer_logs_to_the_log_file(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """A traceback of the writer is in the log, not in the terminal."""
    outputs = [plan.Output("jsonl", compile_template("out.jsonl"), ())]
    with (tmp_path / "log").open("w") as log:
        writer = WriterProcess(outputs, base=tmp_path, path=tmp_path / "w.sock", stderr=log)
        writer._settings = {}  # without settings it fails with a traceback
        with pytest.raises(OutputError):
            await writer.start()
    assert "KeyError" in (tmp_path / "log").read_text()
    assert capfd.readouterr().err == ""


async def test_start_waits_for_a_store_that_loads_its_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`loading` is set meanwhile, so that the run does not give up."""
    store = EmbeddedStore(tmp_path)
    real_command = embedded._command
    loading_seen: list[bool] = []

    async def command(socket: Path, text: bytes) -> bytes:
        reply = await real_command(socket, text)
        if reply.startswith(b"+PONG") and len(loading_seen) < 3:
            reply = b"-LOADING Redis is loading the dataset in memory"
            loading_seen.append(store.loading)
        return reply

    monkeypatch.setattr(embedded, "_command", command)
    try:
        await store.start()
        assert loading_seen == [False, True, True]
        assert not store.loading
    finally:
        await store.stop()


@pytest.mark.parametrize("loading", [True, False])
async def test_a_run_waits_for_a_store_only_while_it_loads(
    loading: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise the run fails with the store's own error."""

    class Run:
        over, ticks, snapshot = False, 0, None
        failure: tuple[int, str] | None = None

        async def tick(self) -> None:
            self.ticks += 1
            if self.ticks < 4:
                raise StoreError("away")
            self.over = True

        def fail(self, code: int, message: str) -> None:
            self.failure = code, message

    class NoProgress:
        def update(self, snapshots: Any) -> None: ...

    monkeypatch.setattr(supervisor, "STORE_AWAY_MAX_S", -1.0 if not loading else 0.005)
    monkeypatch.setattr(supervisor, "TICK_S", 0.01)
    watched: Any = Supervisor([], RunOptions(), NoProgress(), tmp_path)  # type: ignore[arg-type]  # it only updates
    watched._store = EmbeddedStore(tmp_path)
    watched._store.loading = loading
    run = Run()
    watched._runs = [run]
    started_s = time.monotonic()
    await watched._watch()
    assert run.failure == (None if loading else (6, "away"))
    assert time.monotonic() - started_s < 5.0
