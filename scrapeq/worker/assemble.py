"""Where the rooms are introduced to each other: a fetch worker with everything that it needs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from scrapeq.fetch import Egress
from scrapeq.plan import Plan
from scrapeq.queue import Queue
from scrapeq.wiring import Errand, answer_cache, group_function, kept_states, pool_members
from scrapeq.worker.extraction import extractor_of
from scrapeq.worker.loop import FetchWorker
from scrapeq.writer.client import WriterClient


def fetch_worker(errand: Errand, plan: Plan, queue: Queue, client: Any, sink: WriterClient) -> FetchWorker:
    """A fetcher with all it needs."""
    group = group_function(plan)
    seeds = [seed["url"] for resource in plan.resources for seed in resource.seeds if "url" in seed]
    seeds += [seed["url"] for seed in plan.seeds if "url" in seed]
    egress = Egress(
        plan.client,
        connections=max(errand.concurrency, 1),
        named_hosts=[str(url) for url in seeds],
        members=pool_members(plan),
        tokens=Path(errand.tokens) if errand.tokens else None,
    )
    return FetchWorker(
        plan=plan,
        queue=queue,
        egress=egress,
        extractor=extractor_of(plan, group),
        sink=sink,
        group_of=group,
        states=kept_states(client, queue),
        concurrency=errand.concurrency,
        max_requests=errand.max_requests,
        cache=answer_cache(plan, errand.cache_file),
    )
