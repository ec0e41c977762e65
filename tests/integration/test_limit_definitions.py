"""Definitions of limits in a real store: which of two stands, and how they are read back."""

from __future__ import annotations

from typing import Any

from scrapeq.queue import Limit, Queue, Rate
from scrapeq.task import Group

FILE = Limit((Rate(30, 60.0), Rate(1000.5, 86_400.0, 5)), max_concurrency=4)
BY_HAND = Limit((Rate(2, 60.0),), version=7)


async def test_definitions_are_read_back_as_they_were_written(astore: Any) -> None:
    """Every member of a definition comes back; a queue that knows none answers an empty map."""
    async with Queue(astore, "t") as queue:
        assert await queue.definitions() == {}
        await queue.define({"core": FILE, "hand": BY_HAND, "unknown": Limit(learn=True)})
        assert await queue.definitions() == {"core": FILE, "hand": BY_HAND, "unknown": Limit(learn=True)}


async def test_a_higher_version_stands_until_it_is_forced(astore: Any) -> None:
    """The file's definition does not replace one of a higher version, except by force; grants follow at once."""
    group = Group("g", (), "core")
    async with Queue(astore, "t") as queue:
        await queue.define({"core": BY_HAND})
        await queue.define({"core": FILE})
        assert await queue.definitions() == {"core": BY_HAND}
        assert await queue.acquire(group) and not await queue.acquire(group)
        await queue.define({"core": Limit(max_concurrency=4)}, force=True)
        assert (await queue.definitions())["core"].version == 0
        assert await queue.acquire(group)


async def test_all_instances_are_named_however_many(astore: Any) -> None:
    """More instances than one scan brings: each is named once."""
    names = sorted(f"core|{number}" for number in range(700))
    async with Queue(astore, "t") as queue:
        for start in range(0, len(names), 100):
            await queue.park(names[start : start + 100], for_s=60)
        assert await queue.limit_instances() == names
