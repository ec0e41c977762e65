"""arq: its worker on empty jobs; it polls, here at its shortest interval."""

from __future__ import annotations

import asyncio
import time

import uvloop
from arq.connections import RedisSettings, create_pool
from arq.worker import Worker, func
from harness import Countdown, Sizes, Stopwatch, main, payload

PUSHERS = 32
POLL_S = 0.01


def measure(sizes: Sizes) -> dict[str, float]:
    """Enqueue jobs, then process them."""
    return uvloop.run(_measure(sizes))


async def _measure(sizes: Sizes) -> dict[str, float]:
    settings = RedisSettings(unix_socket_path=sizes.socket)
    pool = await create_pool(settings)
    count = Countdown(sizes.tasks)

    async def nothing(_context: object, _data: dict[str, str]) -> None:
        count()

    source = iter(range(sizes.tasks))

    async def push() -> None:
        for i in source:
            await pool.enqueue_job("nothing", payload(i))

    with Stopwatch() as pushing:
        await asyncio.gather(*(push() for _ in range(PUSHERS)))
    worker = Worker(
        functions=[func(nothing, name="nothing")],
        redis_settings=settings,
        burst=True,
        max_jobs=sizes.slots,
        poll_delay=POLL_S,
        handle_signals=False,
        keep_result=0,
    )
    started = time.perf_counter()
    await worker.async_run()
    await worker.close()
    return {"push": pushing.rate(sizes.tasks), "loop": sizes.tasks / (count.ended - started)}


if __name__ == "__main__":
    main(measure)
