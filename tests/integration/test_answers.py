"""What becomes of tasks whose answers ask for more than a retry: jobs not ready, cursors that expire, scopes."""

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
name: answers
client: {base_url: URL}
response_actions:
ACTIONS
resources:
  - {name: jobs, endpoint: jobs/1, primary_key: id}
"""


def plan_of(*actions: str) -> str:
    """A plan of one resource with these actions."""
    return PLAN.replace("ACTIONS", "\n".join(f"  - {action}" for action in actions))


@pytest.mark.serial  # it measures the waits
async def test_a_job_that_is_not_ready_is_asked_for_again_and_no_attempt_is_charged(store_url: str) -> None:
    """202 with a Retry-After, then a pending body, then the result: one item, three requests, nothing retried."""
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


async def test_a_job_of_a_schedule_is_not_begun_beside_itself(store_url: str) -> None:
    """While it is not ready, its next time finds it on its way; once it is done, it is asked for again."""
    asked = 0
    pushed: list[int] = []

    async def handler(_request: web.Request) -> web.Response:
        nonlocal asked
        asked += 1
        return web.json_response({"id": asked}, status=202 if asked == 1 else 200)

    text = plan_of("{match: {status: 202}, action: poll, wait: 300ms}").replace(
        "{name: jobs,", "{name: jobs, schedule: {every: 1h},"
    )
    async with serving(handler) as url:
        plan = config.load("test.yaml", text=text.replace("URL", url), env={})

        async def again(queue: Queue) -> bool:
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

        _, sink, _ = await work(url, store_url, text, again)
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


async def test_pages_asked_for_at_once_are_not_polled_beside_themselves(store_url: str) -> None:
    """They are no chain, but each occurrence finds them on their way."""
    waiting: list[int] = []

    async def handler(request: web.Request) -> web.Response:
        if "page" in request.query and request.query["page"] != "1":
            return web.json_response({}, status=202)
        return web.json_response({"pages": 3, "rows": [{"id": 1}]})

    async with serving(handler) as url:
        plan = config.load("test.yaml", text=AHEAD.replace("URL", url), env={})
        builder = TaskBuilder(plan, group_function(plan))

        async def thrice(queue: Queue) -> bool:
            counts = await queue.counts()
            if not counts.ready + counts.leased:
                waiting.append(counts.delayed)
                firsts = first_pages(builder, time.time(), occurrence=len(waiting) + 1)
                await queue.push_many([task for task in firsts if isinstance(task, NewTask)])
            return len(waiting) == 3

        await work(url, store_url, AHEAD, thrice)
    assert waiting == [2, 2, 2]


async def test_a_poll_closes_no_limit(store_url: str) -> None:
    """While one job is awaited, the others go on."""
    asked: list[str] = []

    async def handler(request: web.Request) -> web.Response:
        asked.append(request.path)
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
    assert sorted(asked) == ["/jobs/1", "/jobs/2", "/jobs/3"]
    (waiting,) = await queue.peek(1, "delayed")
    assert 590 < waiting.due_in_s <= 600


@pytest.mark.parametrize("on_exceed", ["", ", on_exceed: dead_letter"])
async def test_polls_end_at_max_wait_of_all_waits_together(store_url: str, on_exceed: str) -> None:
    """Each wait is short, their sum is not: a dead letter that says so, and how long it has waited."""
    asked = 0

    async def handler(_request: web.Request) -> web.Response:
        nonlocal asked
        asked += 1
        return web.json_response({}, status=202)

    text = plan_of(f"{{match: {{status: 202}}, action: poll, wait: 100ms, max_wait: 350ms{on_exceed}}}")
    async with serving(handler) as url:
        _, _, queue = await work(url, store_url, text, nothing_left)
    (dead,) = await queue.peek(5, "dead")
    assert asked == 4
    assert "not ready after 4 requests" in dead.last_error
    assert "max_wait" in dead.last_error


async def test_polls_that_stop_end_the_run(store_url: str) -> None:
    """`on_exceed: stop`: the task stays, the run ends with the answer's reason."""

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


WALK = """
version: 1
name: walk
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


class Walk:
    """Three pages behind cursors of which some have expired when they are asked for."""

    def __init__(self, expire: int) -> None:
        self.expire = expire
        self.asked: list[str] = []

    async def handle(self, request: web.Request) -> web.Response:
        """Page 0 without a cursor; `a1` and `a2` behind it."""
        assert request.query["size"] == "2"
        cursor = request.query.get("cursor", "a0")
        self.asked.append(cursor)
        page = int(cursor[1:])
        if page == 2 and self.expire > 0:
            self.expire -= 1
            return web.json_response({"code": "expired"}, status=410)
        body: dict[str, Any] = {"rows": [{"id": 2 * page}, {"id": 2 * page + 1}]}
        if page < 2:
            body["next"] = f"a{page + 1}"
        return web.json_response(body)


async def test_a_pagination_restarts_when_its_cursor_expires(store_url: str) -> None:
    """From its first page's address, and neither that nor the pages behind it are taken for duplicates."""
    walk = Walk(expire=2)
    async with serving(walk.handle) as url:
        worker, sink, queue = await work(url, store_url, WALK, nothing_left)
    assert walk.asked == ["a0", "a1", "a2"] * 3
    assert {item.key for item in sink.items} == {str(n) for n in range(6)}
    assert (await queue.counts()).dead == 0
    assert sum(event.startswith("reset") for event in worker.events) == 2


async def test_a_walk_that_always_loses_its_cursor_is_a_dead_letter(store_url: str) -> None:
    """Three new beginnings, no more."""
    walk = Walk(expire=1000)
    async with serving(walk.handle) as url:
        _, _, queue = await work(url, store_url, WALK, nothing_left)
    (dead,) = await queue.peek(5, "dead")
    assert walk.asked == ["a0", "a1", "a2"] * 4
    assert "the cursor has expired" in dead.last_error
    assert "3 times" in dead.last_error


async def test_an_action_may_read_all_that_is_known_of_the_task(store_url: str) -> None:
    """Each name has its value in `when`, and in what the dead letter says."""

    async def handler(_request: web.Request) -> web.Response:
        return web.json_response({}, status=418)

    said = "${resource} ${host} ${token} ${depth} ${page} ${task.attempts} ${seed.n} ${resources}|${parent}"
    text = plan_of(
        f"{{match: {{when: status == 418 and page == 1 and depth == 0}}, action: dead_letter, message: '{said}'}}"
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
async def test_a_refusal_closes_what_its_scope_says_and_no_more(
    store_url: str, scope: str, reached: set[str]
) -> None:
    """One request is refused first, with nothing else in flight; what is still sent afterwards tells what is closed."""
    refused = False
    asked: list[str] = []

    async def handler(request: web.Request) -> web.Response:
        nonlocal refused
        if not refused:
            refused = True
            assert request.path == "/lists/1"
            return web.json_response({}, status=403)
        asked.append(request.path)
        return web.json_response({"id": request.path})

    async def third(_request: web.Request) -> web.Response:
        asked.append("third")
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
    assert set(asked) == reached
    assert (await queue.counts()).dead == 0
