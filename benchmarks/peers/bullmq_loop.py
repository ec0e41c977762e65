"""BullMQ's Python client: its worker on empty jobs."""

from __future__ import annotations

import asyncio
import time

import uvloop
from bullmq import Queue, Worker
from harness import Countdown, Sizes, Stopwatch, main, payload

BATCH = 100
NAME = "bench"


def measure(sizes: Sizes) -> dict[str, float]:
    """Add jobs in bulk, then process them."""
    return uvloop.run(_measure(sizes))


async def _measure(sizes: Sizes) -> dict[str, float]:
    connection = f"unix://{sizes.socket}"
    queue = Queue(NAME, {"connection": connection})
    count = Countdown(sizes.tasks)
    done = asyncio.Event()

    async def nothing(_job: object, _token: str) -> None:
        count()
        if not count.left:
            done.set()

    with Stopwatch() as pushing:
        for start in range(0, sizes.tasks, BATCH):
            piece = range(start, min(start + BATCH, sizes.tasks))
            await queue.addBulk(
                [{"name": "nothing", "data": payload(i), "opts": {"removeOnComplete": True}} for i in piece]
            )
    started = time.perf_counter()
    worker = Worker(NAME, nothing, {"connection": connection, "concurrency": sizes.slots})
    await done.wait()
    await worker.close(force=True)
    await queue.close()
    return {"push": pushing.rate(sizes.tasks), "loop": sizes.tasks / (count.ended - started)}


if __name__ == "__main__":
    main(measure)
