"""Callers that wait for the limits of one process."""

from __future__ import annotations

import asyncio

import pytest
from local_limits import FINE, OTHER, TICK_S, URL, Limited, refusal

from scrapeq.errors import RateLimited
from scrapeq.plan import LimitRule, Match, Rate


async def test_waiting_ends_with_the_park() -> None:
    """The caller continues exactly at the time that the server stated."""
    here = Limited()
    here.settle(await here.one(), refusal(60.0))
    waiting = asyncio.ensure_future(here.limits.acquire(URL))
    await here.clock.advance(60.0 - TICK_S)
    assert not waiting.done()
    await here.clock.advance(TICK_S)
    assert waiting.done()


async def test_a_closure_beyond_max_wait_raises_an_error() -> None:
    """The error is raised at once and has the remaining seconds; another caller keeps waiting."""
    here = Limited()
    permit = await here.one()
    here.settle(permit, refusal(60.0))
    patient = asyncio.ensure_future(here.limits.acquire(URL))
    await here.clock.advance(0.0)
    with pytest.raises(RateLimited, match="default") as caught:
        await here.limits.acquire(URL, max_wait_s=59.0)
    assert caught.value.retry_after_s == 60.0
    patient.cancel()
    allowed = asyncio.ensure_future(here.limits.acquire(URL, max_wait_s=60.0))
    await here.clock.advance(60.0)
    assert allowed.done()


async def test_callers_are_served_in_order() -> None:
    """Each limit has a queue of callers; a cancelled caller leaves it."""
    here = Limited(LimitRule("x", rates=(Rate(1, 1.0, burst=1),)))
    served: list[int] = []

    async def ask(number: int) -> None:
        permit = await here.limits.acquire(URL)
        served.append(number)
        here.settle(permit, FINE)

    waiting = [asyncio.ensure_future(ask(number)) for number in range(5)]
    await here.clock.advance(0.0)
    assert served == [0]
    assert await here.limits.try_acquire(URL) is None
    waiting[1].cancel()
    waiting[3].cancel()
    await here.clock.advance(3.0)
    assert served == [0, 2, 4]


async def test_a_caller_that_waits_for_a_narrow_limit_does_not_block_a_wide_one() -> None:
    """This is also true if the narrow limit closes while the caller is queued for the wide one."""
    here = Limited(
        LimitRule("all", Match(), (), max_concurrency=1),
        LimitRule("host", Match(), ("host",), observe="none"),
    )
    held = await here.one()
    here_too = asyncio.ensure_future(here.limits.acquire(URL))
    there = asyncio.ensure_future(here.limits.acquire(OTHER))
    await here.clock.advance(1.0)
    here.settle(held, refusal(60.0))
    await here.clock.advance(1.0)
    assert there.done() and not here_too.done()
    here.settle(there.result(), FINE)
    await here.clock.advance(59.0)
    assert here_too.done()


async def test_a_response_wakes_a_waiting_caller() -> None:
    """The caller continues before any time has passed."""
    here = Limited(LimitRule("x", max_concurrency=1))
    first = await here.one()
    waiting = asyncio.ensure_future(here.limits.acquire(URL))
    await here.clock.advance(0.0)
    assert not waiting.done() and here.clock.sleepers == 0
    here.settle(first, FINE)
    await here.clock.advance(0.0)
    assert waiting.done()
