"""`run --full-refresh` deletes cursor states, and an unfinished run with its tasks."""

from __future__ import annotations

import time
from collections import Counter

from aiohttp import web
from incremental_runs import Scrape
from worker_runs import nothing_left, serving

from scrapeq.queue import Queue
from scrapeq.queue.connect import async_client
from scrapeq.supervise.run_state import RunState

TWO = """
version: 1
name: two
client: {base_url: URL}
seeds: [{n: 1}, {n: 2}, {n: 3}]
resources:
  - name: things
    endpoint:
      path: "things/${seed.n}"
      params: {since: "${incremental.start_value}"}
      incremental: {cursor_path: id, initial_value: 0}
  - name: others
    endpoint:
      path: "others/${seed.n}"
      params: {since: "${incremental.start_value}"}
      incremental: {cursor_path: id, initial_value: 0}
"""


async def test_a_full_refresh_requests_everything_again(store_url: str) -> None:
    """A full refresh applies to one resource or to all; an unfinished run is replaced, without its tasks."""
    requested: Counter[str] = Counter()

    async def respond(request: web.Request) -> web.Response:
        requested[str(request.rel_url)] += 1
        return web.json_response([{"id": 7}])

    async def one_more_done(queue: Queue) -> bool:
        return (await queue.counts()).done >= 12 + 1

    async with serving(respond) as url:
        scrape = Scrape(store_url, TWO, url)
        await scrape.run()
        client = async_client(store_url)
        async with Queue(client, "two") as queue:
            state = RunState(client, queue)
            await state.reset(["things"])
            assert {stored["resource"] for stored in await scrape.stored_states()} == {"others"}
            requested.clear()
            await scrape.run()
            assert requested == {
                f"/{name}/{n}?since={since}": 1
                for name, since in (("things", 0), ("others", 7))
                for n in (1, 2, 3)
            }
            paced = TWO + "rate_limits: [{name: slow, partition_by: [], rates: [{limit: 2, interval: 1h}]}]\n"
            slow = Scrape(store_url, paced, url)
            await slow.run(one_more_done)
            assert (await queue.counts()).live == 5
            await queue.forget_limits(await queue.limit_instances())
            requested.clear()
            start_s = time.time()
            await RunState(client, queue).reset(None)
            assert (await queue.counts()).live == 0
            assert await scrape.stored_states() == []
            await scrape.run(nothing_left)
            assert set(requested.values()) == {1}
            assert {one.partition("?")[2] for one in requested} == {"since=0"}
            assert (await state.read()).started_s >= start_s
        await client.aclose()
