"""Where the rooms are introduced to each other: a fetch worker with everything that it needs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from scrapeq.fetch import Egress
from scrapeq.plan import Plan
from scrapeq.queue.worker_queue import WorkerQueue
from scrapeq.wiring import WorkerSettings, cursor_store_of, group_function, pool_credentials, response_cache
from scrapeq.worker.extraction import extractor_of
from scrapeq.worker.loop import FetchWorker
from scrapeq.writer.client import WriterClient

NAME_PATIENCE_S = 1.0  # how long a slot waits for a name; the task of a slower one is given back uncharged


def fetch_worker(
    worker_settings: WorkerSettings, plan: Plan, queue: WorkerQueue, client: Any, sink: WriterClient
) -> FetchWorker:
    """A fetcher with all it needs."""
    group = group_function(plan)
    seeds = [seed["url"] for resource in plan.resources for seed in resource.seeds if "url" in seed]
    seeds += [seed["url"] for seed in plan.seeds if "url" in seed]
    egress = Egress(
        plan.client,
        connections=max(worker_settings.concurrency, 1),
        named_hosts=[str(url) for url in seeds],
        credentials=pool_credentials(plan),
        tokens=Path(worker_settings.tokens_file) if worker_settings.tokens_file else None,
        name_patience_s=NAME_PATIENCE_S,
    )
    return FetchWorker(
        plan=plan,
        queue=queue,
        egress=egress,
        extractor=extractor_of(plan, group, off_loop=True),
        sink=sink,
        group_of=group,
        cursor_store=cursor_store_of(client, queue),
        concurrency=worker_settings.concurrency,
        max_requests=worker_settings.max_requests,
        max_items=worker_settings.max_items,
        removed=worker_settings.removed,
        cache=response_cache(plan, worker_settings.cache_file),
    )
