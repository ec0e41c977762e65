"""The fetcher against servers with limits: everything arrives, and nobody is hammered."""

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
UNTOLD_LIMIT, UNTOLD_WINDOW_S = 20, 1.0
LATE = 1.25  # times what its windows take


@dataclass
class Window:
    """A server with a fixed window, and what it saw."""

    tells_remaining: bool = False
    says_when: bool = True
    limit: int = LIMIT
    window_s: float = WINDOW_S
    began_s: float = 0.0
    used: int = 0
    served: list[str] = field(default_factory=list)
    refusals_by_window: list[int] = field(default_factory=lambda: [0])

    async def answer(self, request: Received, writer: asyncio.StreamWriter) -> None:
        now_s = time.monotonic()
        if now_s >= self.began_s + self.window_s:
            self.began_s, self.used = now_s, 0
            self.refusals_by_window.append(0)
        left_s = self.began_s + self.window_s - now_s
        fields = []
        if self.used >= self.limit:
            self.refusals_by_window[-1] += 1
            if self.says_when:
                fields.append(("Retry-After", f"{left_s + 0.001:.3f}"))
            writer.write(response(429, b"slow down", *fields))
            return
        self.used += 1
        self.served.append(request.path)
        if self.tells_remaining:
            fields.append(("X-RateLimit-Remaining", str(self.limit - self.used)))
            fields.append(("X-RateLimit-Reset-After", f"{left_s + 0.001:.3f}"))
        writer.write(response(200, request.path.encode(), *fields))


@asynccontextmanager
async def limited(window: Window) -> AsyncIterator[Server]:
    async with serving(window.answer) as server:
        yield server


async def fetch_all(server: Server, items: int, **given: Any) -> list[str]:
    async with Fetcher(base_url=server.url, **given) as fetcher:
        return [page.text async for page in fetcher.stream(f"items/{n}" for n in range(items))]


@pytest.mark.serial  # it measures how many windows pass
async def test_an_untold_limit_is_learned_from_its_first_refusals() -> None:
    """Everything comes, in the time that its windows take; refused is one flight, where the first window ends."""
    window = Window(limit=UNTOLD_LIMIT, window_s=UNTOLD_WINDOW_S)
    started_s = time.monotonic()
    async with limited(window) as server:
        pages = await fetch_all(server, ITEMS)
    assert sorted(pages) == sorted(window.served) == sorted(f"/items/{n}" for n in range(ITEMS))
    assert 1 <= sum(window.refusals_by_window) <= 3
    assert time.monotonic() - started_s < LATE * ITEMS / UNTOLD_LIMIT * UNTOLD_WINDOW_S


async def test_a_limit_that_does_not_say_when_is_learned_too() -> None:
    """A refusal without a wait: everything comes, and few are refused."""
    window = Window(says_when=False, limit=UNTOLD_LIMIT, window_s=UNTOLD_WINDOW_S)
    async with limited(window) as server:
        pages = await fetch_all(server, ITEMS)
    assert sorted(pages) == sorted(window.served) == sorted(f"/items/{n}" for n in range(ITEMS))
    assert 1 <= sum(window.refusals_by_window) <= 6


async def test_a_told_budget_is_never_overdrawn() -> None:
    """No refusal from the first request on."""
    window = Window(tells_remaining=True)
    async with limited(window) as server:
        pages = await fetch_all(server, ITEMS)
    assert len(pages) == len(set(pages)) == ITEMS
    assert sum(window.refusals_by_window) == 0


async def test_a_configured_limit_is_never_hit() -> None:
    """Paced and by slots: no refusal though the server tells nothing."""
    window = Window()
    async with limited(window) as server:
        pages = await fetch_all(server, ITEMS, rate_limits=[LimitRule("x", rates=(Rate(LIMIT, WINDOW_S),))])
    assert len(pages) == len(set(pages)) == ITEMS
    assert sum(window.refusals_by_window) == 0


async def test_one_probe_per_opening() -> None:
    """A server that stays closed sees one request per Retry-After, however many wait."""
    times: list[float] = []

    async def answer(request: Received, writer: asyncio.StreamWriter) -> None:
        times.append(time.monotonic())
        if len(times) <= 2:
            writer.write(response(429, b"", ("Retry-After", "0.2")))
        else:
            writer.write(response(200, b"ok"))

    async with serving(answer) as server, Fetcher(base_url=server.url) as fetcher:
        pages = await asyncio.gather(*(fetcher.get(f"items/{n}") for n in range(20)))
    assert len(pages) == 20
    assert len(times) == 22
    gaps = [after - before for before, after in pairwise(times[:3])]
    assert all(gap >= 0.2 for gap in gaps)


async def test_max_wait_raises_with_the_wait() -> None:
    """The caller is told how long, and the server is asked once."""

    async def answer(request: Received, writer: asyncio.StreamWriter) -> None:
        writer.write(response(503, b"", ("Retry-After", "3600")))

    async with serving(answer) as server, Fetcher(base_url=server.url, max_wait_s=10) as fetcher:
        for _ in range(3):
            with pytest.raises(errors.RateLimited) as caught:
                await fetcher.get("x")
            assert 3590 < caught.value.retry_after_s <= 3600
    assert len(server.received) == 1


