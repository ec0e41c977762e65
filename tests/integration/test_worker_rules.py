"""A fetch worker handles redirects, refusals and lost responses, with a real store and real sockets."""

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


async def test_tasks_redirected_to_one_url_are_not_deduplicated(store_url: str) -> None:
    """A redirect that waits for its limit is a task without a key, so none of the six is dropped as a duplicate."""

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


async def test_scheduled_tasks_redirected_to_one_url_are_not_deduplicated(store_url: str) -> None:
    """A scheduled run deduplicates requests, but a redirect continues its task, with its seed."""

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


@pytest.mark.parametrize("expiring_page", [0, 13])
async def test_pagination_continues_from_its_own_request_after_delayed_redirects(
    store_url: str, expiring_page: int
) -> None:
    """
    Every page is redirected to a closed limit, and the next page is requested like the first.

    Redirects are counted per page, not per pagination.
    """
    requests: list[tuple[str, str, int]] = []
    expired = False

    async def handler(request: web.Request) -> web.Response:
        nonlocal expired
        if request.path == "/search":
            page = (await request.json())["page"]
            requests.append((request.method, request.path, page))
            raise web.HTTPSeeOther(f"/results/{page}")
        page = int(request.path.rpartition("/")[2])
        if page == expiring_page and not expired:
            expired = True
            return web.json_response({}, status=410)
        return web.json_response([{"n": page}])

    actions = "response_actions: [{match: {status: 410}, action: reset_pagination}]" if expiring_page else ""
    plan = REDIRECTED.replace("ACTIONS", actions)
    async with serving(handler) as url:
        _, sink, queue = await work(url, store_url, plan, nothing_left)
    expected_requests = [("POST", "/search", page) for page in range(1, 15)]
    assert requests == expected_requests[: expiring_page or 0] + expected_requests
    assert {item.record["n"] for item in sink.items} == set(range(1, 15))
    assert (await queue.counts()).dead == 0


async def test_a_refusal_after_a_redirect_closes_the_limit_of_the_target(store_url: str) -> None:
    """The limit of the redirecting URL stays open."""

    async def handler(request: web.Request) -> web.Response:
        if request.path == "/there":
            return web.json_response({}, status=429, headers={"Retry-After": "300"})
        raise web.HTTPFound("/there")

    rules = (
        "rate_limits: [{name: here, match: {path: /p/*}, max_concurrency: 2, partition_by: []},"
        " {name: there, match: {path: /there}, max_concurrency: 1, partition_by: []}]"
    )

    async def parked(queue: Queue) -> bool:
        states = {state.name: state for state in await queue.limit_states()}
        return "there" in states and states["there"].parked_s > 0

    async with serving(handler) as url:
        _, _, queue = await work(url, store_url, PLAN.replace("RULES", rules), parked)
    states = {state.name: state for state in await queue.limit_states()}
    assert states["there"].parked_s > 250
    assert states["here"].parked_s == 0
    assert states["there"].in_flight == states["here"].in_flight == 0


async def test_an_endless_redirect_over_closed_limits_is_a_dead_letter(store_url: str) -> None:
    """Redirects are counted across the tasks of a chain."""
    requests = 0

    async def handler(request: web.Request) -> web.Response:
        nonlocal requests
        requests += 1
        raise web.HTTPFound(f"/q/{requests}")

    rules = "rate_limits: [{name: one, max_concurrency: 1}]"
    plan = PLAN.replace("RULES", rules).replace(", {n: 2}, {n: 3}, {n: 4}, {n: 5}, {n: 6}", "")
    async with serving(handler) as url:
        _, _, queue = await work(url, store_url, plan, nothing_left)
    assert (await queue.counts()).dead == 1
    (dead,) = await queue.peek(5, "dead")
    assert "redirects" in dead.last_error
    assert requests <= 12


async def test_a_refusal_that_becomes_a_dead_letter_still_closes_its_limit(store_url: str) -> None:
    """With `on_exceed: dead_letter`, the other tasks still wait for the limit."""
    requests = 0

    async def handler(_request: web.Request) -> web.Response:
        nonlocal requests
        requests += 1
        return web.json_response({}, status=429, headers={"Retry-After": "3600"})

    rules = (
        "response_actions: [{match: {status: 429}, action: rate_limited, max_wait: 1m, on_exceed: dead_letter,"
        " wait: [retry_after]}]"
    )

    async def one_dead(queue: Queue) -> bool:
        return (await queue.counts()).dead >= 1

    async with serving(handler) as url:
        _, _, queue = await work(url, store_url, PLAN.replace("RULES", rules), one_dead)
    assert requests == 1
    assert (await queue.counts()).dead == 1


async def test_a_broken_connection_does_not_open_a_closed_limit(store_url: str) -> None:
    """After a probe without a response, the next probe is again a single request."""
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


async def test_an_invalid_settle_does_not_fail_others(store_url: str) -> None:
    """A follow-up task that is too large fails its own task, not the others in the batch."""
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


async def test_dead_letters_do_not_count_against_max_tasks(store_url: str) -> None:
    """The bound applies only to live tasks."""
    client = async_client(store_url)
    async with Queue(client, "bounded", max_tasks=2, on_full="reject") as queue:
        await queue.push("bad")
        task = await queue.pop()
        assert task and task.lease
        await queue.bury(task.lease, "no use")
        assert len(await queue.push_many([NewTask(1), NewTask(2)])) == 2
    await client.aclose()


async def test_a_preset_recognizes_refusals_with_status_200(store_url: str) -> None:
    """The page is not stored, and the task is retried without counting an attempt."""
    requests = 0

    async def handler(request: web.Request) -> web.Response:
        nonlocal requests
        requests += 1
        if requests == 1:
            return web.json_response({"status": "0", "result": "Max rate limit reached"})
        return web.json_response([{"n": request.path}])

    rules = "rate_limits: [{name: calls, observe: etherscan}]"
    async with serving(handler) as url:
        worker, sink, queue = await work(url, store_url, PLAN.replace("RULES", rules), nothing_left)
    assert sorted(item.record["n"] for item in sink.items) == [f"/p/{n}" for n in range(1, 7)]
    assert (worker.tally.refused, (await queue.counts()).retried) == (1, 0)


async def test_custom_observations_of_a_response_reach_their_limits(store_url: str) -> None:
    """A reset in milliseconds in a custom header and a wait in the body each reach the limit that reads them."""

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
        states = await queue.limit_states()
        return bool(states) and all(state.remaining == 0 for state in states)

    async with serving(handler) as url:
        _, sink, queue = await work(url, store_url, PLAN.replace("RULES", rules), reported)
    states = {state.name.partition("|")[0]: state for state in await queue.limit_states()}
    assert len(sink.items) == 1
    assert 280 < states["fields"].reset_s <= 300
    assert 70 < states["body"].reset_s <= 90
