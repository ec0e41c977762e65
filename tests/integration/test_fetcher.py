"""The Fetcher against servers with limits: all pages arrive, and servers are not overloaded."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import pytest
from fetch_server import Received, Server, response, serving

from scrapeq import errors
from scrapeq.fetcher.fetcher import MAX_ATTEMPTS, Fetcher
from scrapeq.plan import Auth, LimitRule, Rate
from scrapeq.testing import FakeClock

ITEMS = 120
LIMIT = 30
WINDOW_S = 0.2
UNSTATED_LIMIT, UNSTATED_WINDOW_S = 20, 1.0
MAX_SLOWDOWN = 1.25  # relative to the ideal time


@dataclass
class Window:
    """A server with a fixed window, and a log of its requests."""

    reports_remaining: bool = False
    sends_retry_after: bool = True
    limit: int = LIMIT
    window_s: float = WINDOW_S
    started_s: float = 0.0
    used: int = 0
    served: list[str] = field(default_factory=list)
    refusals_by_window: list[int] = field(default_factory=lambda: [0])

    async def handle(self, request: Received, writer: asyncio.StreamWriter) -> None:
        now_s = time.monotonic()
        if now_s >= self.started_s + self.window_s:
            self.started_s, self.used = now_s, 0
            self.refusals_by_window.append(0)
        left_s = self.started_s + self.window_s - now_s
        fields = []
        if self.used >= self.limit:
            self.refusals_by_window[-1] += 1
            if self.sends_retry_after:
                fields.append(("Retry-After", f"{left_s + 0.001:.3f}"))
            writer.write(response(429, b"slow down", *fields))
            return
        self.used += 1
        self.served.append(request.path)
        if self.reports_remaining:
            fields.append(("X-RateLimit-Remaining", str(self.limit - self.used)))
            fields.append(("X-RateLimit-Reset-After", f"{left_s + 0.001:.3f}"))
        writer.write(response(200, request.path.encode(), *fields))


@asynccontextmanager
async def limited(window: Window) -> AsyncIterator[Server]:
    async with serving(window.handle) as server:
        yield server


async def fetch_all(server: Server, items: int, **given: Any) -> list[str]:
    async with Fetcher(base_url=server.url, **given) as fetcher:
        return [page.text async for page in fetcher.stream(f"items/{n}" for n in range(items))]


@pytest.mark.serial  # it measures how many windows pass
async def test_an_unstated_limit_is_learned_from_its_first_refusals() -> None:
    """All pages arrive in about the ideal time; only the requests in flight at the first refusal are refused."""
    window = Window(limit=UNSTATED_LIMIT, window_s=UNSTATED_WINDOW_S)
    started_s = time.monotonic()
    async with limited(window) as server:
        pages = await fetch_all(server, ITEMS)
    assert sorted(pages) == sorted(window.served) == sorted(f"/items/{n}" for n in range(ITEMS))
    assert 1 <= sum(window.refusals_by_window) <= 3
    assert time.monotonic() - started_s < MAX_SLOWDOWN * ITEMS / UNSTATED_LIMIT * UNSTATED_WINDOW_S


async def test_a_limit_without_retry_after_is_learned() -> None:
    """If refusals do not report a wait, all pages arrive and few requests are refused."""
    window = Window(sends_retry_after=False, limit=UNSTATED_LIMIT, window_s=UNSTATED_WINDOW_S)
    async with limited(window) as server:
        pages = await fetch_all(server, ITEMS)
    assert sorted(pages) == sorted(window.served) == sorted(f"/items/{n}" for n in range(ITEMS))
    assert 1 <= sum(window.refusals_by_window) <= 6


async def test_a_reported_budget_is_never_exceeded() -> None:
    """If every response reports the remaining budget, no request is refused."""
    window = Window(reports_remaining=True)
    async with limited(window) as server:
        pages = await fetch_all(server, ITEMS)
    assert len(pages) == len(set(pages)) == ITEMS
    assert sum(window.refusals_by_window) == 0


async def test_a_configured_limit_is_never_exceeded() -> None:
    """If the limit is configured, no request is refused, although the server reports nothing."""
    window = Window()
    async with limited(window) as server:
        pages = await fetch_all(server, ITEMS, rate_limits=[LimitRule("x", rates=(Rate(LIMIT, WINDOW_S),))])
    assert len(pages) == len(set(pages)) == ITEMS
    assert sum(window.refusals_by_window) == 0


async def test_a_closed_limit_is_probed_once_per_retry_after() -> None:
    """A server that keeps refusing receives one request per Retry-After, however many are waiting."""
    times: list[float] = []

    async def handle(request: Received, writer: asyncio.StreamWriter) -> None:
        times.append(time.monotonic())
        if len(times) <= 2:
            writer.write(response(429, b"", ("Retry-After", "0.2")))
        else:
            writer.write(response(200, b"ok"))

    async with serving(handle) as server, Fetcher(base_url=server.url) as fetcher:
        pages = await asyncio.gather(*(fetcher.get(f"items/{n}") for n in range(20)))
    assert len(pages) == 20
    assert len(times) == 22
    gaps = [after - before for before, after in pairwise(times[:3])]
    assert all(gap >= 0.2 for gap in gaps)


async def test_a_wait_beyond_max_wait_raises_rate_limited() -> None:
    """The error contains the wait, and the server receives one request."""

    async def handle(request: Received, writer: asyncio.StreamWriter) -> None:
        writer.write(response(503, b"", ("Retry-After", "3600")))

    async with serving(handle) as server, Fetcher(base_url=server.url, max_wait_s=10) as fetcher:
        for _ in range(3):
            with pytest.raises(errors.RateLimited) as caught:
                await fetcher.get("x")
            assert 3590 < caught.value.retry_after_s <= 3600
    assert len(server.received) == 1


async def test_a_closed_host_does_not_hold_up_another() -> None:
    """Even if more URLs of a closed host are pending than there are slots, the other host's pages arrive."""

    async def closed(request: Received, writer: asyncio.StreamWriter) -> None:
        writer.write(response(429, b"", ("Retry-After", "3600")))

    async def opened(request: Received, writer: asyncio.StreamWriter) -> None:
        writer.write(response(200, b"ok"))

    async with serving(closed) as slow, serving(opened) as quick, Fetcher(concurrency=4) as fetcher:
        urls = [f"{slow.url}/{n}" for n in range(50)] + [f"{quick.url}/{n}" for n in range(50)]
        pages = fetcher.stream(urls)
        for _ in range(50):
            page = await asyncio.wait_for(anext(pages), 5)
            assert page.requested_url.startswith(quick.url)
        assert isinstance(pages, AsyncGenerator)
        await pages.aclose()
    assert len(slow.received) == 1


