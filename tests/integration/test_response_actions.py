"""Response actions beyond retries: polling, pagination resets and scopes of refusals."""

from __future__ import annotations

import time
from typing import Any

import pytest
from aiohttp import web
from worker_runs import nothing_left, serving, work

from scrapeq import config
from scrapeq.queue import Queue
from scrapeq.resource import TaskBuilder, first_pages
from scrapeq.task import NewTask
from scrapeq.wiring import group_function

PLAN = """
version: 1
name: actions
client: {base_url: URL}
response_actions:
ACTIONS
resources:
  - {name: jobs, endpoint: jobs/1, primary_key: id}
"""


def plan_of(*actions: str) -> str:
    """Return a plan with one resource and these actions."""
    return PLAN.replace("ACTIONS", "\n".join(f"  - {action}" for action in actions))


@pytest.mark.serial  # it measures the waits
async def test_a_pending_job_is_polled_without_counting_attempts(store_url: str) -> None:
    """A 202 with Retry-After, a pending body and the result make one item, three requests and no retry."""
    times: list[float] = []

    async def handler(_request: web.Request) -> web.Response:
        times.append(time.monotonic())
        if len(times) == 1:
            return web.json_response({"state": "queued"}, status=202, headers={"Retry-After": "1"})
        if len(times) == 2:
            return web.json_response({"state": "running"})
        return web.json_response({"id": 7})

    text = plan_of(
        "{match: {status: 202}, action: poll}",
        "{match: {when: body.state == 'running'}, action: poll, wait: 200ms, message: 'job: ${body.state}'}",
    )
    async with serving(handler) as url:
        worker, sink, queue = await work(url, store_url, text, nothing_left)
    counts = await queue.counts()
    assert [item.record for item in sink.items] == [{"id": 7}]
    assert (len(times), worker.tally.polled, worker.tally.done) == (3, 2, 1)
    assert (counts.dead, counts.retried) == (0, 0)
    assert times[1] - times[0] >= 0.99
    assert 0.19 <= times[2] - times[1] < 1.0


async def test_a_scheduled_job_does_not_overlap_itself(store_url: str) -> None:
    """The next scheduled run skips a job that is still being polled; a later run requests it again."""
    requests = 0
    pushed: list[int] = []

    async def handler(_request: web.Request) -> web.Response:
        nonlocal requests
        requests += 1
        return web.json_response({"id": requests}, status=202 if requests == 1 else 200)

    text = plan_of("{match: {status: 202}, action: poll, wait: 300ms}").replace(
        "{name: jobs,", "{name: jobs, schedule: {every: 1h},"
    )
    async with serving(handler) as url:
        plan = config.load("test.yaml", text=text.replace("URL", url), env={})

        async def push_next_run(queue: Queue) -> bool:
            counts = await queue.counts()
            if (counts.delayed == 1 and not pushed) or (counts.live == 0 and len(pushed) == 1):
                firsts = first_pages(
                    TaskBuilder(plan, group_function(plan)), time.time(), occurrence=len(pushed) + 2
                )
                tasks = [task for task in firsts if isinstance(task, NewTask)]
                found = await queue.push_many(tasks)
                pushed.append(sum(one.outcome == "pushed" for one in found))
                return False
            return counts.live == 0 and len(pushed) == 2

        _, sink, _ = await work(url, store_url, text, push_next_run)
    assert pushed == [0, 1]
    assert [item.record["id"] for item in sink.items] == [2, 3]


AHEAD = """
version: 1
name: ahead
client: {base_url: URL}
response_actions: [{match: {status: 202}, action: poll, wait: 10m}]
resources:
  - name: jobs
    schedule: {every: 1h}
    primary_key: id
    endpoint: {path: jobs, paginator: {type: page_number, total_path: pages, fan_out: true}, data_selector: rows}
"""


async def test_fanned_out_pages_are_not_polled_twice(store_url: str) -> None:
    """Each scheduled run finds the pages of the previous one and does not add them again."""
    waiting: list[int] = []

    async def handler(request: web.Request) -> web.Response:
        if "page" in request.query and request.query["page"] != "1":
            return web.json_response({}, status=202)
        return web.json_response({"pages": 3, "rows": [{"id": 1}]})

    async with serving(handler) as url:
        plan = config.load("test.yaml", text=AHEAD.replace("URL", url), env={})
        builder = TaskBuilder(plan, group_function(plan))

        async def push_three_runs(queue: Queue) -> bool:
            counts = await queue.counts()
            if not counts.ready + counts.leased:
                waiting.append(counts.delayed)
                firsts = first_pages(builder, time.time(), occurrence=len(waiting) + 1)
                await queue.push_many([task for task in firsts if isinstance(task, NewTask)])
            return len(waiting) == 3

        await work(url, store_url, AHEAD, push_three_runs)
    assert waiting == [2, 2, 2]


