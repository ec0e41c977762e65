"""Incremental resources against a real store and server: later runs request only what is new, and lose nothing."""

from __future__ import annotations

import time

import pytest
from aiohttp import web
from incremental_runs import BOOKMARK, CHANGES, Changes, Scrape
from worker_runs import serving


async def test_the_second_run_requests_only_what_is_new(store_url: str) -> None:
    """The second run starts at the stored cursor minus the lookback, the first run at the initial value."""
    server = Changes()
    server.change(*range(1, 8))
    async with serving(server.respond) as url:
        scrape = Scrape(store_url, CHANGES, url)
        items, _ = await scrape.run()
        assert len(items) == 7
        assert {requested["since"] for requested in server.requested} == {"2024-01-01T00:00:00Z"}
        (state,) = await scrape.stored_states()
        assert (state["resource"], state["cursor"]) == ("changes", "2024-05-01T12:00:07Z")
        server.requested.clear()
        server.change(3, minute=30)
        items, _ = await scrape.run()
        assert {requested["since"] for requested in server.requested} == {"2024-05-01T11:59:57Z"}
        assert items[0].key == "3"
        (state,) = await scrape.stored_states()
        assert state["cursor"] == "2024-05-01T12:30:03Z"
        items, _ = await scrape.run()
        assert [item.key for item in items] == ["3"], "a record within the lookback"


async def test_runs_without_records_leave_the_state(store_url: str) -> None:
    """A first run without records does not store a state; a later one does not change it."""
    server = Changes()
    async with serving(server.respond) as url:
        scrape = Scrape(store_url, CHANGES, url)
        assert await scrape.run()
        assert await scrape.stored_states() == []
        server.change(1)
        await scrape.run()
        server.records.clear()
        await scrape.run()
        (state,) = await scrape.stored_states()
        assert state["cursor"] == "2024-05-01T12:00:01Z"


async def test_a_dead_page_in_the_middle_stores_no_state(store_url: str) -> None:
    """The older records of newest-first pages were not read, so the next run requests all of them again."""
    server = Changes(broken_page=2)
    server.change(*range(1, 8))
    async with serving(server.respond) as url:
        scrape = Scrape(store_url, CHANGES, url)
        items, _ = await scrape.run()
        assert len(items) == 3
        assert await scrape.stored_states() == []
        server.broken_page = 0
        items, _ = await scrape.run()
        assert {item.key for item in items} == {str(n) for n in range(1, 8)}
        assert len(await scrape.stored_states()) == 1


async def test_the_cursor_of_the_server_is_stored(store_url: str) -> None:
    """The next run starts at the token of the last page; an empty page without a token keeps the stored one."""
    tickets = [{"id": n} for n in range(1, 6)]
    requested: list[dict[str, str]] = []

    async def respond(request: web.Request) -> web.Response:
        requested.append(dict(request.query))
        after = int(request.query.get("cursor", "c0")[1:])
        page = tickets[after : after + 2]
        token = f"c{after + len(page)}" if page else None
        end = after + len(page) == len(tickets)
        return web.json_response({"tickets": page, "after_cursor": token, "end_of_stream": end})

    async with serving(respond) as url:
        scrape = Scrape(store_url, BOOKMARK, url)
        items, _ = await scrape.run()
        assert len(items) == 5
        assert requested[0] == {"start_time": "1735689600"}
        assert (await scrape.stored_states())[0]["token"] == "c5"
        requested.clear()
        await scrape.run()
        assert requested == [{"cursor": "c5"}]
        assert (await scrape.stored_states())[0]["token"] == "c5", "null leaves the stored token"
        tickets.append({"id": 6})
        items, _ = await scrape.run()
        assert [item.key for item in items] == ["6"]
        assert (await scrape.stored_states())[0]["token"] == "c6"


CHANNELS = """
version: 1
name: channels
client: {base_url: URL}
resources:
  - {name: channels, endpoint: channels, primary_key: id, priority: record.topic}
  - name: messages
    parent: {resource: channels, when: parent.member}
    endpoint:
      path: history
      params: {channel: "${parent.id}", oldest: "${incremental.start_value}", topic: "${parent.topic}"}
      incremental: {cursor_path: ts, initial_value: "0"}
    include_from_parent: [id]
    primary_key: [_channels_id, ts]
"""


async def test_state_is_stored_for_each_parent(store_url: str) -> None:
    """The state belongs to the parent's primary key, although another field of the parent is part of the request."""
    channels = [{"id": "C1", "member": True, "topic": 1}, {"id": "C2", "member": True, "topic": 2}]
    stamps = {"C1": ["1512085950.000216", "1512085950.000218"], "C2": ["900.5"]}
    requested: list[dict[str, str]] = []

    async def respond(request: web.Request) -> web.Response:
        if request.path == "/channels":
            return web.json_response(channels)
        requested.append(dict(request.query))
        oldest = float(request.query["oldest"])
        found = [ts for ts in stamps[request.query["channel"]] if float(ts) > oldest]
        return web.json_response([{"ts": ts} for ts in found])

    async with serving(respond) as url:
        scrape = Scrape(store_url, CHANNELS, url)
        await scrape.run()
        assert sorted((one["channel"], one["oldest"]) for one in requested) == [("C1", "0"), ("C2", "0")]
        stored = [(state["parent"], state["cursor"]) for state in await scrape.stored_states()]
        assert stored == [("C1", "1512085950.000218"), ("C2", "900.5")]
        requested.clear()
        channels[0]["topic"] = 7
        stamps["C2"].append("1000.25")
        items, _ = await scrape.run()
        assert sorted((one["channel"], one["oldest"]) for one in requested) == [
            ("C1", "1512085950.000218"),
            ("C2", "900.5"),
        ]
        assert [item.record["ts"] for item in items if item.resource == "messages"] == ["1000.25"]


