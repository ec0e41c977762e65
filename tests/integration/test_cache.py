"""Answers that are kept: a second run of an API that did not change asks conditionally, or not at all."""

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
from test_worker_rules import nothing_left, serving, work

from scrapeq import Fetcher
from scrapeq.errors import UsageError
from scrapeq.fetch.response_cache import ResponseCache
from scrapeq.queue.connect import async_client

PLAN = """
version: 1
name: kept
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
    """Three pages of two rows, each with a detail; answers carry `headers` and an entity tag of their body."""

    def __init__(self, **headers: str) -> None:
        self.headers = headers
        self.rows: dict[int, str] = dict.fromkeys(range(6), "same")
        self.answers: list[tuple[str, int]] = []

    async def handle(self, request: web.Request) -> web.Response:
        """A page, a detail, or 304."""
        if request.path == "/lists":
            first = 2 * (int(request.query.get("page", 1)) - 1)
            value: Any = {"rows": [{"id": n} for n in (first, first + 1) if n in self.rows]}
        else:
            number = int(request.path.rpartition("/")[2])
            value = {"id": number, "text": self.rows[number]}
        body = orjson.dumps(value)
        etag = f'"{hashlib.sha256(body).hexdigest()[:12]}"'
        status = 304 if request.headers.get("If-None-Match") == etag else 200
        self.answers.append((request.path_qs, status))
        headers = {"ETag": etag, **self.headers}
        if status == 304:
            return web.Response(status=304, headers=headers)
        return web.Response(body=body, headers={**headers, "Content-Type": "application/json"})

    def took(self) -> Mapping[int, int]:
        """How many of each status, since asked last."""
        statuses = Counter(status for _, status in self.answers)
        self.answers.clear()
        return statuses


@pytest.fixture
def cache_file(tmp_path: Path) -> Path:
    """Where answers are kept."""
    return tmp_path / ".scrapeq" / "kept.cache.db"


async def run(url: str, store_url: str, file: Path, text: str = PLAN, rules: str = "", **given: Any) -> Any:
    """A whole run with the cache, in a queue that knows no earlier one."""
    client = async_client(store_url)
    await client.flushall()
    await client.aclose()
    cache = ResponseCache(file, max_size=10_000_000)
    return await work(url, store_url, text.replace("RULES", rules), nothing_left, cache=cache, **given)


async def test_a_second_run_of_what_did_not_change_is_304s_alone(store_url: str, cache_file: Path) -> None:
    """Lists of 304s give their records, their children and their next pages all the same; what changed comes whole."""
    api = Api()
    async with serving(api.handle) as url:
        _, first, _ = await run(url, store_url, cache_file)
        assert api.took() == {200: 9}
        worker, second, _ = await run(url, store_url, cache_file)
        assert api.took() == {304: 9}
        assert (worker.tally.requests, worker.tally.not_modified, worker.tally.cached) == (9, 9, 0)
        api.rows[4] = "other"
        _, third, _ = await run(url, store_url, cache_file)
        assert api.took() == {304: 8, 200: 1}
        await run(url, store_url, cache_file)
        assert api.took() == {304: 9}
    ordered = [sorted(str(item) for item in sink.items) for sink in (first, second, third)]
    assert ordered[0] == ordered[1]
    assert len(set(ordered[2]) - set(ordered[1])) == 1


async def test_a_fresh_answer_needs_no_request_and_costs_no_limit(store_url: str, cache_file: Path) -> None:
    """max-age: the second run sends nothing, and its limit is as full as if nothing had been asked."""
    api = Api(**{"Cache-Control": "max-age=3600"})
    rules = "rate_limits: [{name: calls, rates: [{limit: 100, interval: 1h, burst: 100}], partition_by: []}]"
    async with serving(api.handle) as url:
        _, first, queue = await run(url, store_url, cache_file, rules=rules)
        assert api.took() == {200: 9}
        worker, second, queue = await run(url, store_url, cache_file, rules=rules)
        assert api.took() == {}
    assert (worker.tally.requests, worker.tally.cached) == (0, 9)
    assert sorted(map(str, first.items)) == sorted(map(str, second.items))
    counts = await queue.counts()
    assert counts.answered == 0
    (limit,) = await queue.limit_states()
    assert limit.in_flight == 0


async def test_revalidate_true_asks_for_what_is_fresh_too(store_url: str, cache_file: Path) -> None:
    """A child that changed within the freshness of its page is seen when its parent leads there again."""
    text = PLAN.replace("cache: {}", "cache: {revalidate: true}")
    api = Api(**{"Cache-Control": "max-age=3600"})
    async with serving(api.handle) as url:
        await run(url, store_url, cache_file, text)
        api.took()
        api.rows[4] = "other"
        _, sink, _ = await run(url, store_url, cache_file, text)
        assert api.took() == {304: 8, 200: 1}
    assert any("other" in str(item) for item in sink.items)


async def test_what_forbids_to_be_kept_is_not(store_url: str, cache_file: Path) -> None:
    """no-store, and answers that vary with everything."""
    for headers in ({"Cache-Control": "no-store"}, {"Vary": "*"}):
        api = Api(**headers)
        async with serving(api.handle) as url:
            await run(url, store_url, cache_file)
            api.took()
            await run(url, store_url, cache_file)
            assert api.took() == {200: 9}


async def test_revalidate_false_keeps_only_what_is_fresh(store_url: str, cache_file: Path) -> None:
    """What is no longer fresh is asked for anew, without a condition."""
    text = PLAN.replace("cache: {}", "cache: {revalidate: false}")
    api = Api()
    async with serving(api.handle) as url:
        await run(url, store_url, cache_file, text)
        api.took()
        await run(url, store_url, cache_file, text)
        assert api.took() == {200: 9}
        api.headers = {"Cache-Control": "max-age=60"}
        await run(url, store_url, cache_file, text)
        api.took()
        await run(url, store_url, cache_file, text)
        assert api.took() == {}


async def test_an_answer_belongs_to_its_credential_and_its_fields(store_url: str, cache_file: Path) -> None:
    """Another token, or another header of the request, asks for itself."""
    text = PLAN.replace(
        "cache: {}", "cache: {}, headers: {Accept: a/1}, auth: {type: bearer, token: '${env:T}'}"
    )
    api = Api(Vary="Accept")
    async with serving(api.handle) as url:
        await run(url, store_url, cache_file, text, env={"T": "first-token"})
        assert api.took() == {200: 9}
        await run(url, store_url, cache_file, text, env={"T": "other-token"})
        assert api.took() == {200: 9}
        await run(url, store_url, cache_file, text.replace("a/1", "a/2"), env={"T": "first-token"})
        assert api.took() == {200: 9}
        await run(url, store_url, cache_file, text, env={"T": "first-token"})
        assert api.took() == {304: 9}


async def test_a_304_weighs_what_its_rule_says_and_may_have_an_action(
    store_url: str, cache_file: Path
) -> None:
    """Weights are judged on the 304, and so is an action that names it: here, what did not change is left out."""
    api = Api()
    limit = (
        "rate_limits: [{name: calls, partition_by: [], rates: [{limit: 100, interval: 1h, burst: 100}],"
        " weights: [{match: {status: 304}, weight: 0}]}]"
    )
    async with serving(api.handle) as url:
        await run(url, store_url, cache_file)
        api.took()
        _, sink, queue = await run(url, store_url, cache_file, rules=limit)
        assert api.took() == {304: 9}
        assert len(sink.items) == 12
        (state,) = await queue.limit_states()
        assert state.used == 0
        action = "response_actions: [{match: {status: 304, resource: lists}, action: ignore}]"
        _, sink, _ = await run(url, store_url, cache_file, rules=action)
        assert api.took() == {304: 1}
    assert sink.items == []


async def test_a_304_of_something_else_is_asked_again_plainly(store_url: str, cache_file: Path) -> None:
    """A server that names another entity tag is not believed, and no page is lost."""
    asked: list[str | None] = []

    async def handler(request: web.Request) -> web.Response:
        condition = request.headers.get("If-None-Match")
        asked.append(condition)
        if condition is not None:
            return web.Response(status=304, headers={"ETag": '"wrong"'})
        return web.json_response({"rows": [], "id": 1}, headers={"ETag": '"right"'})

    text = PLAN.replace(", paginator: {type: page_number, maximum_page: 3}", "")
    async with serving(handler) as url:
        await run(url, store_url, cache_file, text)
        _, _, queue = await run(url, store_url, cache_file, text)
    assert asked == [None, '"right"', None]
    assert (await queue.counts()).dead == 0


async def test_a_redirect_carries_no_condition_and_its_answer_is_not_kept(
    store_url: str, cache_file: Path
) -> None:
    """The validators of one address say nothing of another."""
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


async def test_a_walk_that_begins_anew_is_not_begun_from_what_was_kept(
    store_url: str, cache_file: Path
) -> None:
    """A first page that is fresh holds the cursor that has expired."""
    asked: list[str] = []
    expired = {"old"}

    async def handler(request: web.Request) -> web.Response:
        cursor = request.query.get("cursor", "")
        asked.append(cursor)
        if cursor in expired:
            return web.json_response({}, status=410)
        fresh = {"Cache-Control": "max-age=3600"}
        if cursor:
            return web.json_response({"rows": [{"id": 2}]})
        following = "new" if len(asked) > 1 else "old"
        return web.json_response({"rows": [{"id": 1}], "next": following}, headers=fresh)

    text = """