async def test_a_poll_does_not_close_a_limit(store_url: str) -> None:
    """While one job is being polled, the others continue."""
    requests: list[str] = []

    async def handler(request: web.Request) -> web.Response:
        requests.append(request.path)
        if request.path == "/jobs/1":
            return web.json_response({}, status=202, headers={"Retry-After": "600"})
        return web.json_response({"id": request.path})

    text = plan_of("{match: {status: 202}, action: poll}").replace(
        "endpoint: jobs/1", 'seeds: [{n: 1}, {n: 2}, {n: 3}], endpoint: "jobs/${seed.n}"'
    )

    async def others_done(queue: Queue) -> bool:
        counts = await queue.counts()
        return counts.delayed == 1 and counts.live == 1

    async with serving(handler) as url:
        _, sink, queue = await work(url, store_url, text, others_done)
    assert sorted(item.record["id"] for item in sink.items) == ["/jobs/2", "/jobs/3"]
    assert sorted(requests) == ["/jobs/1", "/jobs/2", "/jobs/3"]
    (waiting,) = await queue.peek(1, "delayed")
    assert 590 < waiting.due_in_s <= 600


@pytest.mark.parametrize("on_exceed", ["", ", on_exceed: dead_letter"])
async def test_polls_end_when_their_total_wait_reaches_max_wait(store_url: str, on_exceed: str) -> None:
    """If the sum of the waits exceeds `max_wait`, the task becomes a dead letter whose error says so."""
    requests = 0

    async def handler(_request: web.Request) -> web.Response:
        nonlocal requests
        requests += 1
        return web.json_response({}, status=202)

    text = plan_of(f"{{match: {{status: 202}}, action: poll, wait: 100ms, max_wait: 350ms{on_exceed}}}")
    async with serving(handler) as url:
        _, _, queue = await work(url, store_url, text, nothing_left)
    (dead,) = await queue.peek(5, "dead")
    assert requests == 4
    assert "not ready after 4 requests" in dead.last_error
    assert "max_wait" in dead.last_error


async def test_polls_that_exceed_max_wait_can_stop_the_run(store_url: str) -> None:
    """`on_exceed: stop` keeps the task and ends the run with the reason of the response."""

    async def handler(_request: web.Request) -> web.Response:
        return web.json_response({}, status=202)

    text = plan_of("{match: {status: 202}, action: poll, wait: 1h, max_wait: 1m, on_exceed: stop}")

    async def released(queue: Queue) -> bool:
        return (await queue.counts()).delayed == 1

    async with serving(handler) as url:
        worker, _, queue = await work(url, store_url, text, released)
    assert worker.fatal is not None
    assert worker.fatal.kind == "response"
    assert "not ready" in worker.fatal.message
    assert (await queue.counts()).dead == 0


PAGINATION = """
version: 1
name: cursors
client: {base_url: URL}
resources:
  - name: things
    endpoint:
      path: things
      params: {size: 2}
      paginator: {type: cursor, cursor_path: next, cursor_param: cursor}
      data_selector: rows
    primary_key: id
    response_actions:
      - {match: {status: 410}, action: reset_pagination, message: the cursor has expired}
"""


class CursorApi:
    """An API of three pages behind cursors; the cursor of the last page expires `expire` times."""

    def __init__(self, expire: int) -> None:
        self.expire = expire
        self.requests: list[str] = []

    async def handle(self, request: web.Request) -> web.Response:
        """Return page 0 for a request without a cursor, pages 1 and 2 for `a1` and `a2`."""
        assert request.query["size"] == "2"
        cursor = request.query.get("cursor", "a0")
        self.requests.append(cursor)
        page = int(cursor[1:])
        if page == 2 and self.expire > 0:
            self.expire -= 1
            return web.json_response({"code": "expired"}, status=410)
        body: dict[str, Any] = {"rows": [{"id": 2 * page}, {"id": 2 * page + 1}]}
        if page < 2:
            body["next"] = f"a{page + 1}"
        return web.json_response(body)


