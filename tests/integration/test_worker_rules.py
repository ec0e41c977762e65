"""What a fetch worker does with redirects, refusals and answers that never come, over a real store and real sockets."""

from __future__ import annotations

import itertools
import time

import pytest
from aiohttp import web
from worker_runs import nothing_left, serving, work

from scrapeq.errors import UsageError
from scrapeq.queue import Queue
from scrapeq.queue.commands import ACK, Entry
from scrapeq.queue.connect import async_client
from scrapeq.queue.worker_queue import WorkerQueue
from scrapeq.task import NewTask

PLAN = """
version: 1
name: rules
client: {base_url: URL, allow_hosts: [127.0.0.1]}
RULES
seeds: [{n: 1}, {n: 2}, {n: 3}, {n: 4}, {n: 5}, {n: 6}]
resources: [{name: page, endpoint: "p/${seed.n}", primary_key: n}]
"""


async def test_tasks_that_are_redirected_to_one_address_are_all_done(store_url: str) -> None:
    """A hop that waits for its limit is a task without an identity: none of six is dropped as a duplicate."""

    async def handler(request: web.Request) -> web.Response:
        if request.path == "/common":
            return web.json_response([{"n": request.query["n"]}])
        raise web.HTTPFound("/common?n=x")

    rules = "rate_limits: [{name: common, match: {path: /common*}, max_concurrency: 1}]"
    async with serving(handler) as url:
        worker, sink, queue = await work(url, store_url, PLAN.replace("RULES", rules), nothing_left)
    assert len(sink.items) == 6
    assert (await queue.counts()).dead == 0
    assert worker.tally.redirects >= 6


async def test_tasks_of_a_schedule_that_are_redirected_to_one_address_are_all_done(store_url: str) -> None:
    """An occurrence asks for a request once, but a hop is the rest of its task, with its seed."""

    async def handler(request: web.Request) -> web.Response:
        if request.path == "/last":
            return web.json_response([{"n": "x"}])
        raise web.HTTPFound("/last" if request.path == "/common" else "/common")

    rules = "rate_limits: [{name: common, max_concurrency: 1}]"
    plan = PLAN.replace("RULES", rules).replace("primary_key: n}", "primary_key: n, schedule: {every: 1h}}")
    async with serving(handler) as url:
        _, sink, _ = await work(url, store_url, plan, nothing_left)
    assert sorted(item.seed["n"] for item in sink.items) == [1, 2, 3, 4, 5, 6]


REDIRECTED = """
version: 1
name: redirected
client: {base_url: URL, allow_hosts: [127.0.0.1]}
rate_limits: [{name: one, max_concurrency: 1}]
ACTIONS
resources:
  - name: pages
    primary_key: n
    endpoint:
      method: POST
      path: search
      json: {page: 1}
      paginator: {type: page_number, page_body_path: page, maximum_page: 14}
"""


@pytest.mark.parametrize("expiring", [0, 13])
async def test_a_walk_goes_on_from_its_own_request_after_hops_that_waited(
    store_url: str, expiring: int
) -> None:
    """Every page is redirected over a closed limit: hops are counted for a page, and the next is asked for alike."""
    asked: list[tuple[str, str, int]] = []
    was_reset = False

    async def handler(request: web.Request) -> web.Response:
        nonlocal was_reset
        if request.path == "/search":
            page = (await request.json())["page"]
            asked.append((request.method, request.path, page))
            raise web.HTTPSeeOther(f"/results/{page}")
        page = int(request.path.rpartition("/")[2])
        if page == expiring and not was_reset:
            was_reset = True
            return web.json_response({}, status=410)
        return web.json_response([{"n": page}])

    actions = "response_actions: [{match: {status: 410}, action: reset_pagination}]" if expiring else ""
    plan = REDIRECTED.replace("ACTIONS", actions)
    async with serving(handler) as url:
        _, sink, queue = await work(url, store_url, plan, nothing_left)
    walk = [("POST", "/search", page) for page in range(1, 15)]
    assert asked == walk[: expiring or 0] + walk
    assert {item.record["n"] for item in sink.items} == set(range(1, 15))
    assert (await queue.counts()).dead == 0


async def test_a_refusal_after_a_redirect_closes_the_limit_that_refused(store_url: str) -> None:
    """The address that redirects is not the one that refuses."""

    async def handler(request: web.Request) -> web.Response:
        if request.path == "/there":
            return web.json_response({}, status=429, headers={"Retry-After": "300"})
        raise web.HTTPFound("/there")

    rules = (
        "rate_limits: [{name: here, match: {path: /p/*}, max_concurrency: 2, partition_by: []},"
        " {name: there, match: {path: /there}, max_concurrency: 1, partition_by: []}]"
    )

    async def parked(queue: Queue) -> bool:
        cursor_store = {state.name: state for state in await queue.limit_states()}
        return "there" in cursor_store and cursor_store["there"].parked_s > 0

    async with serving(handler) as url:
        _, _, queue = await work(url, store_url, PLAN.replace("RULES", rules), parked)
    cursor_store = {state.name: state for state in await queue.limit_states()}
    assert cursor_store["there"].parked_s > 250
    assert cursor_store["here"].parked_s == 0
    assert cursor_store["there"].in_flight == cursor_store["here"].in_flight == 0


