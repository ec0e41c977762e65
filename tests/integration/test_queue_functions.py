"""The queue's functions on real servers: loading them, doing without them, and what they leave behind."""

from __future__ import annotations

import pytest
import redis
import redis.asyncio

from scrapeq import DPQ
from scrapeq.errors import StoreError
from scrapeq.queue import commands as c
from scrapeq.queue.keys import key_of
from scrapeq.queue.library import NAME_PREFIX, library, remove_other_libraries
from scrapeq.queue.scripts import ALLOWS_OOM


def calls_of(store: redis.Redis, command: str) -> int:
    """Return how often the server ran a command."""
    stats: dict[str, dict[str, int]] = store.info("commandstats")
    return int(stats.get(f"cmdstat_{command}", {"calls": 0})["calls"])


def work(queue: DPQ) -> None:
    """Push, pop and ack one task."""
    queue.push({"n": 1})
    (task,) = queue.pop_many(1)
    assert task.payload == {"n": 1} and task.lease is not None
    queue.ack(task.lease)


def user(store: redis.Redis, *rules: str) -> redis.Redis:
    """Return a client whose user may run all commands but these."""
    store.execute_command(  # type: ignore[no-untyped-call]
        "ACL SETUSER", "limited", "reset", "on", "nopass", "~*", "&*", "+@all", *rules
    )
    path = store.connection_pool.connection_kwargs["path"]
    return redis.Redis(unix_socket_path=path, username="limited", password="any", protocol=2)


def test_the_library_is_loaded_when_it_is_missing(store: redis.Redis) -> None:
    """At the first call, and again after a server has lost it."""
    store.function_flush()
    queue = DPQ(store, "q")
    work(queue)
    assert [bytes(entry[1]) for entry in store.function_list()] == [library().name.encode()]
    store.function_flush()
    work(queue)
    store.config_resetstat()
    work(queue)
    assert calls_of(store, "fcall") == 3
    assert calls_of(store, "evalsha") + calls_of(store, "eval") + calls_of(store, "function|load") == 0


@pytest.mark.parametrize("rules", [("-fcall", "-function"), ("-function",)])
def test_a_user_who_may_not_use_functions_runs_scripts(store: redis.Redis, rules: tuple[str, ...]) -> None:
    """The refused command is tried once; then the same text runs as scripts."""
    store.function_flush()
    with user(store, *rules) as limited:
        queue = DPQ(limited, "q")
        work(queue)
        store.config_resetstat()
        work(queue)
    assert calls_of(store, "fcall") == 0
    assert calls_of(store, "evalsha") == 3
    assert store.function_list() == []


def test_a_full_memory_does_not_need_the_library(store: redis.Redis) -> None:
    """FUNCTION LOAD is refused then, but a pop and an ack free memory: they run as scripts."""
    queue = DPQ(store, "q", patience_s=0.1)
    queue.push({"n": 1})
    store.function_flush()
    store.config_set("maxmemory", "1")
    try:
        (task,) = queue.pop_many(1)
        assert task.lease is not None
        queue.ack(task.lease)
        with pytest.raises(StoreError, match="out of memory"):
            queue.push({"n": 2})
    finally:
        store.config_set("maxmemory", "0")
    work(queue)
    assert len(store.function_list()) == 1


def test_a_failed_call_leaves_no_state_behind(store: redis.Redis) -> None:
    """Variables live on between the calls of a library; each call assigns them first."""
    queue = DPQ(store, "q")
    queue.push({"n": 1})
    (task,) = queue.pop_many(1)
    assert task.lease is not None
    (command,) = [c.settle([c.Entry(c.ACK, task.lease)])]
    broken = (*command.args[:3], *command.args[3:-1], b"{no json")
    for _ in range(3):
        with pytest.raises(redis.ResponseError):
            store.fcall(library().function("settle"), 1, key_of("q"), *broken)
    other = DPQ(store, "other")
    work(other)
    queue.ack(task.lease)
    assert (queue.counts().live, queue.counts().done) == (0, 1)
    assert other.counts().done == 1


async def test_libraries_of_other_versions_are_removed(
    store: redis.Redis, astore: redis.asyncio.Redis
) -> None:
    """Only those of scrapeq, and never the current one."""
    store.function_flush()
    work(DPQ(store, "q"))
    for name in (f"{NAME_PREFIX}0123456789abcdef", "somebody"):
        code = f"#!lua name={name}\nredis.register_function('{name}_f', function() return 1 end)"
        store.function_load(code)
    await remove_other_libraries(astore)
    names = {bytes(entry[1]).decode() for entry in store.function_list()}
    assert names == {library().name, "somebody"}


def test_every_script_is_a_function() -> None:
    """Each is registered once; those that free memory may run when it is full."""
    text = library().text
    for name, allows_oom in ALLOWS_OOM.items():
        (line,) = [line for line in text.splitlines() if f"'{library().function(name)}'" in line]
        assert ("allow-oom" in line) == allows_oom
