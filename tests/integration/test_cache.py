"""The response cache in whole runs: a second run of an unchanged API sends conditional requests, or none."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest
from aiohttp import web
from worker_runs import nothing_left, serving, work

from scrapeq import Fetcher
from scrapeq.errors import UsageError
from scrapeq.fetch.response_cache import ResponseCache
from scrapeq.queue.connect import async_client

PLAN = """
version: 1
name: cached
client: {base_url: URL, cache: {}}
RULES
resources:
  - name: lists
    endpoint: {path: lists, paginator: {type: page_number, maximum_page: 3}, data_selector: rows}
    primary_key: id
  - name: details
    parent: lists
    endpoint: "lists/${parent.id}"
    primary_key: id
"""


class Api:
    """Three pages of two rows, each with a detail; responses have `headers` and an entity tag of their body."""

    def __init__(self, **headers: str) -> None:
        self.headers = headers
        self.rows: dict[int, str] = dict.fromkeys(range(6), "same")
        self.responses: list[tuple[str, int]] = []

    async def handle(self, request: web.Request) -> web.Response:
        """Return a page, a detail, or a 304."""
        if request.path == "/lists":
            first = 2 * (int(request.query.get("page", 1)) - 1)
            value: Any = {"rows": [{"id": n} for n in (first, first + 1) if n in self.rows]}
        else:
            number = int(request.path.rpartition("/")[2])
            value = {"id": number, "text": self.rows[number]}
        body = orjson.dumps(value)
        etag = f'"{hashlib.sha256(body).hexdigest()[:12]}"'
        status = 304 if request.headers.get("If-None-Match") == etag else 200
        self.responses.append((request.path_qs, status))
        headers = {"ETag": etag, **self.headers}
        if status == 304:
            return web.Response(status=304, headers=headers)
        return web.Response(body=body, headers={**headers, "Content-Type": "application/json"})

    def status_counts(self) -> Mapping[int, int]:
        """Return the number of responses by status since the last call."""
        statuses = Counter(status for _, status in self.responses)
        self.responses.clear()
        return statuses


@pytest.fixture
def cache_file(tmp_path: Path) -> Path:
    """Return the path of the cache file."""
    return tmp_path / ".scrapeq" / "cached.cache.db"


async def run(
    url: str, store_url: str, file: Path, text: str = PLAN, rules: str = "", **settings: Any
) -> Any:
    """Run with the cache and an empty queue."""
    client = async_client(store_url)
    await client.flushall()
    await client.aclose()
    cache = ResponseCache(file, max_size=10_000_000)
    return await work(url, store_url, text.replace("RULES", rules), nothing_left, cache=cache, **settings)


async def test_a_second_run_of_unchanged_pages_gets_only_304s(store_url: str, cache_file: Path) -> None:
    """Cached lists still yield records, children and next pages; changed ones are transferred again."""
    api = Api()
    async with serving(api.handle) as url:
        _, first, _ = await run(url, store_url, cache_file)
        assert api.status_counts() == {200: 9}
        worker, second, _ = await run(url, store_url, cache_file)
        assert api.status_counts() == {304: 9}
        assert (worker.tally.requests, worker.tally.not_modified, worker.tally.cached) == (9, 9, 0)
        api.rows[4] = "other"
        _, third, _ = await run(url, store_url, cache_file)
        assert api.status_counts() == {304: 8, 200: 1}
        await run(url, store_url, cache_file)
        assert api.status_counts() == {304: 9}
    ordered = [sorted(str(item) for item in sink.items) for sink in (first, second, third)]
    assert ordered[0] == ordered[1]
    assert len(set(ordered[2]) - set(ordered[1])) == 1


async def test_a_fresh_response_costs_neither_request_nor_limit(store_url: str, cache_file: Path) -> None:
    """With max-age, the second run sends nothing and does not use its limit."""
    api = Api(**{"Cache-Control": "max-age=3600"})
    rules = "rate_limits: [{name: calls, rates: [{limit: 100, interval: 1h, burst: 100}], partition_by: []}]"
    async with serving(api.handle) as url:
        _, first, queue = await run(url, store_url, cache_file, rules=rules)
        assert api.status_counts() == {200: 9}
        worker, second, queue = await run(url, store_url, cache_file, rules=rules)
        assert api.status_counts() == {}
    assert (worker.tally.requests, worker.tally.cached) == (0, 9)
    assert sorted(map(str, first.items)) == sorted(map(str, second.items))
    counts = await queue.counts()
    assert counts.answered == 0
    (limit,) = await queue.limit_states()
    assert limit.in_flight == 0


async def test_revalidate_true_also_revalidates_fresh_responses(store_url: str, cache_file: Path) -> None:
    """A child that changed while its page was fresh is found again through its parent."""
    text = PLAN.replace("cache: {}", "cache: {revalidate: true}")
    api = Api(**{"Cache-Control": "max-age=3600"})
    async with serving(api.handle) as url:
        await run(url, store_url, cache_file, text)
        api.status_counts()
        api.rows[4] = "other"
        _, sink, _ = await run(url, store_url, cache_file, text)
        assert api.status_counts() == {304: 8, 200: 1}
    assert any("other" in str(item) for item in sink.items)


async def test_responses_that_forbid_it_are_not_stored(store_url: str, cache_file: Path) -> None:
    """Responses with `no-store` or `Vary: *` are not stored."""
    for headers in ({"Cache-Control": "no-store"}, {"Vary": "*"}):
        api = Api(**headers)
        async with serving(api.handle) as url:
            await run(url, store_url, cache_file)
            api.status_counts()
            await run(url, store_url, cache_file)
            assert api.status_counts() == {200: 9}


async def test_revalidate_false_uses_only_fresh_responses(store_url: str, cache_file: Path) -> None:
    """Stale responses are requested again, without a condition."""
    text = PLAN.replace("cache: {}", "cache: {revalidate: false}")
    api = Api()
    async with serving(api.handle) as url:
        await run(url, store_url, cache_file, text)
        api.status_counts()
        await run(url, store_url, cache_file, text)
        assert api.status_counts() == {200: 9}
        api.headers = {"Cache-Control": "max-age=60"}
        await run(url, store_url, cache_file, text)
        api.status_counts()
        await run(url, store_url, cache_file, text)
        assert api.status_counts() == {}


async def test_a_response_belongs_to_its_credential_and_headers(store_url: str, cache_file: Path) -> None:
    """A run with another token or request header does not use the stored responses."""
    text = PLAN.replace(
        "cache: {}", "cache: {}, headers: {Accept: a/1}, auth: {type: bearer, token: '${env:T}'}"
    )
    api = Api(Vary="Accept")
    async with serving(api.handle) as url:
        await run(url, store_url, cache_file, text, env={"T": "first-token"})
        assert api.status_counts() == {200: 9}
        await run(url, store_url, cache_file, text, env={"T": "other-token"})
        assert api.status_counts() == {200: 9}
        await run(url, store_url, cache_file, text.replace("a/1", "a/2"), env={"T": "first-token"})
        assert api.status_counts() == {200: 9}
        await run(url, store_url, cache_file, text, env={"T": "first-token"})
        assert api.status_counts() == {304: 9}


async def test_a_304_weighs_what_its_rule_says_and_may_have_an_action(
    store_url: str, cache_file: Path
) -> None:
    """Weights are computed from the 304, and an action may match it: here, unchanged pages are skipped."""
    api = Api()
    limit = (
        "rate_limits: [{name: calls, partition_by: [], rates: [{limit: 100, interval: 1h, burst: 100}],"
        " weights: [{match: {status: 304}, weight: 0}]}]"
    )
    async with serving(api.handle) as url:
        await run(url, store_url, cache_file)
        api.status_counts()
        _, sink, queue = await run(url, store_url, cache_file, rules=limit)
        assert api.status_counts() == {304: 9}
        assert len(sink.items) == 12
        (state,) = await queue.limit_states()
        assert state.used == 0
        action = "response_actions: [{match: {status: 304, resource: lists}, action: ignore}]"
        _, sink, _ = await run(url, store_url, cache_file, rules=action)
        assert api.status_counts() == {304: 1}
    assert sink.items == []


async def test_a_304_with_another_tag_is_requested_again_unconditionally(
    store_url: str, cache_file: Path
) -> None:
    """A server that names another entity tag is not trusted, and no page is lost."""
    sent: list[str | None] = []

    async def handler(request: web.Request) -> web.Response:
        condition = request.headers.get("If-None-Match")
        sent.append(condition)
        if condition is not None:
            return web.Response(status=304, headers={"ETag": '"wrong"'})
        return web.json_response({"rows": [], "id": 1}, headers={"ETag": '"right"'})

    text = PLAN.replace(", paginator: {type: page_number, maximum_page: 3}", "")
    async with serving(handler) as url:
        await run(url, store_url, cache_file, text)
        _, _, queue = await run(url, store_url, cache_file, text)
    assert sent == [None, '"right"', None]
    assert (await queue.counts()).dead == 0


async def test_a_redirect_has_no_condition_and_its_response_is_not_stored(
    store_url: str, cache_file: Path
) -> None:
    """The validators of one URL do not apply to another."""
    conditions: list[tuple[str, str | None]] = []
    moved = False

    async def handler(request: web.Request) -> web.Response:
        conditions.append((request.path, request.headers.get("If-None-Match")))
        if moved and request.path == "/lists":
            raise web.HTTPFound("/elsewhere")
        return web.json_response({"rows": []}, headers={"ETag": '"one"'})

    text = PLAN.replace(", paginator: {type: page_number, maximum_page: 3}", "")
    async with serving(handler) as url:
        await run(url, store_url, cache_file, text)
        moved = True
        await run(url, store_url, cache_file, text)
        await run(url, store_url, cache_file, text)
    assert conditions == [
        ("/lists", None),
        ("/lists", '"one"'),
        ("/elsewhere", None),
        ("/lists", '"one"'),
        ("/elsewhere", None),
    ]


async def test_a_restarted_pagination_does_not_use_the_cache(store_url: str, cache_file: Path) -> None:
    """A fresh first page would contain the expired cursor."""
    sent: list[str] = []
    expired = {"old"}

    async def handler(request: web.Request) -> web.Response:
        cursor = request.query.get("cursor", "")
        sent.append(cursor)
        if cursor in expired:
            return web.json_response({}, status=410)
        fresh = {"Cache-Control": "max-age=3600"}
        if cursor:
            return web.json_response({"rows": [{"id": 2}]})
        following = "new" if len(sent) > 1 else "old"
        return web.json_response({"rows": [{"id": 1}], "next": following}, headers=fresh)

    text = """