async def test_a_pagination_restarts_when_its_cursor_expires(store_url: str) -> None:
    """It restarts from the URL of its first page, and its pages are not taken for duplicates."""
    api = CursorApi(expire=2)
    async with serving(api.handle) as url:
        worker, sink, queue = await work(url, store_url, PAGINATION, nothing_left)
    assert api.requests == ["a0", "a1", "a2"] * 3
    assert {item.key for item in sink.items} == {str(n) for n in range(6)}
    assert (await queue.counts()).dead == 0
    assert sum(event.startswith("reset") for event in worker.events) == 2


async def test_a_cursor_that_always_expires_is_a_dead_letter(store_url: str) -> None:
    """The pagination restarts at most three times."""
    api = CursorApi(expire=1000)
    async with serving(api.handle) as url:
        _, _, queue = await work(url, store_url, PAGINATION, nothing_left)
    (dead,) = await queue.peek(5, "dead")
    assert api.requests == ["a0", "a1", "a2"] * 4
    assert "the cursor has expired" in dead.last_error
    assert "3 times" in dead.last_error


async def test_actions_can_use_all_task_variables(store_url: str) -> None:
    """Every variable has a value in `when` and in the message of the dead letter."""

    async def handler(_request: web.Request) -> web.Response:
        return web.json_response({}, status=418)

    message = (
        "${resource} ${host} ${token} ${depth} ${page} ${task.attempts} ${seed.n} ${resources}|${parent}"
    )
    text = plan_of(
        f"{{match: {{when: status == 418 and page == 1 and depth == 0}}, action: dead_letter, message: '{message}'}}"
    ).replace("{name: jobs,", "{name: jobs, seeds: [{n: 5}],")
    text = text.replace(
        "client: {base_url: URL}", "client: {base_url: URL, auth: {type: bearer, token: '${env:T}'}}"
    )
    async with serving(handler) as url:
        _, _, queue = await work(url, store_url, text, nothing_left, env={"T": "a-secret"})
    (dead,) = await queue.peek(5, "dead")
    host = url.removeprefix("http://")
    words = dead.last_error.split()
    assert words[:2] == ["jobs", host]
    assert len(words[2]) == 8 and "secret" not in dead.last_error
    assert words[3:] == ["0", "1", "0", "5", "{}|"]


SCOPES = """
version: 1
name: scopes
client: {base_url: URL, auth: {type: bearer, token: "${env:T}"}}
rate_limits:
  - {name: lists, match: {path: /lists/*}, partition_by: [], max_concurrency: 5}
  - {name: others, match: {path: /others/*}, partition_by: [], max_concurrency: 5}
response_actions:
  - {match: {status: 403, when: status == 403}, action: rate_limited, scope: SCOPE, wait: 10m}
resources:
  - {name: others, seeds: [{n: 1}, {n: 2}, {n: 3}], endpoint: "others/${seed.n}", primary_key: id}
  - {name: lists, seeds: [{n: 1}, {n: 2}, {n: 3}], endpoint: "lists/${seed.n}", primary_key: id}
  - {name: third, seeds: [{u: THIRD}], endpoint: {url: "${seed.u}"}, primary_key: id}
"""


@pytest.mark.parametrize(
    ("scope", "reached"),
    [
        ("task", {"/lists/2", "/lists/3", "/others/1", "/others/2", "/others/3", "third"}),
        ("limit", {"/others/1", "/others/2", "/others/3", "third"}),
        ("lists", {"/others/1", "/others/2", "/others/3", "third"}),
        ("others", {"/others/1", "/others/2", "/others/3", "third"}),
        ("host", {"third"}),
        ("token", set()),
        ("all", set()),
    ],
)
async def test_a_refusal_closes_exactly_its_scope(store_url: str, scope: str, reached: set[str]) -> None:
    """The first request is refused; the requests sent afterwards show which limits stayed open."""
    refused = False
    requests: list[str] = []

    async def handler(request: web.Request) -> web.Response:
        nonlocal refused
        if not refused:
            refused = True
            assert request.path == "/lists/1"
            return web.json_response({}, status=403)
        requests.append(request.path)
        return web.json_response({"id": request.path})

    async def third(_request: web.Request) -> web.Response:
        requests.append("third")
        return web.json_response({"id": "third"})

    expected = 7 - 1 - len(reached)

    async def settled(queue: Queue) -> bool:
        counts = await queue.counts()
        return refused and counts.leased == 0 and counts.live == expected + 1

    async with serving(handler) as url, serving(third) as other:
        text = SCOPES.replace("SCOPE", scope).replace("THIRD", other)
        _, _, queue = await work(
            url, store_url, text, settled, env={"T": "a-secret"}, concurrency=1, first=f"{url}/lists/1"
        )
    assert set(requests) == reached
    assert (await queue.counts()).dead == 0
