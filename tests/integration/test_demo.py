"""The sample API over real sockets, and as the process that a run starts."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
from typing import Any

import aiohttp
import orjson

from scrapeq.demo import DemoServer

PLENTY = 1_000_000


async def _walk(session: aiohttp.ClientSession, url: str) -> list[dict[str, Any]]:
    records: list[dict[str, Any]] = []
    address: str | None = url
    while address:
        async with session.get(address) as answer:
            assert answer.status == 200
            records += await answer.json()
            following = answer.links.get("next")
            address = str(following["url"]) if following else None
    return records


async def test_walking_the_links_gives_every_issue_once_newest_first() -> None:
    """The Link header leads over all pages, in the order that was asked for."""
    async with DemoServer(limit=PLENTY, latency_ms=(0, 0)) as server, aiohttp.ClientSession() as session:
        url = f"{server.url}/repos/octo/tools/issues?state=all&sort=updated&direction=desc&per_page=50"
        issues = await _walk(session, url)
        stamps = [issue["updated_at"] for issue in issues]
        assert stamps == sorted(stamps, reverse=True)
        assert sorted(issue["number"] for issue in issues) == list(range(1, 481))
        long = next(issue for issue in issues if issue["comments"] > 50)
        comments = await _walk(
            session, f"{server.url}/repos/octo/tools/issues/{long['number']}/comments?per_page=50"
        )
        assert len(comments) == long["comments"]


async def test_the_limit_closes_and_says_when_it_opens() -> None:
    """Beyond the limit: 429 with Retry-After, counted as refused; counters are free of charge."""
    async with (
        DemoServer(limit=3, window_s=3600, latency_ms=(0, 0)) as server,
        aiohttp.ClientSession() as session,
    ):
        seen = []
        for _ in range(5):
            async with session.get(f"{server.url}/repos/octo/site/issues") as answer:
                seen.append(
                    (answer.status, answer.headers["X-RateLimit-Remaining"], "Retry-After" in answer.headers)
                )
        assert seen == [
            (200, "2", False),
            (200, "1", False),
            (200, "0", False),
            (429, "0", True),
            (429, "0", True),
        ]
        async with session.get(f"{server.url}/_stats") as answer:
            stats = await answer.json()
        assert (stats["requests"], stats["refused"], stats["closings"]) == (5, 2, 1)
        async with session.get(f"{server.url}/_log") as answer:
            log = await answer.json()
        assert [entry["status"] for entry in log] == [200, 200, 200, 429, 429]
        assert {entry["path"] for entry in log} == {"/repos/octo/site/issues"}


async def test_an_etag_that_still_holds_is_a_304_without_a_body() -> None:
    """If-None-Match with the last ETag is answered by 304, another one by 200."""
    async with DemoServer(limit=PLENTY, latency_ms=(0, 0)) as server, aiohttp.ClientSession() as session:
        url = f"{server.url}/repos/octo/site/issues?per_page=2"
        async with session.get(url) as answer:
            etag = answer.headers["ETag"]
        async with session.get(url, headers={"If-None-Match": f'"x", {etag}'}) as answer:
            assert (answer.status, await answer.read()) == (304, b"")
        async with session.get(url, headers={"If-None-Match": 'W/"other"'}) as answer:
            assert answer.status == 200


async def test_bad_requests_are_told_apart() -> None:
    """What does not exist is 404, what makes no sense 422; both with a reason."""
    wrong = {
        "/repos/octo/nothing/issues": 404,
        "/repos/octo/tools/issues/0/comments": 404,
        "/repos/octo/tools/issues/x/comments": 404,
        "/elsewhere": 404,
        "/repos/octo/tools/issues?page=0": 422,
        "/repos/octo/tools/issues?per_page=ten": 422,
        "/repos/octo/tools/issues?state=lost": 422,
    }
    async with DemoServer(limit=PLENTY, latency_ms=(0, 0)) as server, aiohttp.ClientSession() as session:
        for path, status in wrong.items():
            async with session.get(server.url + path) as answer:
                assert (path, answer.status) == (path, status)
                assert (await answer.json())["message"]


async def _start(*options: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "scrapeq.demo", *options),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )


async def test_the_process_tells_its_url_and_dies_with_its_stdin() -> None:
    """One JSON line, served at once; Ctrl-C is left to the parent; the end of stdin ends it with code 0."""
    process = await _start("--exit-with-stdin", "--limit", "7", "--scale", "0.1")
    assert process.stdout is not None and process.stdin is not None
    url = orjson.loads(await process.stdout.readline())["url"]
    process.send_signal(signal.SIGINT)
    async with aiohttp.ClientSession() as session, session.get(f"{url}/repos/octo/tools/issues") as answer:
        assert answer.headers["X-RateLimit-Limit"] == "7"
        assert len(await answer.json()) > 0
    process.stdin.close()
    assert await asyncio.wait_for(process.wait(), 10) == 0


async def test_a_port_that_is_taken_is_one_clear_error() -> None:
    """No traceback: one line that names the port."""
    async with DemoServer() as server:
        port = server.url.rpartition(":")[2]
        process = await _start("--port", port)
        _, errors = await process.communicate()
    assert process.returncode == 1
    assert errors.decode().startswith(f"the sample API cannot listen on port {port}: ")
    assert errors.count(b"\n") == 1


def test_it_imports_nothing_else_of_the_package() -> None:
    """The sample API is a stranger to the engine: loading it loads no other part of the package."""
    script = "import sys, scrapeq.demo; print(sorted(n for n in sys.modules if n.startswith('scrapeq.')))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.translate(str.maketrans("", "", "[]', \n")).split("scrapeq.")) - {""}
    assert loaded == {"demo", "demo.dataset", "demo.server", "demo.window", "version"}
