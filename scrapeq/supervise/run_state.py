"""The state of a run in the store: its id, whether it is finished, and what it counted, shared by all machines."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import structlog

from scrapeq.errors import StoreDamaged, UsageError
from scrapeq.lua import load
from scrapeq.protocols import Incomplete, IncrementalStart
from scrapeq.queue import Counts, Queue
from scrapeq.queue.keys import key_of
from scrapeq.schedule.due_times import DueTimes
from scrapeq.task import NewTask
from scrapeq.wiring import cursor_store_of, push_first_pages

log = structlog.get_logger("scrapeq.run")

STATS_KEEP_S = 30 * 86_400  # how long the counts of a finished run are stored
ENDING_S = 5.0  # for another machine to purge what a finished run has seen; then this machine does it
ENDING_POLL_S = 0.02
RUN_ID_BYTES = 6
PURGE_BATCH = 500  # dead letters read and deleted in one call
LEFTOVERS = (
    "task",
    "delayed",
    "leased",
    "dead",
    "seen:0",
)  # keys that exist only beside the queue's control key
PACKAGE = "scrapeq.supervise"
# A run must be able to resume and to finish when the store's memory is full; a new run adds only a few bytes.
BEGIN = load(PACKAGE, "run_begin", allow_oom=True)
FINISH = load(PACKAGE, "run_finish", allow_oom=True)
UPDATE = load(PACKAGE, "run_update", allow_oom=True)
CAUSES = "a flush, a restart without persistence, or a failover to a replica that had not synced"
REMEDY = "Output files keep what was written. `scrapeq run FILE --full-refresh` fetches everything again"


def lost_text(what: str, lost: str = "") -> str:
    """
    Return the message about data of a queue that the store has lost.

    Args:
        what: What is gone.
        lost: What that means for the run, if it is known.
    """
    return f"the store lost data: {what} ({CAUSES}). {lost + '. ' if lost else ''}{REMEDY}"


async def named_damage(queue: Queue, error: StoreDamaged) -> StoreDamaged:
    """Return the error that names the key, if a key of another type is the cause; else the error itself."""
    try:
        await queue.check_types(families=True)
    except StoreDamaged as named:
        return named
    except Exception:  # the store is away, too
        log.warning("types of keys not checked", exc_info=True)
    return error


@dataclass(frozen=True, slots=True)
class RunRecord:
    """The stored facts about a queue's run; an empty id means that no run has started yet."""

    id: str = ""
    state: str = ""  # "running", "finished", or "discarded" until a full refresh starts the next one
    started_s: float = 0.0  # Unix seconds
    seeded: bool = False
    demo_port: int = 0
    died_before: int = 0  # dead letters of earlier runs
    queue_us: int = (
        0  # when its queue was created (`Counts.created_us`); 0 = by an earlier version of scrapeq
    )
    finished_before: str = ""  # the id of the run before it, if that one was finished
    file: str = ""  # the name of its configuration file, without the folder
    removed: tuple[str, ...] = ()  # resources that the file has lost since the run began


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
        self.has_lost_record = False  # the run is new because the store has lost the record of the one before

    async def read(self) -> RunRecord:
        """Read the record from the store."""
        self.record = await self._stored()
        return self.record

    async def _stored(self) -> RunRecord:
        raw: Mapping[bytes, bytes] = await self._redis.hgetall(self._key)
        fields = {name.decode(): value.decode() for name, value in raw.items()}
        return RunRecord(
            fields.get("id", ""),
            fields.get("state", ""),
            float(fields.get("started_s", 0)),
            fields.get("seeded") == "1",
            int(fields.get("demo_port", 0)),
            int(fields.get("died_before", 0)),
            int(fields.get("queue", 0)),
            fields.get("finished_before", ""),
            fields.get("file", ""),
            tuple(orjson.loads(fields.get("removed", "[]"))),
        )

    async def start_or_resume(self, fields: Mapping[str, str] | None = None) -> bool:
        """
        Resume the unfinished run, or start a new one. Return whether it is new.

        A run whose record the store has lost is replaced by a new one, which fetches everything again.

        Args:
            fields: Further fields for the record of a new run.

        Raises:
            StoreDamaged: the store has lost the queue of the unfinished run, or a part of it.
        """
        deadline_s = time.monotonic() + ENDING_S
        force = ""
        counts = await self._check_queue()
        pairs = [text for pair in (fields or {}).items() for text in pair]
        while True:
            new_id, now_s = secrets.token_hex(RUN_ID_BYTES), repr(time.time())
            reply = await self._run_script(
                BEGIN.text, new_id, now_s, force, counts.died, counts.created_us, *pairs
            )
            if reply != b"ending":
                if (
                    reply == b"first" and counts.done
                ):  # otherwise this run would skip what the lost one has done
                    self.has_lost_record = True
                    await self._queue.purge("seen")
                await self.read()
                return bool(reply != b"resumed")
            if time.monotonic() < deadline_s:
                await asyncio.sleep(ENDING_POLL_S)
            else:  # the machine that finished the last run was killed before it had purged everything
                await self._queue.purge("seen")
                force = "1"

    async def check_owner(self, file: str, *, take_over: bool = False) -> None:
        """
        Refuse a queue that belongs to another configuration file.

        Args:
            file: The path of the file; its name identifies it, since machines may have it in different folders.
            take_over: From now on, the queue belongs to this file.

        Raises:
            UsageError: the queue belongs to a file of another name.
        """
        name, record = Path(file).name, await self.read()
        if take_over and record.id:
            await self._update("set", {"file": name})
        elif record.file and record.file != name:
            raise UsageError(
                f"{file}: the queue {self._queue.name!r} belongs to {record.file}: both files have this name. "
                f"Give {name} a `name` of its own. If it is {record.file} under another file name, "
                "run it once with --take-over"
            )

    async def fingerprint(self) -> str:
        """Return the stored fingerprint of the run's configuration file; empty if there is none."""
        found: bytes | None = await self._redis.hget(self._key, "config")
        return found.decode() if found else ""

    async def report_late_children(self, names: Collection[str]) -> None:
        """Note that these resources were added after a part of their parents had been fetched."""
        reason = (
            "added during the run, after some of its parents had been fetched; --full-refresh fetches all"
        )
        for name in names:
            await cursor_store_of(self._redis, self._queue).add_incomplete(f"added {name}", name, reason)

    async def save_removed(self, names: Collection[str]) -> None:
        """Store the names of resources whose queued tasks are dropped."""
        await self._update("set", {"removed": orjson.dumps(sorted(names))})

    async def _check_queue(self) -> Counts:
        """Return the counts of the queue, which is created if it does not exist. Raises StoreDamaged."""
        record, counts = await self.read(), await self._queue.counts()
        if what := await self._loss(record, counts):
            raise StoreDamaged(lost_text(what))
        if not counts.created_us:
            await self._queue.sweep()
            counts = await self._queue.counts()
        return counts

    async def _loss(self, record: RunRecord, counts: Counts) -> str:
        """Return which part of the queue the store has lost; empty = none."""
        if record.state == "running" and record.queue_us and record.queue_us != counts.created_us:
            return "the queue of the unfinished run is gone"
        is_created = bool(counts.created_us)
        if counts.is_damaged or (not is_created and await self._redis.exists(*map(self._key_of, LEFTOVERS))):
            return "a part of the queue is gone"
        return ""

    def _key_of(self, name: str) -> str:
        return self._prefix + name

    async def check(self, counts: Counts, lost: str = "") -> bool:
        """
        Check that the store still has the run that was started or resumed, and read its record.

        Args:
            counts: The queue's counts, read before this call.
            lost: What the store had of the run before, for the message.

        Returns:
            False if another machine has finished the run and started the next one.

        Raises:
            StoreDamaged: the store has lost the run or its queue, or another command has replaced the run.
        """
        own, found = self.record, await self._stored()
        if found.id and found.id != own.id and found.finished_before == own.id:
            return False
        if found.state == "discarded" or (found.id and found.id != own.id):
            raise StoreDamaged(
                f"another command has replaced this run ({own.id}), for example with --full-refresh. "
                "Run again to take part in the new run"
            )
        if not found.id:
            raise StoreDamaged(lost_text("the record of this run is gone", lost))
        if what := await self._loss(found, counts):
            raise StoreDamaged(lost_text(what, lost))
        self.record = found
        return True

    async def reset(self, resources: Collection[str] | None) -> None:
        """
        Make the next run fetch everything again.

        Forget the stored cursors, the due times and the dead letters of these resources (None: of all), and an
        unfinished run with its tasks. If the store has lost a part of the queue, delete the rest of it.
        """
        await self._queue.check_types(families=True)  # deleting tasks reads every kind of key
        record = await self.read()
        if await self._loss(record, await self._queue.counts()):
            await self._queue.erase()
            return
        await cursor_store_of(self._redis, self._queue).clear(resources)
        await DueTimes(self._redis, self._prefix).clear(resources)
        await self._drop_dead_letters(resources)  # what they requested is requested again
        if record.state == "running":
            await self._update("set", {"state": "discarded"})  # other machines of that run end now
            await self._queue.purge("tasks")
            await self._queue.purge("seen")
            await self._redis.delete(self._stats_key, self._incomplete_key)

    async def _drop_dead_letters(self, resources: Collection[str] | None) -> None:
        """Delete the dead letters of these resources; None = all."""
        if resources is None:
            await self._queue.purge("dead")
            return
        kept = 0
        while ids := await self._queue.ids("dead", PURGE_BATCH, kept):
            found = await self._queue.get(*ids)
            own = [
                task.id for task in found if task is not None and task.payload.get("resource") in resources
            ]
            dropped = sum(await self._queue.drop(*own)) if own else 0
            kept += len(ids) - dropped

    async def save_demo_port(self, port: int) -> None:
        """Store the port of the sample API: the URLs of this run's tasks contain it."""
        await self._update("set", {"demo_port": port})

    async def seed(
        self,
        first_pages: Iterable[NewTask | IncrementalStart],
        queue: Queue | None = None,
        *,
        fingerprint: str = "",
    ) -> None:
        """
        Push the first pages of the run, once; repeating this changes nothing.

        Args:
            first_pages: The first pages.
            queue: The queue to push to, such as one with more patience; None = this run's.
            fingerprint: That of the configuration file, which has changed: push these pages, too, and store it.
        """
        if fingerprint or not self.record.seeded:
            cursor_store = cursor_store_of(self._redis, self._queue)
            await push_first_pages(queue or self._queue, cursor_store, first_pages)
            changed = {"config": fingerprint} if fingerprint else {}
            if not await self._update("set", {"seeded": 1, **changed}):
                raise StoreDamaged(lost_text("the record of this run is gone"))
            await self.read()

    async def scheduled_run(self) -> int:
        """Return the number under which this run fetches scheduled resources; all machines and restarts agree."""
        if await self._redis.hget(self._key, "occurrence") is None:
            number = await DueTimes(self._redis, self._prefix).next_occurrence()
            await self._redis.hsetnx(self._key, "occurrence", number)
        return int(await self._redis.hget(self._key, "occurrence"))

    async def add_stats(self, counts: Mapping[str, float]) -> bool:
        """Add to the run's counts, which sum over all machines and restarts. Return whether the store has this run."""
        return not counts or await self._update("add", counts)

    async def _update(self, what: str, fields: Mapping[str, Any]) -> bool:
        """Change the record (`set`) or the counts (`add`) of this run. Return False if the store does not have it."""
        pairs = [value for pair in fields.items() for value in pair]
        return bool(await self._run_script(UPDATE.text, self.record.id, what, *pairs) == b"1")

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


class RunWatch:
    """
    Notices when the store loses a queue while a command other than `run` uses it.

    Args:
        state: The state of the queue's run.
        queue: The queue.
    """

    def __init__(self, state: RunState, queue: Queue) -> None:
        self._state = state
        self._queue = queue
        self._queue_us = 0
        self._has_run = False

    async def check(self) -> None:
        """
        Compare the store with what it was at the last call.

        Raises:
            StoreDamaged: the queue or the record of its run is gone.
        """
        counts, record = await self._queue.counts(), await self._state.read()
        if self._queue_us and counts.created_us != self._queue_us:
            raise StoreDamaged(lost_text(f"the queue {self._queue.name} is gone"))
        if self._has_run and not record.id:
            raise StoreDamaged(lost_text("the record of the run is gone"))
        if record.state == "running" and record.queue_us not in (0, counts.created_us):
            raise StoreDamaged(lost_text("the queue of the unfinished run is gone"))
        self._queue_us, self._has_run = counts.created_us, bool(record.id)
