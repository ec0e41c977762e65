"""saq: its worker on empty jobs."""

from __future__ import annotations

import asyncio
import time

import uvloop
from harness import Countdown, Sizes, Stopwatch, main, payload
from redis.asyncio import Redis
from saq import Worker
from saq.queue.redis import RedisQueue

PUSHERS = 32


def measure(sizes: Sizes) -> dict[str, float]:
    """Enqueue jobs, then process them."""
    return uvloop.run(_measure(sizes))


async def _measure(sizes: Sizes) -> dict[str, float]:
    queue = RedisQueue(Redis(unix_socket_path=sizes.socket))
    count = Countdown(sizes.tasks)
    done = asyncio.Event()

    async def nothing(_context: object, *, data: dict[str, str]) -> None:
        count()
        if not count.left:
            done.set()

    source = iter(range(sizes.tasks))

    async def push() -> None:
        for i in source:
            await queue.enqueue("nothing", data=payload(i))

    with Stopwatch() as pushing:
        await asyncio.gather(*(push() for _ in range(PUSHERS)))
    worker = Worker(queue, [("nothing", nothing)], concurrency=sizes.slots)
    started = time.perf_counter()
    working = asyncio.create_task(worker.start())
    await done.wait()
    await worker.stop()
    working.cancel()
    return {"push": pushing.rate(sizes.tasks), "loop": sizes.tasks / (count.ended - started)}


if __name__ == "__main__":
    main(measure)