async def test_an_endless_redirect_over_closed_limits_ends_as_a_dead_letter(store_url: str) -> None:
    """Hops are counted over all the tasks that they become."""
    asked = 0

    async def handler(request: web.Request) -> web.Response:
        nonlocal asked
        asked += 1
        raise web.HTTPFound(f"/q/{asked}")

    rules = "rate_limits: [{name: one, max_concurrency: 1}]"
    plan = PLAN.replace("RULES", rules).replace(", {n: 2}, {n: 3}, {n: 4}, {n: 5}, {n: 6}", "")
    async with serving(handler) as url:
        _, _, queue = await work(url, store_url, plan, nothing_left)
    assert (await queue.counts()).dead == 1
    (dead,) = await queue.peek(5, "dead")
    assert "redirects" in dead.last_error
    assert asked <= 12


async def test_a_refusal_that_is_a_dead_letter_closes_its_limit_all_the_same(store_url: str) -> None:
    """`on_exceed: dead_letter` gives up the task, not the manners: the others are not sent into the refusal."""
    asked = 0

    async def handler(_request: web.Request) -> web.Response:
        nonlocal asked
        asked += 1
        return web.json_response({}, status=429, headers={"Retry-After": "3600"})

    rules = (
        "response_actions: [{match: {status: 429}, action: rate_limited, max_wait: 1m, on_exceed: dead_letter,"
        " wait: [retry_after]}]"
    )

    async def one_dead(queue: Queue) -> bool:
        return (await queue.counts()).dead >= 1

    async with serving(handler) as url:
        _, _, queue = await work(url, store_url, PLAN.replace("RULES", rules), one_dead)
    assert asked == 1
    assert (await queue.counts()).dead == 1


async def test_a_broken_connection_opens_no_closed_limit(store_url: str) -> None:
    """A probe without an answer stays a probe: one request at a time, not a herd."""
    times: list[float] = []

    async def handler(request: web.Request) -> web.Response:
        times.append(time.monotonic())
        if len(times) == 1:
            return web.json_response({}, status=429, headers={"Retry-After": "1"})
        assert request.transport is not None
        request.transport.close()
        return web.Response()

    async def some_probes(_queue: Queue) -> bool:
        return len(times) >= 3

    async with serving(handler) as url:
        await work(url, store_url, PLAN.replace("RULES", ""), some_probes)
    assert all(later - earlier > 0.9 for earlier, later in itertools.pairwise(times))


async def test_a_settle_that_cannot_be_sent_fails_alone(store_url: str) -> None:
    """A follow-up that is too large is its own task's error, not that of those settled beside it."""
    client = async_client(store_url)
    async with WorkerQueue(client, "alone") as queue:
        await queue.push_many(NewTask(n) for n in range(2))
        good, bad = await queue.pop_many(2)
        assert good.lease and bad.lease
        fine = queue.settle_soon(Entry(ACK, good.lease))
        wrong = queue.settle_soon(Entry(ACK, bad.lease, push=[NewTask("x" * 2_000_000)]))
        assert (await fine).outcome == "done"
        with pytest.raises(UsageError, match="payload"):
            await wrong
        assert (await queue.counts()).leased == 1
    await client.aclose()


async def test_dead_letters_do_not_fill_a_bounded_queue(store_url: str) -> None:
    """The bound is on what lives."""
    client = async_client(store_url)
    async with Queue(client, "bounded", max_tasks=2, on_full="reject") as queue:
        await queue.push("bad")
        task = await queue.pop()
        assert task and task.lease
        await queue.bury(task.lease, "no use")
        assert len(await queue.push_many([NewTask(1), NewTask(2)])) == 2
    await client.aclose()


async def test_a_refusal_in_a_200_is_one_where_a_preset_says_so(store_url: str) -> None:
    """Its page is not kept, its task comes back, no attempt is charged."""
    asked = 0

    async def handler(request: web.Request) -> web.Response:
        nonlocal asked
        asked += 1
        if asked == 1:
            return web.json_response({"status": "0", "result": "Max rate limit reached"})
        return web.json_response([{"n": request.path}])

    rules = "rate_limits: [{name: calls, observe: etherscan}]"
    async with serving(handler) as url:
        worker, sink, queue = await work(url, store_url, PLAN.replace("RULES", rules), nothing_left)
    assert sorted(item.record["n"] for item in sink.items) == [f"/p/{n}" for n in range(1, 7)]
    assert (worker.tally.refused, (await queue.counts()).retried) == (1, 0)


async def test_what_only_the_file_knows_of_an_answer_reaches_the_limit(store_url: str) -> None:
    """Milliseconds to go, in a field of the server's own; a wait in a body. Each is told to the limit that reads it."""

    async def handler(request: web.Request) -> web.Response:
        headers = {"X-Left": "0", "X-Back-In": "300000"}
        return web.json_response({"n": 1, "backoff": 90}, headers=headers)

    rules = """
rate_limits:
  - name: fields
    partition_by: []
    observe: {remaining: header('x-left'), reset: header('x-back-in'), reset_format: delta_ms}
  - {name: body, partition_by: [host], observe: {wait: body.backoff}}
"""

    async def reported(queue: Queue) -> bool:
        cursor_store = await queue.limit_states()
        return bool(cursor_store) and all(state.remaining == 0 for state in cursor_store)

    async with serving(handler) as url:
        _, sink, queue = await work(url, store_url, PLAN.replace("RULES", rules), reported)
    cursor_store = {state.name.partition("|")[0]: state for state in await queue.limit_states()}
    assert len(sink.items) == 1
    assert 280 < cursor_store["fields"].reset_s <= 300
    assert 70 < cursor_store["body"].reset_s <= 90
