"""Callers that wait for the limits of one process."""

from __future__ import annotations

import asyncio

import pytest
from local_limits import FINE, OTHER, TICK_S, URL, Limited, refusal

from scrapeq.errors import RateLimited
from scrapeq.plan import LimitRule, Match, Rate


async def test_waiting_ends_with_the_park() -> None:
    """The caller continues exactly at the time that the server stated."""
    limited = Limited()
    limited.settle(await limited.one(), refusal(60.0))
    waiting = asyncio.ensure_future(limited.limits.acquire(URL))
    await limited.clock.advance(60.0 - TICK_S)
    assert not waiting.done()
    await limited.clock.advance(TICK_S)
    assert waiting.done()


async def test_a_closure_beyond_max_wait_raises_an_error() -> None:
    """The error is raised at once and has the remaining seconds; another caller keeps waiting."""
    limited = Limited()
    permit = await limited.one()
    limited.settle(permit, refusal(60.0))
    patient = asyncio.ensure_future(limited.limits.acquire(URL))
    await limited.clock.advance(0.0)
    with pytest.raises(RateLimited, match="default") as caught:
        await limited.limits.acquire(URL, max_wait_s=59.0)
    assert caught.value.retry_after_s == 60.0
    patient.cancel()
    allowed = asyncio.ensure_future(limited.limits.acquire(URL, max_wait_s=60.0))
    await limited.clock.advance(60.0)
    assert allowed.done()


async def test_callers_are_served_in_order() -> None:
    """Each limit has a queue of callers; a cancelled caller leaves it."""
    limited = Limited(LimitRule("x", rates=(Rate(1, 1.0, burst=1),)))
    served: list[int] = []

    async def request(number: int) -> None:
        permit = await limited.limits.acquire(URL)
        served.append(number)
        limited.settle(permit, FINE)

    waiting = [asyncio.ensure_future(request(number)) for number in range(5)]
    await limited.clock.advance(0.0)
    assert served == [0]
    assert await limited.limits.try_acquire(URL) is None
    waiting[1].cancel()
    waiting[3].cancel()
    await limited.clock.advance(3.0)
    assert served == [0, 2, 4]


async def test_a_caller_that_waits_for_a_narrow_limit_does_not_block_a_wide_one() -> None:
    """This is also true if the narrow limit closes while the caller is queued for the wide one."""
    limited = Limited(
        LimitRule("all", Match(), (), max_concurrency=1),
        LimitRule("host", Match(), ("host",), observe="none"),
    )
    permit = await limited.one()
    same_host = asyncio.ensure_future(limited.limits.acquire(URL))
    other_host = asyncio.ensure_future(limited.limits.acquire(OTHER))
    await limited.clock.advance(1.0)
    limited.settle(permit, refusal(60.0))
    await limited.clock.advance(1.0)
    assert other_host.done() and not same_host.done()
    limited.settle(other_host.result(), FINE)
    await limited.clock.advance(59.0)
    assert same_host.done()


async def test_a_response_wakes_a_waiting_caller() -> None:
    """The caller continues before any time has passed."""
    limited = Limited(LimitRule("x", max_concurrency=1))
    first = await limited.one()
    waiting = asyncio.ensure_future(limited.limits.acquire(URL))
    await limited.clock.advance(0.0)
    assert not waiting.done() and limited.clock.sleepers == 0
    limited.settle(first, FINE)
    await limited.clock.advance(0.0)
    assert waiting.done()
