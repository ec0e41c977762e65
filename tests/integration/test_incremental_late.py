"""Walks that end late: their dead letter was redriven, and others have gone on since."""

from __future__ import annotations

from test_incremental import CHANGES, Changes, Scrape
from test_worker_rules import serving

from scrapeq.queue import Queue
from scrapeq.queue.connect import async_client
from scrapeq.supervise.run_state import RunState


async def redrive(scrape: Scrape) -> None:
    """The dead letters are tasks again, of the run that has ended."""
    client = async_client(scrape.store_url)
    async with Queue(client, scrape.plan().name) as queue:
        assert await queue.redrive(*[dead.id for dead in await queue.peek(9, "dead")]) == [True]
        assert await RunState(client, queue).reopen()
    await client.aclose()


async def test_a_dead_letter_that_is_redriven_late_sets_nothing_back(store_url: str) -> None:
    """Its walk ends where it would have ended then, but others have gone farther since."""
    server = Changes(broken_page=2)
    server.change(*range(1, 5))
    async with serving(server.answer) as url:
        scrape = Scrape(store_url, CHANGES, url)
        await scrape.run()
        server.broken_page = 0
        server.change(8, 9, minute=5)
        await scrape.run()
        (state,) = await scrape.states()
        assert state["cursor"] == "2024-05-01T12:05:09Z"
        await redrive(scrape)
        items, _ = await scrape.run()
        assert items
        assert await scrape.states() == [state]


async def test_a_dead_letter_of_before_a_full_refresh_keeps_nothing(store_url: str) -> None:
    """The walk that begins at the beginning is not done, and what was kept was forgotten for it."""
    server = Changes()
    server.change(1, 2, 3)
    async with serving(server.answer) as url:
        scrape = Scrape(store_url, CHANGES, url)
        await scrape.run()
        server.change(*range(4, 9), minute=5)
        server.broken_page = 2
        await scrape.run()
        client = async_client(store_url)
        async with Queue(client, scrape.plan().name) as queue:
            await RunState(client, queue).forget(None)
        await client.aclose()
        server.broken_page = 0
        await redrive(scrape)
        items, _ = await scrape.run()
        assert items
        assert await scrape.states() == []