SEARCH = """
version: 1
name: search
client: {base_url: URL}
resources:
  - name: search
    primary_key: id
    endpoint:
      path: search
      params: {from: "${incremental.start_value}", to: "${incremental.end_value}"}
      paginator: {type: page_number, page_param: page, maximum_page: 5}
      incremental: {cursor_path: at, initial_value: INITIAL, step: 10d}
"""
DAY_S = 86_400
QUERY_MAX = 10  # records per query of the search


@pytest.mark.parametrize("as_text", [False, True])
async def test_windows_get_all_records_of_a_limited_search(store_url: str, as_text: bool) -> None:
    """Windows follow each other up to now; the next run starts at the end of the last window with records."""
    now_s = int(time.time())
    start_s = now_s - 45 * DAY_S
    records = [{"id": n, "at": start_s + n * DAY_S} for n in range(40)]  # ten days are ten records
    requested: list[tuple[int, int, int]] = []

    async def respond(request: web.Request) -> web.Response:
        start, end = int(request.query["from"]), int(request.query["to"])
        page = int(request.query["page"])
        requested.append((start, end, page))
        found = [one for one in records if start <= one["at"] < end][:QUERY_MAX]
        return web.json_response(found[(page - 1) * 5 : page * 5])

    text = SEARCH.replace("INITIAL", f"'{start_s}'" if as_text else str(start_s))
    async with serving(respond) as url:
        scrape = Scrape(store_url, text, url)
        items, _ = await scrape.run()
        assert sorted({int(item.key) for item in items}) == list(range(40))
        windows = sorted({(start, end) for start, end, _ in requested})
        ends = [end for _, end in windows]
        assert [start for start, _ in windows] == [start_s, *ends[:-1]], "no gap and no overlap"
        assert [end - start for start, end in windows[:-1]] == [10 * DAY_S] * 4
        assert now_s <= ends[-1] <= now_s + 20
        (state,) = await scrape.stored_states()
        assert int(state["cursor"]) == ends[-2], "the last window had no record: it is requested again"
        requested.clear()
        await scrape.run()
        assert {start for start, _, _ in requested} == {ends[-2]}


async def test_the_state_is_stored_after_each_window(store_url: str) -> None:
    """After a dead page in the third window, the next run continues with that window."""
    start_s = int(time.time()) - 45 * DAY_S
    requested: list[int] = []
    broken = [start_s + 20 * DAY_S]

    async def respond(request: web.Request) -> web.Response:
        start = int(request.query["from"])
        requested.append(start)
        return web.json_response([], status=404 if start in broken else 200)

    async with serving(respond) as url:
        scrape = Scrape(store_url, SEARCH.replace("INITIAL", str(start_s)), url)
        await scrape.run()
        assert sorted(requested) == [start_s, start_s + 10 * DAY_S, start_s + 20 * DAY_S]
        (state,) = await scrape.stored_states()
        assert state["cursor"] == start_s + 20 * DAY_S
        requested.clear()
        broken.clear()
        await scrape.run()
        assert min(requested) == start_s + 20 * DAY_S
        assert len(requested) == 3


FEED = """
version: 1
name: feed
client: {base_url: URL}
resources:
  - name: posts
    primary_key: id
    record_filter: default(record.id > incremental.start_value, true)
    endpoint:
      path: posts
      paginator: {type: page_number, stop_when: "records[-1].id <= incremental.start_value"}
      incremental: {cursor_path: id}
"""


async def test_pages_are_requested_as_far_as_the_stored_cursor(store_url: str) -> None:
    """Pages are requested from the newest as far as needed; record filters can read the stored cursor."""
    posts = list(range(1, 21))
    pages: list[int] = []

    async def respond(request: web.Request) -> web.Response:
        page = int(request.query["page"])
        pages.append(page)
        newest = posts[::-1][(page - 1) * 4 : page * 4]
        return web.json_response([{"id": number} for number in newest])

    async with serving(respond) as url:
        scrape = Scrape(store_url, FEED, url)
        items, _ = await scrape.run()
        assert (len(items), pages) == (20, [1, 2, 3, 4, 5, 6])
        pages.clear()
        posts += [21, 22, 23, 24, 25]
        items, _ = await scrape.run()
        assert [item.record["id"] for item in items] == [25, 24, 23, 22, 21]
        assert pages == [1, 2]
