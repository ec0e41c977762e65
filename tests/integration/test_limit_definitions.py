"""Limit definitions in a real store: which version wins, and how definitions are read back."""

from __future__ import annotations

from typing import Any

from scrapeq.queue import Limit, Queue, Rate
from scrapeq.task import Group

FILE = Limit((Rate(30, 60.0), Rate(1000.5, 86_400.0, 5)), max_concurrency=4)
MANUAL = Limit((Rate(2, 60.0),), version=7)


async def test_definitions_are_read_back_as_they_were_written(astore: Any) -> None:
    """Every field of a definition is read back; a queue without definitions returns an empty map."""
    async with Queue(astore, "t") as queue:
        assert await queue.definitions() == {}
        await queue.define({"core": FILE, "manual": MANUAL, "unknown": Limit(learn=True)})
        assert await queue.definitions() == {"core": FILE, "manual": MANUAL, "unknown": Limit(learn=True)}


async def test_a_higher_version_is_replaced_only_by_force(astore: Any) -> None:
    """A definition replaces one with a higher version only by force, and grants follow it immediately."""
    group = Group("g", (), "core")
    async with Queue(astore, "t") as queue:
        await queue.define({"core": MANUAL})
        await queue.define({"core": FILE})
        assert await queue.definitions() == {"core": MANUAL}
        assert await queue.acquire(group) and not await queue.acquire(group)
        await queue.define({"core": Limit(max_concurrency=4)}, force=True)
        assert (await queue.definitions())["core"].version == 0
        assert await queue.acquire(group)


async def test_limit_instances_lists_more_than_one_scan(astore: Any) -> None:
    """Each instance is listed once, even if there are more than one scan returns."""
    names = sorted(f"core|{number}" for number in range(700))
    async with Queue(astore, "t") as queue:
        for start in range(0, len(names), 100):
            await queue.park(names[start : start + 100], for_s=60)
        assert await queue.limit_instances() == names
