"""
`python chaos_worker.py poison|hold SOCKET QUEUE …`: workers that use the queue directly.

poison SLOTS LEASE_S LOG: completes tasks in its slots, 20 ms each; a task "poison" kills the worker. Each line in LOG
is one event: the process id and what happened.

hold N LEASE_S WRITER: takes N tasks and prints them, waits for a line on standard input (JSON: one verb for each task),
applies each verb to its task and prints the outcomes.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from scrapeq.errors import LeaseLost
from scrapeq.protocols import Item
from scrapeq.queue import Queue
from scrapeq.queue.connect import async_client
from scrapeq.task import NewTask, Task
from scrapeq.writer.client import WriterClient

WORK_S = 0.02


async def poison(queue: Queue, slots: int, log: Path) -> None:
    """Work until a task or the test kills this process."""
    events = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    leased: dict[str, Task] = {}

    async def work(task: Task) -> None:
        assert task.lease is not None
        if task.payload == "poison":
            os.write(events, f"{os.getpid()} poisoned\n".encode())
            os._exit(1)
        await asyncio.sleep(WORK_S)
        del leased[task.id]
        with contextlib.suppress(LeaseLost):  # this worker was stopped for longer than its lease
            await queue.ack(task.lease)
            os.write(events, f"{os.getpid()} done\n".encode())

    async with asyncio.TaskGroup() as group:
        while True:
            if len(leased) == slots:
                await asyncio.sleep(WORK_S / 4)
                continue
            suspects = sum(1 for task in leased.values() if task.expiries)
            for task in await queue.pop_many(
                slots - len(leased), 0.1 if not leased else 0.0, suspects=suspects
            ):
                leased[task.id] = task
                group.create_task(work(task))
            await asyncio.sleep(WORK_S / 4)


async def hold(queue: Queue, n: int, sink: WriterClient) -> None:
    """Take tasks and apply the verbs from standard input, round after round."""
    loop = asyncio.get_running_loop()
    while True:
        tasks: list[Task] = []
        while len(tasks) < n:
            tasks += await queue.pop_many(n - len(tasks), 5.0)
        print(json.dumps([[task.id, task.payload] for task in tasks]), flush=True)
        line = await loop.run_in_executor(None, sys.stdin.readline)
        if not line:
            return
        outcomes = [
            await attempt(OPERATIONS[verb], queue, sink, task)
            for verb, task in zip(json.loads(line), tasks, strict=True)
        ]
        print(json.dumps(outcomes), flush=True)


async def attempt(operation: Any, queue: Queue, sink: WriterClient, task: Task) -> str:
    """Apply an operation; return "done", or "refused" if the lease is lost."""
    try:
        await operation(queue, sink, task)
    except LeaseLost:
        return "refused"
    return "done"


async def commit(_: Queue, sink: WriterClient, task: Task) -> None:
    """Commit an item under a stale lease."""
    assert task.lease is not None
    await sink.commit(task.id, task.lease.token, [Item("rows", task.id, {"task": task.id, "by": "stale"})])


OPERATIONS: dict[str, Callable[[Queue, WriterClient, Any], Awaitable[Any]]] = {
    "ack": lambda queue, _, task: queue.ack(task.lease, push=[NewTask("never")]),
    "retry": lambda queue, _, task: queue.retry(task, delay_s=0.0),
    "release": lambda queue, _, task: queue.release(task.lease),
    "bury": lambda queue, _, task: queue.bury(task.lease, "stale"),
    "extend": lambda queue, _, task: queue.extend(task.lease),
    "observe": lambda queue, _, task: queue.observe(task.lease),
    "visibility": lambda queue, _, task: queue.set_visibility(task.lease, 1.0),
    "commit": commit,
}


async def main(role: str, url: str, name: str, n: int, lease_s: float, path: Path) -> None:
    """Run one worker."""
    client = async_client(url)
    queue = Queue(client, name, lease_s=lease_s)
    if role == "poison":
        await poison(queue, n, path)
    else:
        await hold(queue, n, WriterClient(path))


if __name__ == "__main__":
    role, url, name, n, lease_s, path = sys.argv[1:]
    asyncio.run(main(role, url, name, int(n), float(lease_s), Path(path)))
