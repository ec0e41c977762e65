"""The wrong kind of Redis client is refused before anything is sent."""

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
    """Return a fetcher that shares its limits through that client."""
    return Fetcher(redis=client)


@pytest.mark.parametrize(
    ("make", "client", "message"),
    [
        (lambda c: DPQ(c, "q"), redis.asyncio.Redis(), "expected a blocking client such as redis.Redis"),
        (
            lambda c: Queue(c, "q"),
            redis.Redis(),
            "expected an asyncio client such as redis.asyncio.Redis",
        ),
        (fetcher, redis.Redis(), "expected an asyncio client"),
        (fetcher, "redis://127.0.0.1", "expected a client such as redis.asyncio.Redis"),
        (lambda c: DPQ(c, "q"), "redis://127.0.0.1", "expected a client such as redis.Redis"),
    ],
)
def test_the_wrong_kind_of_client_is_refused(
    make: Callable[[Any], object], client: Any, message: str
) -> None:
    """The error names the kind that is expected; without it the first reply would fail with an unrelated error."""

    async def made() -> None:
        make(client)

    with pytest.raises(UsageError, match=message):
        asyncio.run(made())


def test_the_right_kind_of_client_is_accepted() -> None:
    """The check does not need a connection."""

    async def made() -> None:
        Queue(redis.asyncio.Redis(), "q")

    DPQ(redis.Redis(), "q")
    asyncio.run(made())
