"""Walks whose ground has moved: a dead letter redriven late, a bookmark that the server has forgotten."""

from __future__ import annotations

import asyncio
import functools

import pytest
import test_incremental
from aiohttp import web
from test_incremental import BOOKMARK, CHANGES, Changes, Scrape
from test_worker_rules import serving

from scrapeq.protocols import CursorState
from scrapeq.queue import Queue
from scrapeq.queue.connect import async_client
from scrapeq.resource.cursor_store import RedisCursorStore
from scrapeq.supervise.run_state import RunState


async def test_what_is_kept_late_is_kept(store_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A task that is acked has no lease to renew, and is not given up for want of it while its walk's end is kept."""
    keep = RedisCursorStore.keep

    async def slow(states: RedisCursorStore, key: str, state: CursorState) -> None:
        await asyncio.sleep(0.5)
        await keep(states, key, state)

    monkeypatch.setattr(RedisCursorStore, "keep", slow)
    monkeypatch.setattr(test_incremental, "Queue", functools.partial(Queue, lease_s=0.6))
    server = Changes()
    server.change(1, 2)
    async with serving(server.answer) as url:
        scrape = Scrape(store_url, CHANGES, url)
        _, worker = await scrape.run()
        assert len(await scrape.cursor_store()) == 1
    assert worker.tally.lost == 0


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
        (state,) = await scrape.cursor_store()
        assert state["cursor"] == "2024-05-01T12:05:09Z"
        await redrive(scrape)
        items, _ = await scrape.run()
        assert items
        assert await scrape.cursor_store() == [state]


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
            await RunState(client, queue).reset(None)
        await client.aclose()
        server.broken_page = 0
        await redrive(scrape)
        items, _ = await scrape.run()
        assert items
        assert await scrape.cursor_store() == []


FORGETFUL = BOOKMARK.replace(
    "resources:", "response_actions: [{match: {status: 410}, action: reset_pagination}]\nresources:"
)


async def test_a_bookmark_that_the_server_has_forgotten_is_let_go(store_url: str) -> None:
    """A walk whose first page is refused begins anew without the token, and keeps its own at the end."""
    asked: list[dict[str, str]] = []
    lost: set[str] = set()
    start = {"start_time": "1735689600"}

    async def answer(request: web.Request) -> web.Response:
        asked.append(dict(request.query))
        cursor = request.query.get("cursor", "a0")
        if cursor in lost:
            return web.json_response({}, status=410)
        number = int(cursor[1:]) + 1
        age = chr(ord("a") + len(lost))
        return web.json_response(
            {"tickets": [{"id": number}], "after_cursor": f"{age}{number}", "end_of_stream": number > 1}
        )

    async with serving(answer) as url:
        scrape = Scrape(store_url, FORGETFUL, url)
        await scrape.run()
        assert (await scrape.cursor_store())[0]["token"] == "a2"
        lost.add("a2")
        asked.clear()
        items, worker = await scrape.run()
        assert asked == [{"cursor": "a2"}, start, {**start, "cursor": "b1"}]
        assert [item.key for item in items] == ["1", "2"]
        (state,) = await scrape.cursor_store()
        assert (state["token"], worker.tally.dead) == ("b2", 0)
        asked.clear()
        await scrape.run()
        assert asked == [{"cursor": "b2"}]
