"""The sample API over real sockets, and as a process that a run starts."""

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


async def _all_pages(session: aiohttp.ClientSession, url: str) -> list[dict[str, Any]]:
    records: list[dict[str, Any]] = []
    address: str | None = url
    while address:
        async with session.get(address) as response:
            assert response.status == 200
            records += await response.json()
            following = response.links.get("next")
            address = str(following["url"]) if following else None
    return records


async def test_the_links_lead_to_every_issue_once_newest_first() -> None:
    """The Link header leads through all pages, in the requested order."""
    async with DemoServer(limit=PLENTY, latency_ms=(0, 0)) as server, aiohttp.ClientSession() as session:
        url = f"{server.url}/repos/octo/tools/issues?state=all&sort=updated&direction=desc&per_page=50"
        issues = await _all_pages(session, url)
        timestamps = [issue["updated_at"] for issue in issues]
        assert timestamps == sorted(timestamps, reverse=True)
        assert sorted(issue["number"] for issue in issues) == list(range(1, 481))
        long = next(issue for issue in issues if issue["comments"] > 50)
        comments = await _all_pages(
            session, f"{server.url}/repos/octo/tools/issues/{long['number']}/comments?per_page=50"
        )
        assert len(comments) == long["comments"]


async def test_a_refusal_advertises_when_the_window_opens() -> None:
    """Beyond the limit: 429 with Retry-After, counted as refused; requests for the counters are not limited."""
    async with (
        DemoServer(limit=3, window_s=3600, latency_ms=(0, 0)) as server,
        aiohttp.ClientSession() as session,
    ):
        responses = []
        for _ in range(5):
            async with session.get(f"{server.url}/repos/octo/site/issues") as response:
                responses.append(
                    (
                        response.status,
                        response.headers["X-RateLimit-Remaining"],
                        "Retry-After" in response.headers,
                    )
                )
        assert responses == [
            (200, "2", False),
            (200, "1", False),
            (200, "0", False),
            (429, "0", True),
            (429, "0", True),
        ]
        async with session.get(f"{server.url}/_stats") as response:
            stats = await response.json()
        assert (stats["requests"], stats["refused"], stats["closings"]) == (5, 2, 1)
        async with session.get(f"{server.url}/_log") as response:
            log = await response.json()
        assert [entry["status"] for entry in log] == [200, 200, 200, 429, 429]
        assert {entry["path"] for entry in log} == {"/repos/octo/site/issues"}


async def test_a_current_etag_is_a_304_without_a_body() -> None:
    """The response to If-None-Match with the current ETag is 304, with another one 200."""
    async with DemoServer(limit=PLENTY, latency_ms=(0, 0)) as server, aiohttp.ClientSession() as session:
        url = f"{server.url}/repos/octo/site/issues?per_page=2"
        async with session.get(url) as response:
            etag = response.headers["ETag"]
        async with session.get(url, headers={"If-None-Match": f'"x", {etag}'}) as response:
            assert (response.status, await response.read()) == (304, b"")
        async with session.get(url, headers={"If-None-Match": 'W/"other"'}) as response:
            assert response.status == 200


async def test_bad_requests_get_404_or_422() -> None:
    """An unknown path is 404, an invalid parameter 422; both have a message."""
    expected = {
        "/repos/octo/nothing/issues": 404,
        "/repos/octo/tools/issues/0/comments": 404,
        "/repos/octo/tools/issues/x/comments": 404,
        "/elsewhere": 404,
        "/repos/octo/tools/issues?page=0": 422,
        "/repos/octo/tools/issues?per_page=ten": 422,
        "/repos/octo/tools/issues?state=lost": 422,
    }
    async with DemoServer(limit=PLENTY, latency_ms=(0, 0)) as server, aiohttp.ClientSession() as session:
        for path, status in expected.items():
            async with session.get(server.url + path) as response:
                assert (path, response.status) == (path, status)
                assert (await response.json())["message"]


async def _start(*options: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "scrapeq.demo", *options),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )


async def test_the_process_prints_its_url_and_ends_with_its_stdin() -> None:
    """It serves once the JSON line is printed, ignores Ctrl-C, and ends with code 0 at the end of stdin."""
    process = await _start("--exit-with-stdin", "--limit", "7", "--scale", "0.1")
    assert process.stdout is not None and process.stdin is not None
    url = orjson.loads(await process.stdout.readline())["url"]
    process.send_signal(signal.SIGINT)
    async with aiohttp.ClientSession() as session, session.get(f"{url}/repos/octo/tools/issues") as response:
        assert response.headers["X-RateLimit-Limit"] == "7"
        assert len(await response.json()) > 0
    process.stdin.close()
    assert await asyncio.wait_for(process.wait(), 10) == 0


async def test_a_taken_port_is_one_error() -> None:
    """The error is one line that names the port, without a traceback."""
    async with DemoServer() as server:
        port = server.url.rpartition(":")[2]
        process = await _start("--port", port)
        _, errors = await process.communicate()
    assert process.returncode == 1
    assert errors.decode().startswith(f"the sample API cannot listen on port {port}: ")
    assert errors.count(b"\n") == 1


def test_the_sample_api_imports_no_other_part_of_the_package() -> None:
    """Importing it loads only its own modules and the version."""
    script = "import sys, scrapeq.demo; print(sorted(n for n in sys.modules if n.startswith('scrapeq.')))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.translate(str.maketrans("", "", "[]', \n")).split("scrapeq.")) - {""}
    assert loaded == {"demo", "demo.dataset", "demo.server", "demo.window", "version"}
