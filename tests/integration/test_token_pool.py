"""`tokens`: a pool of credentials by a whole run, over a server that counts each of them for itself."""

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

QUOTA, WINDOW_S = 20, 30.0  # a run that waited for a second window would take longer than that
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
    """Fixed windows for each token that begin with its first request, told by `X-RateLimit-*` if at all."""

    def __init__(self, *, tells: bool, blocked: str = "") -> None:
        self.tells, self.blocked = tells, blocked
        self.served: Counter[str] = Counter()
        self.refused: Counter[str] = Counter()
        self.unknown: Counter[str] = Counter()
        self.at: list[tuple[float, str]] = []
        self._began: dict[str, float] = {}
        self._used: Counter[str] = Counter()

    async def answer(self, request: web.Request) -> web.Response:
        """One page, or a refusal."""
        found = (request.query.get("key"), request.headers.get("X-Key"), request.cookies.get("key"))
        token = request.headers.get("Authorization", "").removeprefix("Bearer ") or next(
            filter(None, found), ""
        )
        now = time.monotonic()
        if now - self._began.get(token, -WINDOW_S) >= WINDOW_S:
            self._began[token], self._used[token] = now, 0
        left_s = self._began[token] + WINDOW_S - now
        if token not in TOKENS:
            self.unknown[token] += 1
            return web.json_response({}, status=401)
        if token == self.blocked or self._used[token] >= QUOTA:
            self.refused[token] += 1
            return web.json_response({}, status=429, headers={"Retry-After": f"{left_s:.3f}"})
        self._used[token] += 1
        self.served[token] += 1
        self.at.append((now, token))
        reported = {"X-RateLimit-Limit": str(QUOTA), "X-RateLimit-Remaining": str(QUOTA - self._used[token])}
        reported["X-RateLimit-Reset"] = f"{left_s:.3f}"
        return web.json_response([{"n": request.path}], headers=reported if self.tells else {})


@asynccontextmanager
async def serving(server: Server) -> AsyncIterator[str]:
    """The server on a free port of 127.0.0.1."""
    app = web.Application()
    app.router.add_get("/{path:.*}", server.answer)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    await runner.cleanup()


async def run(folder: Path, url: str, tokens: str, tasks: int, *, auth: str = BEARER, more: str = "") -> str:
    """A whole run that must succeed; what it wrote."""
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


def kept(folder: Path) -> bytes:
    """All that the run left on the disk, but for what it was made of."""
    return b"".join(
        path.read_bytes() for path in folder.rglob("*") if path.is_file() and path.suffix != ".yaml"
    )


async def test_a_told_quota_is_used_of_every_token(tmp_path: Path) -> None:
    """All tokens' quotas are spent in one window, no request is refused, and no token is stored."""
    server = Server(tells=True)
    async with serving(server) as url:
        await run(tmp_path, url, ", ".join(TOKENS), QUOTA * len(TOKENS))
    assert server.served == dict.fromkeys(TOKENS, QUOTA)
    assert not server.refused
    assert server.at[-1][0] - server.at[0][0] < WINDOW_S  # nobody waited while one of them had quota
    assert not any(token.encode() in kept(tmp_path) for token in TOKENS)


@pytest.mark.serial  # it measures the pace
async def test_configured_rates_hold_for_each_token(tmp_path: Path) -> None:
    """Three tokens are three times the pace; here as keys of the query, given by lines."""
    server = Server(tells=False)
    rates = "rate_limits: [{name: core, rates: [{limit: 4, interval: 1s}]}]\n"
    auth = '{type: api_key, name: key, location: query, api_keys: ["${env:TOKENS}"]}'
    async with serving(server) as url:
        await run(tmp_path, url, "\n".join(TOKENS), 24, auth=auth, more=rates)
    assert all(7 <= server.served[token] <= 9 for token in TOKENS)
    assert server.at[-1][0] - server.at[0][0] < 24 / 4 - 1


@pytest.mark.parametrize(("name", "location"), [("X-Key", "header"), ("key", "cookie")])
async def test_keys_of_a_header_and_of_a_cookie_are_a_pool_too(
    tmp_path: Path, name: str, location: str
) -> None:
    """Each key's quota is spent, none is refused."""
    server = Server(tells=True)
    auth = f'{{type: api_key, name: {name}, location: {location}, api_keys: "${{env:TOKENS}}"}}'
    async with serving(server) as url:
        await run(tmp_path, url, ",".join(TOKENS), QUOTA * 2, auth=auth)
    assert server.served.total() == QUOTA * 2
    assert not server.refused
    assert len(server.served) >= 2


async def test_a_refused_token_makes_room_for_the_next(tmp_path: Path) -> None:
    """A 429 closes the limit of one token only: the others go on, and nobody waits for the first."""
    server = Server(tells=False, blocked=TOKENS[0])
    async with serving(server) as url:
        await run(tmp_path, url, ",".join(TOKENS), QUOTA)
    assert server.served.total() == QUOTA
    assert set(server.served) <= {*TOKENS[1:]}
    assert server.refused == {TOKENS[0]: 1}
    assert server.at[-1][0] - server.at[0][0] < WINDOW_S


async def test_a_token_that_is_dead_is_retired_by_an_action(tmp_path: Path) -> None:
    """Its 401 closes it alone, for as long as the file says; what met it goes out with the next one."""
    server = Server(tells=False)
    action = "response_actions: [{match: {status: 401}, action: rate_limited, scope: token, wait: [1h]}]\n"
    async with serving(server) as url:
        await run(tmp_path, url, ",".join(["dead-0", *TOKENS[1:]]), QUOTA, more=action)
    assert server.served.total() == QUOTA
    assert server.unknown == {"dead-0": 1}
