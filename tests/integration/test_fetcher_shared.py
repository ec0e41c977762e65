"""Fetchers share their limits through a store."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

import pytest
from aiohttp import web
from fetch_server import Received, serving

from scrapeq import Fetcher, RateLimited
from scrapeq.errors import Blocked, ConnectionFailed
from scrapeq.plan import LimitRule, Rate
from scrapeq.queue.connect import async_client

WINDOW_S = 0.5
LIMIT = 10


@pytest.fixture
async def server() -> AsyncIterator[tuple[str, list[tuple[float, int]]]]:
    """Yield the URL of a fixed-window server that sends Retry-After, and its log of (time, status)."""
    log: list[tuple[float, int]] = []

    async def page(_request: web.Request) -> web.Response:
        now = time.monotonic()
        window = int(now / WINDOW_S)
        used = sum(1 for at, status in log if status == 200 and int(at / WINDOW_S) == window)
        status = 200 if used < LIMIT else 429
        log.append((now, status))
        left = (window + 1) * WINDOW_S - now
        headers = {} if status == 200 else {"Retry-After": f"{left + 0.005:.3f}"}
        return web.json_response({"ok": status == 200}, status=status, headers=headers)

    app = web.Application()
    app.router.add_get("/{name}", page)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    yield f"http://127.0.0.1:{port}", log
    await runner.cleanup()


async def test_two_fetchers_share_one_configured_limit(
    server: tuple[str, list[tuple[float, int]]], store_url: str
) -> None:
    """All pages arrive without a refusal."""
    url, log = server
    client = async_client(store_url)
    rules = [LimitRule("api", rates=(Rate(LIMIT, WINDOW_S),))]

    async def fetch(part: int) -> int:
        async with Fetcher(base_url=url, redis=client, rate_limits=rules, queue_name="shared") as fetcher:
            pages = [page async for page in fetcher.stream(f"{part}-{n}" for n in range(15))]
        return sum(page.status == 200 for page in pages)

    assert list(await asyncio.gather(fetch(1), fetch(2))) == [15, 15]
    assert [status for _, status in log].count(429) == 0
    await client.aclose()


async def test_a_refusal_of_one_closes_the_limit_for_the_other(
    server: tuple[str, list[tuple[float, int]]], store_url: str
) -> None:
    """If the limit is unknown, a refusal of one fetcher delays both, and all pages arrive."""
    url, log = server
    client = async_client(store_url)

    async def fetch(part: int) -> int:
        async with Fetcher(base_url=url, redis=client, queue_name="unknown") as fetcher:
            pages = [page async for page in fetcher.stream(f"{part}-{n}" for n in range(12))]
        return sum(page.status == 200 for page in pages)

    assert list(await asyncio.gather(fetch(1), fetch(2))) == [12, 12]
    refused = [at for at, status in log if status == 429]
    assert refused, "the limit was never reached, so the test is meaningless"
    await client.aclose()


async def test_a_shared_wait_beyond_max_wait_raises_rate_limited(
    store_url: str, server: tuple[str, list[tuple[float, int]]]
) -> None:
    """If the limit is closed for longer than `max_wait_s`, the error contains the wait in seconds."""
    url, _ = server
    client = async_client(store_url)
    rules = [LimitRule("slow", rates=(Rate(1, 3600),))]
    async with Fetcher(
        base_url=url, redis=client, rate_limits=rules, max_wait_s=1, queue_name="slow"
    ) as fetcher:
        assert (await fetcher.get("one")).status == 200
        with pytest.raises(RateLimited) as raised:
            await fetcher.get("two")
    assert 3000 < raised.value.retry_after_s <= 3600
    await client.aclose()


async def test_only_unsent_requests_are_refunded(store_url: str) -> None:
    """A blocked request does not spend quota; a request whose connection broke does."""

    async def close_connection(request: Received, writer: asyncio.StreamWriter) -> None:
        writer.close()

    client = async_client(store_url)
    rules = [LimitRule("slow", rates=(Rate(1, 3600),))]
    async with (
        serving(close_connection) as server,
        Fetcher(
            base_url=server.url, redis=client, rate_limits=rules, max_wait_s=1, queue_name="unanswered"
        ) as fetcher,
    ):
        for _ in range(3):
            with pytest.raises(Blocked):
                await fetcher.get("never", headers={"X-A": "one\ntwo"})
        with pytest.raises(ConnectionFailed):
            await fetcher.request("POST", "broken")
        with pytest.raises(RateLimited):
            await fetcher.get("next")
    assert [request.path for request in server.received] == ["/broken"]
    await client.aclose()