async def test_server_errors_are_retried_and_then_returned() -> None:
    """A temporary 500 is retried; a permanent one is returned after five attempts; a POST is not retried."""
    failures = 2

    async def handle(request: Received, writer: asyncio.StreamWriter) -> None:
        fails = len(server.received) <= failures
        writer.write(response(500 if fails else 200, b"x"))

    async with serving(handle) as server, Fetcher(base_url=server.url, clock=FakeClock(auto=True)) as fetcher:
        assert (await fetcher.get("a")).status == 200
        assert len(server.received) == 3
        server.received.clear()
        failures = 1000
        assert (await fetcher.request("POST", "b", json={"a": 1})).status == 500
        [post] = server.received
        assert (post.body, post.header("content-type")) == (b'{"a":1}', "application/json")
    assert MAX_ATTEMPTS == 5


async def test_stream_raises_errors_after_all_pages() -> None:
    """The stream yields all pages, then raises one group with an error per URL, or calls `on_error` for each."""

    async def handle(request: Received, writer: asyncio.StreamWriter) -> None:
        if request.path.endswith("bad"):
            writer.write(response(200, b"no gzip", ("Content-Encoding", "gzip")))
        else:
            writer.write(response(404, b"gone"))

    async with serving(handle) as server, Fetcher(base_url=server.url) as fetcher:
        statuses: list[int] = []
        with pytest.raises(ExceptionGroup, match="2 URLs failed") as caught:
            async for page in fetcher.stream(["1bad", "2", "3", "4bad", "5"]):
                statuses.append(page.status)
        assert statuses == [404] * 3
        assert all(isinstance(one, errors.BadResponse) for one in caught.value.exceptions)
        failed: list[str] = []
        async for _ in fetcher.stream(["1bad", "2"], on_error=lambda url, error: failed.append(url)):
            pass
        assert failed == ["1bad"]


