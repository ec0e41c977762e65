"""A run in the store: its id, whether it is unfinished, what it counted. Unfinished: the same command resumes it."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from scrapeq.lua import load
from scrapeq.protocols import IncrementalStart
from scrapeq.queue import Queue
from scrapeq.queue.keys import key_of
from scrapeq.schedule.due_times import DueTimes
from scrapeq.task import NewTask
from scrapeq.wiring import cursor_store_of, push_firsts

STATS_KEEP_S = 30 * 86_400  # counts of finished runs are kept for a month
ENDING_S = 5.0  # for another machine to forget what an ended run has seen; then it is done here
ENDING_POLL_S = 0.02
PACKAGE = "scrapeq.supervise"
# to resume and to end a run must go on when memory is full; the few bytes of a new one do no harm
BEGIN = load(PACKAGE, "run_begin", allow_oom=True)
FINISH = load(PACKAGE, "run_finish", allow_oom=True)


@dataclass(frozen=True, slots=True)
class RunRecord:
    """What the store knows of the run of a queue; empty id = none yet."""

    id: str = ""
    state: str = ""  # running, finished
    started_s: float = 0.0
    seeded: bool = False
    demo_port: int = 0
    died_before: int = 0  # dead letters of earlier runs are not this one's


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
        self._prefix = key_of(queue.name)[:-1]
        self._key = self._prefix + "run"
        self._stats = self._prefix + "stats"
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
            int(found.get("died_before", 0)),
        )
        return self.record

    async def begin(self) -> bool:
        """Resume the unfinished run, or begin a new one. True when it is new."""
        until_s = time.monotonic() + ENDING_S
        force = ""
        died = (await self._queue.counts()).died
        while True:
            said = await self._run(BEGIN.text, secrets.token_hex(6), repr(time.time()), force, died)
            if said != b"ending":
                await self.read()
                return bool(said == b"new")
            if time.monotonic() < until_s:
                await asyncio.sleep(ENDING_POLL_S)
            else:  # who ended it was killed before all was forgotten
                await self._queue.purge("seen")
                force = "1"

    async def forget(self, resources: Collection[str] | None) -> None:
        """
        All is asked for again: what walks of these resources (None: of all) keep is forgotten, when they are due, and
        an unfinished run with its tasks.
        """
        await cursor_store_of(self._redis, self._queue).clear(resources)
        await DueTimes(self._redis, self._prefix).clear(resources)
        if (await self.read()).state == "running":
            await self._queue.purge("tasks")
            await self._queue.purge("seen")
            await self._redis.delete(self._key, self._stats)

    async def _run(self, script: str, *args: str | float) -> Any:
        return await self._redis.execute_command("EVAL", script, 1, self._key, *args)

    async def remember_demo(self, port: int) -> None:
        """The port of the sample API: the tasks of this run hold it."""
        await self._redis.hset(self._key, "demo_port", port)

    async def seed(self, firsts: Iterable[NewTask | IncrementalStart], queue: Queue | None = None) -> None:
        """Push what the run begins with, once; a repeat changes nothing. `queue`: a more patient one."""
        if not self.record.seeded:
            await push_firsts(queue or self._queue, cursor_store_of(self._redis, self._queue), firsts)
            await self._redis.hset(self._key, "seeded", 1)
            await self.read()

    async def occurrence(self) -> int:
        """The number under which this run asks for what has a schedule; the same on all machines and restarts."""
        if await self._redis.hget(self._key, "occurrence") is None:
            number = await DueTimes(self._redis, self._prefix).next_occurrence()
            await self._redis.hsetnx(self._key, "occurrence", number)
        return int(await self._redis.hget(self._key, "occurrence"))

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

    async def reopen(self) -> bool:
        """
        A finished run has work again (redriven dead letters): the next one resumes it instead of seeding anew.

        False when there is no finished run.
        """
        if (await self.read()).state != "finished":
            return False
        await self._redis.hset(self._key, "state", "running")
        await self._redis.persist(self._stats)
        return True

    async def finish(self) -> bool:
        """
        All is done: the next run asks for everything anew. True for the one machine that has ended it.

        Nothing changes when a task lives, or when the run is no more the one that this machine began.
        """
        if await self._run(FINISH.text, self.record.id, STATS_KEEP_S) != b"1":
            return False
        await self._queue.purge("seen")  # a new run waits for it
        await self._redis.hdel(self._key, "ending")
        return True
