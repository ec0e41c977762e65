"""A run in the store: its id, whether it is unfinished, what it counted. Unfinished: the same command resumes it."""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from scrapeq.queue import Queue
from scrapeq.queue.async_queue import key_of
from scrapeq.task import NewTask

STATS_KEEP_S = 30 * 86_400  # counts of finished runs are kept for a month
SEED_PIECE = 1000


@dataclass(frozen=True, slots=True)
class RunRecord:
    """What the store knows of the run of a queue; empty id = none yet."""

    id: str = ""
    state: str = ""  # running, finished
    started_s: float = 0.0
    seeded: bool = False
    demo_port: int = 0


class RunState:
    """
    The run of one queue.

    Args:
        redis: An asyncio client.
        queue: The queue.
    """

    def __init__(self, redis: Any, queue: Queue) -> None:
        self._redis = redis
        self._queue = queue
        prefix = key_of(queue.name)[:-1]
        self._key = prefix + "run"
        self._stats = prefix + "stats"
        self.record = RunRecord()

    async def read(self) -> RunRecord:
        """What the store knows."""
        raw: Mapping[bytes, bytes] = await self._redis.hgetall(self._key)
        found = {name.decode(): value.decode() for name, value in raw.items()}
        self.record = RunRecord(
            found.get("id", ""),
            found.get("state", ""),
            float(found.get("started_s", 0)),
            found.get("seeded") == "1",
            int(found.get("demo_port", 0)),
        )
        return self.record

    async def begin(self) -> bool:
        """Resume the unfinished run, or begin a new one. True when it is new."""
        record = await self.read()
        if record.state == "running":
            return False
        # two machines that begin at once agree on one id: whoever sets it first
        fresh = secrets.token_hex(6)
        if record.id:
            await self._redis.delete(self._key)
        await self._redis.hsetnx(self._key, "id", fresh)
        await self._redis.hset(self._key, mapping={"state": "running", "started_s": repr(time.time())})
        await self._redis.delete(self._stats)
        return (await self.read()).id == fresh

    async def remember_demo(self, port: int) -> None:
        """The port of the sample API: the tasks of this run hold it."""
        await self._redis.hset(self._key, "demo_port", port)

    async def seed(self, tasks: Iterable[NewTask]) -> int:
        """Push what the run begins with, once; a repeat changes nothing. How many were new."""
        new = 0
        if not self.record.seeded:
            pushed = await self._queue.push_many(tasks)
            new = sum(1 for one in pushed if one.outcome == "pushed")
            await self._redis.hset(self._key, "seeded", 1)
            await self.read()
        return new

    async def add(self, counts: Mapping[str, float]) -> None:
        """Add to what the run counted, over all machines and restarts."""
        if counts:
            pipe = self._redis.pipeline(transaction=False)
            for name, value in counts.items():
                pipe.hincrbyfloat(self._stats, name, value)
            await pipe.execute()

    async def stats(self) -> dict[str, float]:
        """What the run counted so far."""
        raw: Mapping[bytes, bytes] = await self._redis.hgetall(self._stats)
        return {name.decode(): float(value) for name, value in raw.items()}

    async def finish(self) -> None:
        """All is done: the next run asks for everything anew."""
        await self._queue.purge("seen")
        await self._redis.hset(self._key, "state", "finished")
        await self._redis.expire(self._stats, STATS_KEEP_S)
