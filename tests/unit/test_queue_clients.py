"""The wrong kind of client is told at once, before anything is sent."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
import redis
import redis.asyncio

from scrapeq import DPQ, Fetcher, Queue
from scrapeq.errors import UsageError


def fetcher(client: Any) -> Fetcher:
    """One whose limits live in that store."""
    return Fetcher(redis=client)


@pytest.mark.parametrize(
    ("make", "client", "said"),
    [
        (lambda c: DPQ(c, "q"), redis.asyncio.Redis(), "this client is for asyncio; DPQ takes redis.Redis"),
        (
            lambda c: Queue(c, "q"),
            redis.Redis(),
            "this client blocks; Queue and Fetcher take redis.asyncio.Redis",
        ),
        (fetcher, redis.Redis(), "this client blocks"),
        (fetcher, "redis://127.0.0.1", "a client is wanted, such as redis.asyncio.Redis"),
        (lambda c: DPQ(c, "q"), "redis://127.0.0.1", "a client is wanted, such as redis.Redis"),
    ],
)
def test_the_wrong_kind_of_client_is_told(make: Callable[[Any], object], client: Any, said: str) -> None:
    """What would fail at its first answer says what is wanted instead."""

    async def made() -> None:
        make(client)

    with pytest.raises(UsageError, match=said):
        asyncio.run(made())


def test_the_right_kind_is_taken() -> None:
    """Without a connection."""

    async def made() -> None:
        Queue(redis.asyncio.Redis(), "q")

    DPQ(redis.Redis(), "q")
    asyncio.run(made())