async def test_stream_propagates_errors_of_the_url_iterator() -> None:
    """An exception of the caller's iterator is raised by the stream."""

    def urls() -> Iterator[str]:
        raise LookupError("no more")
        yield ""

    async with Fetcher() as fetcher:
        with pytest.raises(ExceptionGroup) as caught:
            async for _ in fetcher.stream(urls()):
                pass
    assert caught.group_contains(LookupError)


async def test_redirects_wait_for_the_limits_of_their_host() -> None:
    """A redirect to a closed host waits for that host; the wait does not count against the request's timeout."""
    arrivals_s: list[float] = []

    async def target(request: Received, writer: asyncio.StreamWriter) -> None:
        arrivals_s.append(time.monotonic())
        if len(arrivals_s) == 1:
            writer.write(response(429, b"", ("Retry-After", "0.6")))
        else:
            writer.write(response(200, b"there"))

    async with serving(target) as there:

        async def here(request: Received, writer: asyncio.StreamWriter) -> None:
            writer.write(response(302, b"", ("Location", f"{there.url}/moved")))

        async with serving(here) as server, Fetcher(base_url=server.url, timeout_s=0.5) as fetcher:
            pages = await asyncio.gather(fetcher.get("a"), fetcher.get("b"))
    assert [page.body for page in pages] == [b"there", b"there"]
    assert {page.requested_url for page in pages} == {f"{server.url}/a", f"{server.url}/b"}
    assert arrivals_s[1] - arrivals_s[0] >= 0.6


async def test_private_hosts_are_allowed_only_if_passed_in() -> None:
    """A URL that the user passes in may name a private host; a redirect to another private host is blocked."""

    async def handle(request: Received, writer: asyncio.StreamWriter) -> None:
        writer.write(response(302, b"", ("Location", f"http://localhost:{server.port}/")))

    async with serving(handle) as server, Fetcher(auth=Auth("bearer", token="t0k3n")) as fetcher:
        with pytest.raises(errors.Blocked):
            await fetcher.get(server.url)
        assert server.received[0].header("authorization") == "Bearer t0k3n"
    with pytest.raises(errors.UsageError, match="base_url"):
        await Fetcher().get("relative")


async def test_paths_and_parameters_are_joined_to_the_base_url() -> None:
    """Paths are joined by exactly one slash; null parameters are omitted, lists are repeated."""

    async def handle(request: Received, writer: asyncio.StreamWriter) -> None:
        writer.write(response(200, b""))

    async with serving(handle) as server, Fetcher(base_url=f"{server.url}/v1/") as fetcher:
        await fetcher.get("/items?a=1", params={"b": "x y", "c": None, "d": [1, 2]}, headers={"X-A": "1"})
        await fetcher.get("items")
    assert [request.path for request in server.received] == ["/v1/items?a=1&b=x+y&d=1&d=2", "/v1/items"]
    assert server.received[0].header("x-a") == "1"


async def test_a_delayed_redirect_keeps_the_permissions_of_its_first_url() -> None:
    """Its private host is still allowed, and its origin still receives the credentials."""

    async def handle(request: Received, writer: asyncio.StreamWriter) -> None:
        moved = response(302, b"", ("Location", "/moved"))
        writer.write(response(200, b"there") if request.path == "/moved" else moved)

    rules = [LimitRule("one", rates=(Rate(1, 0.2),))]  # closed at the time of the redirect
    clock = FakeClock(auto=True)
    async with (
        serving(handle) as server,
        Fetcher(auth=Auth("bearer", token="t0k3n"), rate_limits=rules, clock=clock) as fetcher,
    ):
        page = await fetcher.get(f"{server.url}/here")
    assert page.body == b"there"
    assert clock.monotonic_s() == pytest.approx(0.2)
    assert [request.header("authorization") for request in server.received] == ["Bearer t0k3n"] * 2
