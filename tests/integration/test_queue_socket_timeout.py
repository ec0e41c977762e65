"""A client's socket time-out is shorter than a wait for a task: the wait ends on time, and a push ends it early."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest
import redis
import redis.asyncio

from scrapeq import DPQ, Queue

SOCKET_TIMEOUT_S = 0.4
WAIT_S = 1.2
LATE_S = 0.5  # redis-py would wait for seconds more if it took the silence for a broken connection

pytestmark = pytest.mark.serial  # it measures


def test_a_blocking_pop_ends_on_time(store: redis.Redis, store_socket: str) -> None:
    """The call never blocks for as long as the time-out, so that redis-py does not reconnect and retry."""
    with redis.Redis(unix_socket_path=store_socket, socket_timeout=SOCKET_TIMEOUT_S) as client:
        started_s = time.monotonic()
        assert DPQ(redis=client, name="q").pop(wait_s=WAIT_S)[0] is None
        assert WAIT_S <= time.monotonic() - started_s < WAIT_S + LATE_S


def test_a_push_wakes_a_blocking_pop(store: redis.Redis, store_socket: str) -> None:
    """Also after several blocks."""
    with redis.Redis(unix_socket_path=store_socket, socket_timeout=SOCKET_TIMEOUT_S) as client:
        queue = DPQ(redis=client, name="q")
        push = threading.Timer(2 * SOCKET_TIMEOUT_S, DPQ(redis=store, name="q").push, ({"n": 1},))
        push.start()
        task = queue.pop(wait_s=10 * WAIT_S)[0]
        push.join()
    assert task is not None and task["n"] == 1


async def test_an_asyncio_pop_ends_on_time_and_is_woken(store: redis.Redis, store_socket: str) -> None:
    """The listener of a process blocks in the same way."""
    client = redis.asyncio.Redis(unix_socket_path=store_socket, socket_timeout=SOCKET_TIMEOUT_S)
    try:
        async with Queue(client, "q") as queue:
            started_s = time.monotonic()
            assert await queue.pop(wait_s=WAIT_S) is None
            assert WAIT_S <= time.monotonic() - started_s < WAIT_S + LATE_S
            waiting = asyncio.create_task(queue.pop(wait_s=10 * WAIT_S))
            await asyncio.sleep(2 * SOCKET_TIMEOUT_S)
            await queue.push({"n": 1})
            task = await waiting
            assert task is not None and task["n"] == 1
    finally:
        await client.aclose()
