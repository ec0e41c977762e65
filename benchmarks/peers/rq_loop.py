"""rq: its in-process worker on empty jobs (the forking one is far slower)."""

from __future__ import annotations

from harness import Sizes, Stopwatch, main, payload
from redis import Redis
from rq import Queue, SimpleWorker

BATCH = 100


def nothing(_data: dict[str, str]) -> None:
    """Do nothing."""


def measure(sizes: Sizes) -> dict[str, float]:
    """Enqueue jobs in batches, then process them."""
    store = Redis(unix_socket_path=sizes.socket)
    queue = Queue(connection=store)
    with Stopwatch() as pushing:
        for start in range(0, sizes.tasks, BATCH):
            queue.enqueue_many(
                [
                    Queue.prepare_data("rq_loop.nothing", args=(payload(i),), result_ttl=0)
                    for i in range(start, min(start + BATCH, sizes.tasks))
                ]
            )
    worker = SimpleWorker([queue], connection=store)
    with Stopwatch() as working:
        worker.work(burst=True, logging_level="CRITICAL")
    return {"push": pushing.rate(sizes.tasks), "loop": working.rate(sizes.tasks)}


if __name__ == "__main__":
    main(measure)
