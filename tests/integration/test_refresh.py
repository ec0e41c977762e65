"""Invalid credentials: refreshed once per task, and given up if that does not help."""

from __future__ import annotations

from aiohttp import web
from worker_runs import nothing_left, serving, work

from scrapeq.queue import Queue

PLAIN = """
version: 1
name: plain
client: {base_url: URL, auth: {type: bearer, token: "${env:S}"}}
response_actions: [{match: {status: 401}, action: refresh_auth}]
resources:
  - {name: jobs, endpoint: jobs/1, primary_key: id}
"""


class Guarded:
    """A server that issues tokens and invalidates them."""

    def __init__(self, *, forget_at: int = -1, refuse: bool = False, unknown: bool = False) -> None:
        self.forget_at = forget_at
        self.refuse = refuse
        self.unknown = unknown
        self.tokens = 0
        self.requests = 0
        self.refused = 0

    async def handle(self, request: web.Request) -> web.Response:
        """Issue a token at POST /token; require the newest token everywhere else."""
        if request.path == "/token":
            if self.unknown:
                return web.json_response({"error": "invalid_client"}, status=401)
            self.tokens += 1
            return web.json_response({"access_token": f"token-{self.tokens}", "token_type": "bearer"})
        self.requests += 1
        if self.requests == self.forget_at:
            self.tokens += 1  # the issued tokens are invalid
        if self.refuse or request.headers.get("Authorization") != f"Bearer token-{self.tokens}":
            self.refused += 1
            return web.json_response({}, status=401)
        return web.json_response({"id": request.path})


OAUTH = """
version: 1
name: guarded
client:
  base_url: URL
  auth: {type: oauth2_client_credentials, access_token_url: URL/token, client_id: me, client_secret: "${env:S}"}
RULES
resources:
  - {name: pages, seeds: [{n: 1}, {n: 2}, {n: 3}, {n: 4}, {n: 5}, {n: 6}], endpoint: "p/${seed.n}", primary_key: id}
"""


async def test_an_invalid_credential_is_refreshed(store_url: str) -> None:
    """After a 401 during the run, one more token is issued, and every page is read without counting an attempt."""
    server = Guarded(forget_at=4)
    async with serving(server.handle) as url:
        _, sink, queue = await work(
            url, store_url, OAUTH.replace("RULES", ""), nothing_left, env={"S": "secret"}
        )
    counts = await queue.counts()
    assert sorted(item.key for item in sink.items) == [f"/p/{n}" for n in range(1, 7)]
    assert server.refused >= 1
    assert server.tokens == 3  # the first, the invalidated one, the refreshed one
    assert (counts.dead, counts.retried) == (0, 0)


async def test_a_third_401_is_not_blamed_on_the_credential(store_url: str) -> None:
    """A task refreshes the credential twice; the next 401 makes it a dead letter that says so."""
    server = Guarded(refuse=True)
    text = OAUTH.replace("RULES", "").replace(", {n: 2}, {n: 3}, {n: 4}, {n: 5}, {n: 6}", "")
    async with serving(server.handle) as url:
        _, _, queue = await work(url, store_url, text, nothing_left, env={"S": "secret"})
    (dead,) = await queue.peek(5, "dead")
    assert "401 Unauthorized: with a fresh credential too" in dead.last_error
    assert (server.requests, server.tokens) == (3, 3)


async def test_a_redriven_task_may_refresh_its_credential_again(store_url: str) -> None:
    """A redriven task refreshes the credential again, even in the same process."""
    server = Guarded(refuse=True)
    text = OAUTH.replace("RULES", "").replace(", {n: 2}, {n: 3}, {n: 4}, {n: 5}, {n: 6}", "")

    async def done(queue: Queue) -> bool:
        if dead := await queue.peek(1, "dead"):
            server.refuse = False
            server.tokens += 1  # the issued tokens are invalid
            await queue.redrive(dead[0].id)
        return not server.refuse and (await queue.counts()).live == 0

    async with serving(server.handle) as url:
        _, sink, _ = await work(url, store_url, text, done, env={"S": "secret"})
    assert [item.key for item in sink.items] == ["/p/1"]


async def test_a_third_401_may_end_the_run(store_url: str) -> None:
    """With `on_exceed: stop`, the run ends with exit code 8, and the tasks stay queued."""
    server = Guarded(refuse=True)
    rules = "response_actions: [{match: {status: 401}, action: refresh_auth, on_exceed: stop}]"
    text = OAUTH.replace("RULES", rules).replace(", {n: 2}, {n: 3}, {n: 4}, {n: 5}, {n: 6}", "")

    async def released(queue: Queue) -> bool:
        return server.requests == 3 and (await queue.counts()).leased == 0

    async with serving(server.handle) as url:
        worker, _, queue = await work(url, store_url, text, released, env={"S": "secret"})
    assert worker.fatal is not None and worker.fatal.kind == "response"
    counts = await queue.counts()
    assert (counts.live, counts.dead) == (1, 0)


async def test_a_static_token_is_not_refreshed(store_url: str) -> None:
    """The task immediately becomes a dead letter that says so."""
    server = Guarded(refuse=True)
    async with serving(server.handle) as url:
        _, _, queue = await work(url, store_url, PLAIN, nothing_left, env={"S": "secret"})
    (dead,) = await queue.peek(5, "dead")
    assert "this credential cannot be renewed" in dead.last_error
    assert server.requests == 1


async def test_a_final_login_failure_ends_the_run(store_url: str) -> None:
    """No task is sent or lost, and the message does not show a secret."""
    server = Guarded(unknown=True)
    ended: list[int] = []

    async def ends(queue: Queue) -> bool:
        counts = await queue.counts()
        ended.append(counts.leased)
        return len(ended) > 20 and counts.leased == 0

    async with serving(server.handle) as url:
        worker, _, queue = await work(
            url, store_url, OAUTH.replace("RULES", ""), ends, env={"S": "a-long-secret"}
        )
    assert worker.fatal is not None and worker.fatal.kind == "response"
    assert "invalid_client" in worker.fatal.message
    assert "a-long-secret" not in worker.fatal.message
    counts = await queue.counts()
    assert (server.requests, counts.live, counts.dead) == (0, 6, 0)
