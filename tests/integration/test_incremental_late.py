"""Incremental states that changed meanwhile: late dead letters, and a bookmark that the server no longer knows."""

from __future__ import annotations

import asyncio

import pytest
from aiohttp import web
from incremental_runs import BOOKMARK, CHANGES, Changes, Scrape
from worker_runs import serving

from scrapeq.protocols import CursorState
from scrapeq.queue import Queue
from scrapeq.queue.connect import async_client
from scrapeq.resource.cursor_store import RedisCursorStore
from scrapeq.supervise.run_state import RunState


async def test_a_state_may_be_stored_after_the_lease_would_end(
    store_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Storing the final state may take longer than the lease, because the task is acked before."""
    save = RedisCursorStore.save

    async def slow(states: RedisCursorStore, key: str, state: CursorState) -> None:
        await asyncio.sleep(0.5)
        await save(states, key, state)

    monkeypatch.setattr(RedisCursorStore, "save", slow)
    server = Changes()
    server.change(1, 2)
    async with serving(server.respond) as url:
        scrape = Scrape(store_url, CHANGES, url, lease_s=0.6)
        _, worker = await scrape.run()
        assert len(await scrape.stored_states()) == 1
    assert worker.tally.lost == 0


async def redrive(scrape: Scrape) -> None:
    """Turn the dead letters of the finished run into tasks again."""
    client = async_client(scrape.store_url)
    async with Queue(client, scrape.plan().name) as queue:
        assert await queue.redrive(*[dead.id for dead in await queue.peek(9, "dead")]) == [True]
        assert await RunState(client, queue).reopen()
    await client.aclose()


async def test_a_dead_letter_redriven_late_does_not_reset_the_state(store_url: str) -> None:
    """Its pages end at an older record than those of later runs."""
    server = Changes(broken_page=2)
    server.change(*range(1, 5))
    async with serving(server.respond) as url:
        scrape = Scrape(store_url, CHANGES, url)
        await scrape.run()
        server.broken_page = 0
        server.change(8, 9, minute=5)
        await scrape.run()
        (state,) = await scrape.stored_states()
        assert state["cursor"] == "2024-05-01T12:05:09Z"
        await redrive(scrape)
        items, _ = await scrape.run()
        assert items
        assert await scrape.stored_states() == [state]


async def test_a_full_refresh_drops_the_dead_letters_of_what_it_fetches_again(store_url: str) -> None:
    """Redriven afterwards, one would store a state that the full refresh has deleted."""
    server = Changes()
    server.change(1, 2, 3)
    async with serving(server.respond) as url:
        scrape = Scrape(store_url, CHANGES, url)
        await scrape.run()
        server.change(*range(4, 9), minute=5)
        server.broken_page = 2
        await scrape.run()
        client = async_client(store_url)
        async with Queue(client, scrape.plan().name) as queue:
            assert (await queue.counts()).dead == 1
            await RunState(client, queue).reset(None)
            assert (await queue.counts()).dead == 0
        await client.aclose()
        assert await scrape.stored_states() == []


FORGETFUL = BOOKMARK.replace(
    "resources:", "response_actions: [{match: {status: 410}, action: reset_pagination}]\nresources:"
)


async def test_a_bookmark_that_the_server_has_forgotten_is_replaced(store_url: str) -> None:
    """If the first page is refused, the pagination restarts without the token, and stores its own at the end."""
    requested: list[dict[str, str]] = []
    lost: set[str] = set()
    start = {"start_time": "1735689600"}

    async def respond(request: web.Request) -> web.Response:
        requested.append(dict(request.query))
        cursor = request.query.get("cursor", "a0")
        if cursor in lost:
            return web.json_response({}, status=410)
        number = int(cursor[1:]) + 1
        age = chr(ord("a") + len(lost))
        return web.json_response(
            {"tickets": [{"id": number}], "after_cursor": f"{age}{number}", "end_of_stream": number > 1}
        )

    async with serving(respond) as url:
        scrape = Scrape(store_url, FORGETFUL, url)
        await scrape.run()
        assert (await scrape.stored_states())[0]["token"] == "a2"
        lost.add("a2")
        requested.clear()
        items, worker = await scrape.run()
        assert requested == [{"cursor": "a2"}, start, {**start, "cursor": "b1"}]
        assert [item.key for item in items] == ["1", "2"]
        (state,) = await scrape.stored_states()
        assert (state["token"], worker.tally.dead) == ("b2", 0)
        requested.clear()
        await scrape.run()
        assert requested == [{"cursor": "b2"}]