version: 1
name: cached
client: {base_url: URL, cache: {}}
response_actions: [{match: {status: 410}, action: reset_pagination}]
resources:
  - name: lists
    endpoint: {path: lists, paginator: {type: cursor, cursor_path: next, cursor_param: cursor}, data_selector: rows}
    primary_key: id
"""
    async with serving(handler) as url:
        _, sink, queue = await run(url, store_url, cache_file, text)
    assert sent == ["", "old", "", "new"]
    assert (await queue.counts()).dead == 0
    assert {item.key for item in sink.items} == {"1", "2"}


async def test_a_write_invalidates_the_responses_of_its_url(store_url: str, cache_file: Path) -> None:
    """After a successful POST, the next GET of that URL is unconditional."""
    api = Api(**{"Cache-Control": "max-age=3600"})
    post = PLAN.replace("path: lists,", "path: lists, method: POST,").replace(
        "paginator: {type: page_number, maximum_page: 3}", "params: {page: 1}"
    )
    async with serving(api.handle) as url:
        await run(url, store_url, cache_file)
        assert api.status_counts() == {200: 9}
        await run(url, store_url, cache_file, post)
        api.status_counts()
        await run(url, store_url, cache_file)
        assert [path for path, _ in api.responses] == ["/lists?page=1"]


async def test_outputs_of_responses_receive_each_response_once(store_url: str, cache_file: Path) -> None:
    """A WARC output receives each response with its number of items, except fresh cached ones; JSON Lines none."""
    api = Api()
    text = PLAN + "outputs: [{type: warc, path: out/warc/}]"
    async with serving(api.handle) as url:
        _, sink, _ = await run(url, store_url, cache_file, text)
        assert sorted((page.status, count) for page, count in sink.pages) == [(200, 1)] * 6 + [(200, 2)] * 3
        assert all(page.body for page, _ in sink.pages)
        api.rows.clear()  # an empty first page ends the pagination
        api.headers = {"Cache-Control": "max-age=600"}
        _, sink, _ = await run(url, store_url, cache_file, text)
        assert [(page.status, count) for page, count in sink.pages] == [(200, 0)]
        _, sink, _ = await run(url, store_url, cache_file, text)
        assert sink.pages == []
        api.headers = {}
    plain = PLAN + "outputs: [{type: jsonl, path: out/x.jsonl}]"
    async with serving(Api().handle) as url:
        _, sink, _ = await run(url, store_url, cache_file, plain)
    assert sink.pages == []


async def test_a_fetcher_can_cache_responses(cache_file: Path) -> None:
    """Fresh responses need no request, stale ones a 304; changed ones are transferred again."""
    api = Api()
    async with serving(api.handle) as url:
        for _ in range(2):
            async with Fetcher(base_url=url, cache=cache_file) as fetcher:
                page = await fetcher.get("lists/3")
                assert (page.status, page.json()) == (200, {"id": 3, "text": "same"})
                assert page.requested_url == f"{url}/lists/3"
        assert api.status_counts() == {200: 1, 304: 1}
        api.headers = {"Cache-Control": "max-age=600"}
        api.rows[3] = "other"
        for _ in range(2):
            async with Fetcher(base_url=url, cache=cache_file) as fetcher:
                assert (await fetcher.get("lists/3")).json()["text"] == "other"
        assert api.status_counts() == {200: 1}
        async with Fetcher(base_url=url, cache=cache_file, headers={"Accept": "x/y"}) as fetcher:
            await fetcher.get("lists/3")
        assert api.status_counts() == {200: 1}


def test_a_fetcher_with_an_httpx_auth_cannot_cache(cache_file: Path) -> None:
    """An httpx.Auth lacks an identity that could be part of the cache key."""
    with pytest.raises(UsageError, match="cache"):
        Fetcher(cache=cache_file, auth=httpx.BasicAuth("a", "b"))


REDIRECTED = """
version: 1
name: hops
client: {base_url: URL, allow_hosts: [127.0.0.1], cache: {}}
rate_limits: [{name: one, max_concurrency: 1}]
resources: [{name: page, endpoint: here, primary_key: n}]
"""


async def test_the_response_to_a_queued_hop_is_not_stored(store_url: str, tmp_path: Path) -> None:
    """The response is still read like any other."""

    async def handler(request: web.Request) -> web.Response:
        if request.path == "/there":
            return web.json_response([{"n": 1}], headers={"ETag": '"1"', "Cache-Control": "max-age=60"})
        raise web.HTTPFound("/there")

    cache = ResponseCache(tmp_path / "cache.db", max_size=1_000_000)
    async with serving(handler) as url:
        _, sink, queue = await work(url, store_url, REDIRECTED, nothing_left, cache=cache)
    assert (await queue.counts()).dead == 0
    assert [item.record for item in sink.items] == [{"n": 1}]
