"""The state of a run in the store: its id, whether it is finished, and what it counted, shared by all machines."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from scrapeq.lua import load
from scrapeq.protocols import Incomplete, IncrementalStart
from scrapeq.queue import Queue
from scrapeq.queue.keys import key_of
from scrapeq.schedule.due_times import DueTimes
from scrapeq.task import NewTask
from scrapeq.wiring import cursor_store_of, push_first_pages

STATS_KEEP_S = 30 * 86_400  # how long the counts of a finished run are stored
ENDING_S = 5.0  # for another machine to purge what a finished run has seen; then this machine does it
ENDING_POLL_S = 0.02
RUN_ID_BYTES = 6
PACKAGE = "scrapeq.supervise"
# A run must be able to resume and to finish when the store's memory is full; a new run adds only a few bytes.
BEGIN = load(PACKAGE, "run_begin", allow_oom=True)
FINISH = load(PACKAGE, "run_finish", allow_oom=True)


@dataclass(frozen=True, slots=True)
class RunRecord:
    """The stored facts about a queue's run; an empty id means that no run has started yet."""

    id: str = ""
    state: str = ""  # "running" or "finished"
    started_s: float = 0.0  # Unix seconds
    seeded: bool = False
    demo_port: int = 0
    died_before: int = 0  # dead letters of earlier runs


class RunState:
    """
    The run of one queue, as stored. An unfinished run is resumed by the same command, on any machine.

    Args:
        redis: An asyncio client.
        queue: The queue.
    """

    def __init__(self, redis: Any, queue: Queue) -> None:
        self._redis = redis
        self._queue = queue
        self._prefix = key_of(queue.name)[:-1]
        self._key = self._prefix + "run"
        self._stats_key = self._prefix + "stats"
        self._incomplete_key = self._prefix + "incomplete"
        self.record = RunRecord()

    async def read(self) -> RunRecord:
        """Read the record from the store."""
        raw: Mapping[bytes, bytes] = await self._redis.hgetall(self._key)
        fields = {name.decode(): value.decode() for name, value in raw.items()}
        self.record = RunRecord(
            fields.get("id", ""),
            fields.get("state", ""),
            float(fields.get("started_s", 0)),
            fields.get("seeded") == "1",
            int(fields.get("demo_port", 0)),
            int(fields.get("died_before", 0)),
        )
        return self.record

    async def start_or_resume(self) -> bool:
        """Resume the unfinished run, or start a new one. Return whether it is new."""
        deadline_s = time.monotonic() + ENDING_S
        force = ""
        died = (await self._queue.counts()).died
        while True:
            new_id, now_s = secrets.token_hex(RUN_ID_BYTES), repr(time.time())
            reply = await self._run_script(BEGIN.text, new_id, now_s, force, died)
            if reply != b"ending":
                await self.read()
                return bool(reply == b"new")
            if time.monotonic() < deadline_s:
                await asyncio.sleep(ENDING_POLL_S)
            else:  # the machine that finished the last run was killed before it had purged everything
                await self._queue.purge("seen")
                force = "1"

    async def reset(self, resources: Collection[str] | None) -> None:
        """
        Make the next run fetch everything again.

        Forget the stored cursors and the due times of these resources (None: of all), and an unfinished run with its
        tasks.
        """
        await cursor_store_of(self._redis, self._queue).clear(resources)
        await DueTimes(self._redis, self._prefix).clear(resources)
        if (await self.read()).state == "running":
            await self._queue.purge("tasks")
            await self._queue.purge("seen")
            await self._redis.delete(self._key, self._stats_key, self._incomplete_key)

    async def save_demo_port(self, port: int) -> None:
        """Store the port of the sample API: the URLs of this run's tasks contain it."""
        await self._redis.hset(self._key, "demo_port", port)

    async def seed(
        self, first_pages: Iterable[NewTask | IncrementalStart], queue: Queue | None = None
    ) -> None:
        """
        Push the first pages of the run, once; repeating this changes nothing.

        Args:
            first_pages: The first pages.
            queue: The queue to push to, such as one with more patience; None = this run's.
        """
        if not self.record.seeded:
            cursor_store = cursor_store_of(self._redis, self._queue)
            await push_first_pages(queue or self._queue, cursor_store, first_pages)
            await self._redis.hset(self._key, "seeded", 1)
            await self.read()

    async def scheduled_run(self) -> int:
        """Return the number under which this run fetches scheduled resources; all machines and restarts agree."""
        if await self._redis.hget(self._key, "occurrence") is None:
            number = await DueTimes(self._redis, self._prefix).next_occurrence()
            await self._redis.hsetnx(self._key, "occurrence", number)
        return int(await self._redis.hget(self._key, "occurrence"))

    async def add_stats(self, counts: Mapping[str, float]) -> None:
        """Add to the run's counts, which sum over all machines and restarts."""
        if counts:
            pipe = self._redis.pipeline(transaction=False)
            for name, value in counts.items():
                pipe.hincrbyfloat(self._stats_key, name, value)
            await pipe.execute()

    async def stats(self) -> dict[str, float]:
        """Return the run's counts so far."""
        raw: Mapping[bytes, bytes] = await self._redis.hgetall(self._stats_key)
        return {name.decode(): float(value) for name, value in raw.items()}

    async def incomplete(self) -> tuple[Incomplete, ...]:
        """Return the page sequences of the run that ended without being complete, on any machine."""
        return await cursor_store_of(self._redis, self._queue).incomplete(self._prefix + "dead")

    async def reopen(self) -> bool:
        """
        Mark a finished run as running, because it has work again (redriven dead letters).

        The next command then resumes it instead of seeding a new run. Return False if no run is finished.
        """
        if (await self.read()).state != "finished":
            return False
        await self._redis.hset(self._key, "state", "running")
        await self._redis.persist(self._stats_key)
        await self._redis.persist(self._incomplete_key)
        return True

    async def finish(self) -> bool:
        """
        Finish the run, so that the next one fetches everything again. Return True on the machine that finished it.

        Nothing changes while a task is live, or after another machine has started a new run.
        """
        if await self._run_script(FINISH.text, self.record.id, STATS_KEEP_S) != b"1":
            return False
        await self._queue.purge("seen")  # a new run waits for this
        await self._redis.hdel(self._key, "ending")
        return True

    async def _run_script(self, script: str, *args: str | float) -> Any:
        return await self._redis.execute_command("EVAL", script, 1, self._key, *args)
