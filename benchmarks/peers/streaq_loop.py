"""streaq: its worker on empty jobs."""

from __future__ import annotations

import time
from typing import Any

import uvloop
from harness import Countdown, Sizes, Stopwatch, main, payload
from streaq import Worker

BATCH = 100


def measure(sizes: Sizes) -> dict[str, float]:
    """Enqueue jobs in batches, then process them."""
    return uvloop.run(_measure(sizes))


async def _measure(sizes: Sizes) -> dict[str, float]:
    worker: Any = Worker(redis_url=f"unix://{sizes.socket}", concurrency=sizes.slots, handle_signals=False)
    count = Countdown(sizes.tasks)

    @worker.task(ttl=0)
    async def nothing(_data: dict[str, str]) -> None:
        count()

    async with worker:
        with Stopwatch() as pushing:
            for start in range(0, sizes.tasks, BATCH):
                piece = range(start, min(start + BATCH, sizes.tasks))
                await worker.enqueue_many([nothing.enqueue(payload(i)) for i in piece])
    worker.burst = True
    started = time.perf_counter()
    await worker.run_async()
    return {"push": pushing.rate(sizes.tasks), "loop": sizes.tasks / (count.ended - started)}


if __name__ == "__main__":
    main(measure)