async def test_a_closed_host_does_not_hold_up_another() -> None:
    """More URLs of a closed host than there are slots, and the open host's pages come."""

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


async def test_failures_are_tried_again_and_then_shown() -> None:
    """A passing 500 is no error; a lasting one is the page after five tries; a POST is not repeated."""
    failures = 2

    async def answer(request: Received, writer: asyncio.StreamWriter) -> None:
        fails = len(server.received) <= failures
        writer.write(response(500 if fails else 200, b"x"))

    async with serving(answer) as server, Fetcher(base_url=server.url, clock=FakeClock(auto=True)) as fetcher:
        assert (await fetcher.get("a")).status == 200
        assert len(server.received) == 3
        server.received.clear()
        failures = 1000
        assert (await fetcher.request("POST", "b", json={"a": 1})).status == 500
        [post] = server.received
        assert (post.body, post.header("content-type")) == (b'{"a":1}', "application/json")
    assert MAX_ATTEMPTS == 5


async def test_errors_of_a_stream_come_after_its_pages() -> None:
    """All pages first, then one group with an error per URL; or each to `on_error`."""

    async def answer(request: Received, writer: asyncio.StreamWriter) -> None:
        if request.path.endswith("bad"):
            writer.write(response(200, b"no gzip", ("Content-Encoding", "gzip")))
        else:
            writer.write(response(404, b"gone"))

    async with serving(answer) as server, Fetcher(base_url=server.url) as fetcher:
        seen: list[int] = []
        with pytest.raises(ExceptionGroup, match="2 URLs failed") as caught:
            async for page in fetcher.stream(["1bad", "2", "3", "4bad", "5"]):
                seen.append(page.status)
        assert seen == [404] * 3
        assert all(isinstance(one, errors.BadResponse) for one in caught.value.exceptions)
        reported: list[str] = []
        async for _ in fetcher.stream(["1bad", "2"], on_error=lambda url, error: reported.append(url)):
            pass
        assert reported == ["1bad"]


async def test_a_broken_source_of_urls_is_raised() -> None:
    """What the caller's iterator raises comes out of the stream."""

    def urls() -> Iterator[str]:
        raise LookupError("no more")
        yield ""

    async with Fetcher() as fetcher:
        with pytest.raises(ExceptionGroup) as caught:
            async for _ in fetcher.stream(urls()):
                pass
    assert caught.group_contains(LookupError)


async def test_hops_pass_the_limits_too() -> None:
    """A redirect to a closed host waits for it, outside the request's own deadline."""
    asked: list[float] = []

    async def target(request: Received, writer: asyncio.StreamWriter) -> None:
        asked.append(time.monotonic())
        if len(asked) == 1:
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
    assert asked[1] - asked[0] >= 0.6


async def test_what_is_passed_in_is_named_and_what_is_found_is_not() -> None:
    """The user's own URL may be a private one; a redirect to another private host may not."""

    async def answer(request: Received, writer: asyncio.StreamWriter) -> None:
        writer.write(response(302, b"", ("Location", f"http://localhost:{server.port}/")))

    async with serving(answer) as server, Fetcher(auth=Auth("bearer", token="t0k3n")) as fetcher:
        with pytest.raises(errors.Blocked):
            await fetcher.get(server.url)
        assert server.received[0].header("authorization") == "Bearer t0k3n"
    with pytest.raises(errors.UsageError, match="base_url"):
        await Fetcher().get("relative")


async def test_parameters_and_addresses_are_joined() -> None:
    """Exactly one slash; null parameters are left out, lists repeat."""

    async def answer(request: Received, writer: asyncio.StreamWriter) -> None:
        writer.write(response(200, b""))

    async with serving(answer) as server, Fetcher(base_url=f"{server.url}/v1/") as fetcher:
        await fetcher.get("/items?a=1", params={"b": "x y", "c": None, "d": [1, 2]}, headers={"X-A": "1"})
        await fetcher.get("items")
    assert [request.path for request in server.received] == ["/v1/items?a=1&b=x+y&d=1&d=2", "/v1/items"]
    assert server.received[0].header("x-a") == "1"


async def test_a_hop_that_is_sent_later_belongs_to_the_url_that_was_passed_in() -> None:
    """Its private host is still named, and its origin still gets the credentials."""

    async def answer(request: Received, writer: asyncio.StreamWriter) -> None:
        moved = response(302, b"", ("Location", "/moved"))
        writer.write(response(200, b"there") if request.path == "/moved" else moved)

    rules = [LimitRule("one", rates=(Rate(1, 0.2),))]  # closed when the hop asks
    clock = FakeClock(auto=True)
    async with (
        serving(answer) as server,
        Fetcher(auth=Auth("bearer", token="t0k3n"), rate_limits=rules, clock=clock) as fetcher,
    ):
        page = await fetcher.get(f"{server.url}/here")
    assert page.body == b"there"
    assert clock.monotonic_s() == pytest.approx(0.2)
    assert [request.header("authorization") for request in server.received] == ["Bearer t0k3n"] * 2