version: 1
name: kept
client: {base_url: URL, cache: {}}
response_actions: [{match: {status: 410}, action: reset_pagination}]
resources:
  - name: lists
    endpoint: {path: lists, paginator: {type: cursor, cursor_path: next, cursor_param: cursor}, data_selector: rows}
    primary_key: id
"""
    async with serving(handler) as url:
        _, sink, queue = await run(url, store_url, cache_file, text)
    assert asked == ["", "old", "", "new"]
    assert (await queue.counts()).dead == 0
    assert {item.key for item in sink.items} == {"1", "2"}


async def test_a_write_voids_what_was_kept_of_its_address(store_url: str, cache_file: Path) -> None:
    """A POST that was answered well: the next GET of that address is a plain one."""
    api = Api(**{"Cache-Control": "max-age=3600"})
    post = PLAN.replace("path: lists,", "path: lists, method: POST,").replace(
        "paginator: {type: page_number, maximum_page: 3}", "params: {page: 1}"
    )
    async with serving(api.handle) as url:
        await run(url, store_url, cache_file)
        assert api.took() == {200: 9}
        await run(url, store_url, cache_file, post)
        api.took()
        await run(url, store_url, cache_file)
        assert [path for path, _ in api.answers] == ["/lists?page=1"]


async def test_outputs_of_answers_are_given_each_answer_once(store_url: str, cache_file: Path) -> None:
    """The answer as it came, with its first items, or alone; a 304 as a 304; nothing where nothing was asked for."""
    api = Api()
    text = PLAN + "outputs: [{type: warc, path: out/warc/}]"
    async with serving(api.handle) as url:
        _, sink, _ = await run(url, store_url, cache_file, text)
        assert sorted((page.status, count) for page, count in sink.pages) == [(200, 1)] * 6 + [(200, 2)] * 3
        assert all(page.body for page, _ in sink.pages)
        api.rows.clear()  # an empty first page ends the walk
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


async def test_a_fetcher_may_keep_answers_too(cache_file: Path) -> None:
    """Fresh ones without a request, others by a 304; what changed comes whole."""
    api = Api()
    async with serving(api.handle) as url:
        for _ in range(2):
            async with Fetcher(base_url=url, cache=cache_file) as fetcher:
                page = await fetcher.get("lists/3")
                assert (page.status, page.json()) == (200, {"id": 3, "text": "same"})
                assert page.requested_url == f"{url}/lists/3"
        assert api.took() == {200: 1, 304: 1}
        api.headers = {"Cache-Control": "max-age=600"}
        api.rows[3] = "other"
        for _ in range(2):
            async with Fetcher(base_url=url, cache=cache_file) as fetcher:
                assert (await fetcher.get("lists/3")).json()["text"] == "other"
        assert api.took() == {200: 1}
        async with Fetcher(base_url=url, cache=cache_file, headers={"Accept": "x/y"}) as fetcher:
            await fetcher.get("lists/3")
        assert api.took() == {200: 1}


def test_a_fetcher_with_a_flow_of_its_own_keeps_nothing(cache_file: Path) -> None:
    """Nobody could tell whose an answer is."""
    with pytest.raises(UsageError, match="cache"):
        Fetcher(cache=cache_file, auth=httpx.BasicAuth("a", "b"))


REDIRECTED = """
version: 1
name: hops
client: {base_url: URL, allow_hosts: [127.0.0.1], cache: {}}
rate_limits: [{name: one, max_concurrency: 1}]
resources: [{name: page, endpoint: here, primary_key: n}]
"""


async def test_a_hop_that_waited_for_its_limit_is_no_answer_to_keep(store_url: str, tmp_path: Path) -> None:
    """It is read as any other, where answers are kept."""

    async def handler(request: web.Request) -> web.Response:
        if request.path == "/there":
            return web.json_response([{"n": 1}], headers={"ETag": '"1"', "Cache-Control": "max-age=60"})
        raise web.HTTPFound("/there")

    cache = ResponseCache(tmp_path / "cache.db", max_size=1_000_000)
    async with serving(handler) as url:
        _, sink, queue = await work(url, store_url, REDIRECTED, nothing_left, cache=cache)
    assert (await queue.counts()).dead == 0
    assert [item.record for item in sink.items] == [{"n": 1}]
