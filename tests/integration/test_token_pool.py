"""Whole runs with a pool of credentials (`tokens`), against a server that counts each credential separately."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import web

QUOTA, WINDOW_S = 20, 30.0  # a run that waits for a second window takes longer than WINDOW_S
TOKENS = ["alpha-1", "beta-2", "gamma-3"]
GIVE_UP_S = 60.0
CONFIG = """\
version: 1
name: pool
run: {workers: 2, concurrency: 8}
client: {base_url: URL, auth: AUTH}
seeds: [SEEDS]
resources: [{name: page, endpoint: "p/${seed.n}", primary_key: n}]
outputs: [{type: jsonl, path: out.jsonl}]
"""
BEARER = '{type: bearer, tokens: "${env:TOKENS}"}'


class Server:
    """A fixed window per token that starts with its first request; `X-RateLimit-*` headers are optional."""

    def __init__(self, *, reports_quota: bool, blocked: str = "") -> None:
        self.reports_quota, self.blocked = reports_quota, blocked
        self.served: Counter[str] = Counter()
        self.refused: Counter[str] = Counter()
        self.unknown: Counter[str] = Counter()
        self.accepted_at: list[tuple[float, str]] = []
        self._started: dict[str, float] = {}
        self._used: Counter[str] = Counter()

    async def handle(self, request: web.Request) -> web.Response:
        """Return a page or a refusal."""
        found = (request.query.get("key"), request.headers.get("X-Key"), request.cookies.get("key"))
        token = request.headers.get("Authorization", "").removeprefix("Bearer ") or next(
            filter(None, found), ""
        )
        now = time.monotonic()
        if now - self._started.get(token, -WINDOW_S) >= WINDOW_S:
            self._started[token], self._used[token] = now, 0
        left_s = self._started[token] + WINDOW_S - now
        if token not in TOKENS:
            self.unknown[token] += 1
            return web.json_response({}, status=401)
        if token == self.blocked or self._used[token] >= QUOTA:
            self.refused[token] += 1
            return web.json_response({}, status=429, headers={"Retry-After": f"{left_s:.3f}"})
        self._used[token] += 1
        self.served[token] += 1
        self.accepted_at.append((now, token))
        reported = {"X-RateLimit-Limit": str(QUOTA), "X-RateLimit-Remaining": str(QUOTA - self._used[token])}
        reported["X-RateLimit-Reset"] = f"{left_s:.3f}"
        return web.json_response([{"n": request.path}], headers=reported if self.reports_quota else {})


@asynccontextmanager
async def serving(server: Server) -> AsyncIterator[str]:
    """Run the server on a free port of 127.0.0.1 and yield its URL."""
    app = web.Application()
    app.router.add_get("/{path:.*}", server.handle)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    await runner.cleanup()


async def run(folder: Path, url: str, tokens: str, tasks: int, *, auth: str = BEARER, more: str = "") -> str:
    """Run the command, which must succeed, and return its output."""
    seeds = ", ".join(f"{{n: {n}}}" for n in range(tasks))
    text = CONFIG.replace("URL", url).replace("AUTH", auth).replace("SEEDS", seeds) + more
    (folder / "pool.yaml").write_text(text)
    child = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "scrapeq", "run", "pool.yaml"),
        cwd=folder,
        env={**os.environ, "TOKENS": tokens},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await asyncio.wait_for(child.communicate(), GIVE_UP_S)
    assert child.returncode == 0, output.decode()
    assert len((folder / "out.jsonl").read_text().splitlines()) == tasks
    return output.decode()


def stored_bytes(folder: Path) -> bytes:
    """Return the content of all files that the run left, except its configuration."""
    return b"".join(
        path.read_bytes() for path in folder.rglob("*") if path.is_file() and path.suffix != ".yaml"
    )


async def test_the_reported_quota_of_every_token_is_used(tmp_path: Path) -> None:
    """The quotas of all tokens are spent in one window without a refusal, and tokens are never stored."""
    server = Server(reports_quota=True)
    async with serving(server) as url:
        await run(tmp_path, url, ", ".join(TOKENS), QUOTA * len(TOKENS))
    assert server.served == dict.fromkeys(TOKENS, QUOTA)
    assert not server.refused
    assert (
        server.accepted_at[-1][0] - server.accepted_at[0][0] < WINDOW_S
    )  # requests did not wait while a token had quota
    assert not any(token.encode() in stored_bytes(tmp_path) for token in TOKENS)


@pytest.mark.serial  # it measures the pace
async def test_configured_rates_apply_per_token(tmp_path: Path) -> None:
    """Three tokens triple the pace. Here they are keys in the query, one per line of the variable."""
    server = Server(reports_quota=False)
    rates = "rate_limits: [{name: core, rates: [{limit: 4, interval: 1s}]}]\n"
    auth = '{type: api_key, name: key, location: query, api_keys: ["${env:TOKENS}"]}'
    async with serving(server) as url:
        await run(tmp_path, url, "\n".join(TOKENS), 24, auth=auth, more=rates)
    assert all(7 <= server.served[token] <= 9 for token in TOKENS)
    assert server.accepted_at[-1][0] - server.accepted_at[0][0] < 24 / 4 - 1


@pytest.mark.parametrize(("name", "location"), [("X-Key", "header"), ("key", "cookie")])
async def test_api_keys_in_headers_and_cookies_form_a_pool(tmp_path: Path, name: str, location: str) -> None:
    """Quotas of several keys are spent without a refusal."""
    server = Server(reports_quota=True)
    auth = f'{{type: api_key, name: {name}, location: {location}, api_keys: "${{env:TOKENS}}"}}'
    async with serving(server) as url:
        await run(tmp_path, url, ",".join(TOKENS), QUOTA * 2, auth=auth)
    assert server.served.total() == QUOTA * 2
    assert not server.refused
    assert len(server.served) >= 2


async def test_a_refusal_closes_the_limit_of_one_token_only(tmp_path: Path) -> None:
    """After a 429 for one token, the others continue without waiting for it."""
    server = Server(reports_quota=False, blocked=TOKENS[0])
    async with serving(server) as url:
        await run(tmp_path, url, ",".join(TOKENS), QUOTA)
    assert server.served.total() == QUOTA
    assert set(server.served) <= {*TOKENS[1:]}
    assert server.refused == {TOKENS[0]: 1}
    assert server.accepted_at[-1][0] - server.accepted_at[0][0] < WINDOW_S


async def test_an_action_retires_a_revoked_token(tmp_path: Path) -> None:
    """A 401 closes one token for the configured time, and its request is retried with the next token."""
    server = Server(reports_quota=False)
    action = "response_actions: [{match: {status: 401}, action: rate_limited, scope: token, wait: [1h]}]\n"
    async with serving(server) as url:
        await run(tmp_path, url, ",".join(["dead-0", *TOKENS[1:]]), QUOTA, more=action)
    assert server.served.total() == QUOTA
    assert server.unknown == {"dead-0": 1}
