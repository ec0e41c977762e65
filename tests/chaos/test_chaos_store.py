"""A store that loses its scripts, refuses, is busy or dies: every operation is retried or fails with one error."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
import redis.asyncio
from chaos_job import Job, Target, assert_each_once, rng, scaled, wait_until
from chaos_proxy import ErrorProxy

from scrapeq.errors import StoreError
from scrapeq.queue import DPQ, Limit, Queue
from scrapeq.queue.connect import async_client, sync_client
from scrapeq.store.embedded import EmbeddedStore
from scrapeq.store.server_binary import find_server
from scrapeq.task import Group, NewTask, Task

PATIENCE_S = 5.0  # for errors that pass
SHORT_PATIENCE_S = 0.1  # for errors that last
GROUP = Group("g", ("shared",), "own")
ERRORS = {
    "NOSCRIPT": "NOSCRIPT No matching script. Please use EVAL.",
    "LOADING": "LOADING Redis is loading the dataset in memory",
    "READONLY": "READONLY You can't write against a read only replica.",
    "BUSY": "BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE.",
    "TRYAGAIN": "TRYAGAIN Multiple keys request during rehashing of slot",
    "MASTERDOWN": "MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.",
    "OOM": "OOM command not allowed when used memory > 'maxmemory'.",
    "MISCONF": "MISCONF Errors writing to the AOF file: No space left on device",
    "NOPERM": "NOPERM No permissions to access a key",
    "ERR": "ERR max number of clients reached",
}
PASSING = (
    "NOSCRIPT",
    "LOADING",
    "READONLY",
    "BUSY",
)  # a retry helps, and repeating a keyed operation is safe
LASTING = ("OOM", "MISCONF", "NOPERM")  # a retry soon does not help


async def leased_task(queue: Queue) -> Task:
    """Push a task and lease it."""
    await queue.push("x", priority=9.0, group=GROUP)
    task = await queue.pop(1.0)
    assert task is not None
    assert task.lease is not None
    return task


def lease_of(task: Task) -> Any:
    """Return the lease of a task."""
    return task.lease


UNSAFE = ("push", "acquire")  # sent twice, they would count twice, so they may fail at once
# Every operation that sends a script, with a leased task for it.
OPERATIONS: dict[str, Callable[[Queue, Task], Awaitable[Any]]] = {
    "push": lambda queue, _: queue.push("p"),
    "push keyed": lambda queue, task: queue.push("p", key=f"k{task.id}"),
    "pop": lambda queue, _: queue.pop(),
    "ack": lambda queue, task: queue.ack(lease_of(task), push=[NewTask("follow")]),
    "retry": lambda queue, task: queue.retry(task, delay_s=0.0),
    "release": lambda queue, task: queue.release(lease_of(task)),
    "bury": lambda queue, task: queue.bury(lease_of(task), "bad"),
    "observe": lambda queue, task: queue.observe(lease_of(task), reported=[("shared", 1_000_000, 1000.0)]),
    "extend": lambda queue, task: queue.extend(lease_of(task)),
    "visibility": lambda queue, task: queue.set_visibility(lease_of(task), 60.0),
    "acquire": lambda queue, _: queue.acquire(GROUP),
    "define": lambda queue, _: queue.define({"shared": Limit(), "own": Limit()}),
    "park": lambda queue, _: queue.park(["other"], for_s=1.0),
    "unpark": lambda queue, _: queue.unpark(["other"]),
    "pause": lambda queue, _: queue.pause(["other"]),
    "resume": lambda queue, _: queue.resume(["other"]),
    "forget": lambda queue, _: queue.forget_limits(["other"]),
    "limits": lambda queue, _: queue.limit_states(["shared"]),
    "get": lambda queue, task: queue.get(task.id),
    "counts": lambda queue, _: queue.counts(),
    "cancel": lambda queue, task: queue.cancel(task.id),
    "prioritize": lambda queue, task: queue.prioritize(1.0, task.id),
    "redrive": lambda queue, task: queue.redrive(task.id),
    "drop": lambda queue, task: queue.drop(task.id),
    "sweep": lambda queue, _: queue.sweep(),
    "purge": lambda queue, _: queue.purge("seen"),
}


@pytest.fixture
async def proxy(store: redis.Redis, store_socket: str) -> AsyncIterator[ErrorProxy]:
    """Start a proxy in front of the store."""
    with tempfile.TemporaryDirectory(prefix="sq-") as folder:
        async with ErrorProxy(store_socket, Path(folder, "p")) as found:
            yield found


@pytest.mark.parametrize("error", ERRORS)
async def test_every_operation_retries_or_raises_one_store_error(
    error: str, proxy: ErrorProxy, astore: redis.asyncio.Redis
) -> None:
    """A single error is retried where that helps, otherwise it is one StoreError. Nothing is lost."""
    client = async_client(proxy.url)
    queue = Queue(client, "q", patience_s=PATIENCE_S)
    impatient = Queue(client, "q", patience_s=SHORT_PATIENCE_S)
    other = Queue(astore, "q")
    try:
        await other.define({"shared": Limit(), "own": Limit()})
        for name, operation in OPERATIONS.items():
            task = await leased_task(other)
            before = await other.counts()
            proxy.fail(ERRORS[error], 1)
            try:
                await operation(queue, task)
            except StoreError as refusal:
                assert error not in PASSING or name in UNSAFE, f"{name} was not retried: {refusal}"
                assert "\n" not in str(refusal)
                assert (await other.counts()).live == before.live, f"{name}: refused, but something changed"
                await operation(queue, task)  # the store works again
            else:
                assert error not in LASTING, f"{name} succeeded despite {error}"
            assert proxy.errors_sent == 1, name
            proxy.fail(ERRORS[error], 10_000)
            with pytest.raises(StoreError):
                await asyncio.wait_for(operation(impatient, task), PATIENCE_S)
            proxy.fail("", 0)
    finally:
        await queue.close()
        await impatient.close()
        await client.aclose()


async def test_every_operation_succeeds_while_functions_and_scripts_are_flushed(
    store: redis.Redis, astore: redis.asyncio.Redis, store_socket: str
) -> None:
    """FUNCTION FLUSH and SCRIPT FLUSH in a loop: every operation succeeds, with asyncio and blocking."""
    rng("noscript")
    stop = threading.Event()
    flushes = 0

    def flush() -> None:
        nonlocal flushes
        with redis.Redis(unix_socket_path=store_socket) as client:
            while not stop.is_set():
                client.function_flush()
                client.script_flush()
                flushes += 1
                time.sleep(0.001)

    flusher = threading.Thread(target=flush)
    flusher.start()
    queue = Queue(astore, "forgetful")
    blocking = DPQ(store, "blocking")
    rounds = scaled(3)

    def block() -> int:
        for _ in range(rounds * 10):
            blocking.push({"n": 1}, priority=1.0)
            task, on_success, _ = blocking.pop()
            assert task is not None
            on_success()
            blocking.push({"n": 2})
            task, _, set_visibility = blocking.pop()
            assert task is not None
            set_visibility(0.0)
            again = blocking.pop(wait_s=5.0).task
            assert again is not None
            assert again.lease is not None
            blocking.extend(again.lease)
            assert not blocking.retry(again, delay_s=0.0)
            (task,) = blocking.pop_many(1, wait_s=5.0)
            assert task.lease is not None
            blocking.bury(task.lease, "bad")
            assert blocking.redrive(task.id) == [True]
            assert blocking.prioritize(5.0, task.id) == [True]
            blocking.sweep()
            assert blocking.cancel(task.id) == [True]
        return blocking.get_size()

    async def load() -> None:
        for _ in range(rounds):
            for operation in OPERATIONS.values():
                await operation(queue, await leased_task(queue))

    try:
        size, *_ = await asyncio.gather(asyncio.to_thread(block), load(), load())
    finally:
        stop.set()
        flusher.join()
    assert size == 0
    assert flushes > 50
    # nothing is lost: every live task is leased, ready or delayed
    ids = (await queue.counts()).live
    listed = len({task.id for task in await queue.peek(10_000, "leased") + await queue.peek(10_000, "ready")})
    delayed = len(await queue.peek(10_000, "delayed"))
    assert ids == listed + delayed
    await queue.close()


@contextlib.contextmanager
def server(*settings: str) -> Iterator[str]:
    """Start a store with these settings in a temporary folder; yield its socket."""
    with tempfile.TemporaryDirectory(prefix="sq-") as folder:
        socket = f"{folder}/s"
        command = [str(find_server().path), "--port", "0", "--unixsocket", socket, "--dir", folder, *settings]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        try:
            with redis.Redis(unix_socket_path=socket) as client:

                def responds() -> bool:
                    with contextlib.suppress(redis.ConnectionError):
                        return bool(client.ping())
                    return False

                wait_until("the store responds", responds, 10.0)
            yield socket
        finally:
            process.kill()
            process.wait()


def test_full_memory_refuses_only_pushes() -> None:
    """A real OOM: a push fails with one line; pop and ack still work and free memory."""
    with server("--save", "", "--maxmemory-policy", "noeviction") as socket:
        client = sync_client(f"unix://{socket}")
        queue = DPQ(client, "full")
        for n in range(20):
            queue.push({"n": n})
        client.config_set("maxmemory", 1)
        with pytest.raises(StoreError, match="out of memory"):
            queue.push({"n": 20})
        for _ in range(20):
            task, on_success, _ = queue.pop()
            assert task is not None
            on_success()
        client.config_set("maxmemory", 0)
        queue.push({"n": 21})
        assert queue.get_size() == 1


def test_calls_wait_for_a_read_only_or_busy_store() -> None:
    """A call waits for a real READONLY and then fails; it waits for a real BUSY and then succeeds."""
    with server("--save", "", "--busy-reply-threshold", "20") as socket:
        client = sync_client(f"unix://{socket}")
        queue = DPQ(client, "shaky", patience_s=SHORT_PATIENCE_S)
        queue.push({"n": 0}, key="a")
        client.replicaof("127.0.0.1", "1")
        with pytest.raises(StoreError, match="replica"):
            queue.push({"n": 1}, key="b")
        with pytest.raises(StoreError, match="replica"):
            queue.pop()
        client.replicaof("no", "one")
        patient = DPQ(sync_client(f"unix://{socket}"), "shaky", patience_s=20.0)
        busy = threading.Thread(target=_busy, args=(socket,))
        busy.start()
        time.sleep(0.2)
        killer = threading.Timer(0.5, sync_client(f"unix://{socket}").script_kill)
        killer.start()
        started_s = time.monotonic()
        patient.push({"n": 1}, key="b")
        assert time.monotonic() - started_s > 0.2, "the store was not busy"
        busy.join()
        killer.join()
        assert queue.get_size() == 2


def _busy(socket: str) -> None:
    with contextlib.suppress(redis.ResponseError), redis.Redis(unix_socket_path=socket) as client:
        client.eval("while true do end", 0)


def test_an_unwritable_disk_is_one_error_without_loss() -> None:
    """A real MISCONF (a snapshot that fails) is one StoreError; afterwards all tasks are there."""
    with server("--save", "3600 1", "--dbfilename", "dump.rdb") as socket:
        Path(socket).with_name("dump.rdb").mkdir()
        client = sync_client(f"unix://{socket}")
        queue = DPQ(client, "disk", patience_s=SHORT_PATIENCE_S)
        queue.push({"n": 0})
        client.bgsave()
        wait_until(
            "the snapshot fails",
            lambda: client.info("persistence")["rdb_last_bgsave_status"] != "ok",
            10.0,
        )
        with pytest.raises(StoreError, match="MISCONF"):
            queue.push({"n": 1})
        with pytest.raises(StoreError, match="MISCONF"):
            queue.pop()
        client.config_set("stop-writes-on-bgsave-error", "no")
        task = queue.pop().task
        assert task is not None
        assert task.payload == {"n": 0}


async def test_acknowledged_pushes_survive_a_killed_store(tmp_path: Path) -> None:
    """SIGKILL between and during pushes (append-only file): every acknowledged push is there."""
    chance = rng("acknowledged")
    store = EmbeddedStore(tmp_path)
    url = await store.start()
    client = async_client(url)
    queue = Queue(client, "acknowledged")
    acknowledged: list[tuple[str, int]] = []
    stop = asyncio.Event()

    async def push(worker: int) -> None:
        n = 0
        while not stop.is_set():
            n += 1
            with contextlib.suppress(StoreError):  # this push was not acknowledged
                pushed = await queue.push({"worker": worker, "n": n})
                acknowledged.append((pushed.id, n))

    pushing = [asyncio.create_task(push(worker)) for worker in range(4)]
    kills = scaled(3)
    try:
        for _ in range(kills):
            await asyncio.sleep(chance.uniform(0.2, 0.6))
            before = len(acknowledged)
            assert store.pid is not None
            os.kill(store.pid, signal.SIGKILL)
            await store.wait()
            started_s = time.monotonic()
            await store.restart()
            while len(acknowledged) < before + 5:
                await asyncio.sleep(0.01)
                assert time.monotonic() - started_s < 10.0
        stop.set()
        await asyncio.gather(*pushing)
        found = []
        for at in range(0, len(acknowledged), 500):
            found += await queue.get(*(id_ for id_, _ in acknowledged[at : at + 500]))
        lost = [
            id_
            for (id_, n), task in zip(acknowledged, found, strict=True)
            if not task or task.payload["n"] != n
        ]
        assert not lost, f"{len(lost)} of {len(acknowledged)} acknowledged pushes are gone"
        assert len({id_ for id_, _ in acknowledged}) == len(acknowledged)
    finally:
        stop.set()
        for one in pushing:
            one.cancel()
        await queue.close()
        await client.aclose()
        await store.stop()


def test_a_second_machine_joins_the_run(target: Callable[..., Target], job: Callable[..., Job]) -> None:
    """The same file in another folder, over one store: both end with 0; together they have each item once."""
    server_ = target(150)
    with server("--save", "", "--appendonly", "yes", "--maxmemory-policy", "noeviction") as socket:
        url = f"unix://{socket}"
        one = job(server_.url, scaled(8), redis=url, folder="one", lease_s=60.0)
        two = job(server_.url, scaled(8), redis=url, folder="two", lease_s=60.0)
        one.start()
        wait_until("the first items", one.lines, 30.0)
        one.children()
        two.start()
        wait_until("items of the second machine", two.lines, 30.0)
        two.children()
        assert (one.wait(60.0), two.wait(30.0)) == (0, 0), one.last_output() + two.last_output()
        assert "chaos resumes" in two.events()
        assert_each_once(one.items() + two.items(), one.lists)
        assert server_.count() == one.tasks
        for work in (one, two):
            work.assert_no_traceback()
        assert one.run(60.0) == 0  # a new run fetches everything again and writes only what is missing
        assert server_.count() == 2 * one.tasks
