"""What a person or a plan does to a queue beside pushing and popping: limits, pauses, looking, editing."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any, Literal, TypeVar

from scrapeq.errors import ScrapeqError
from scrapeq.limit import Change, Limit, LimitState
from scrapeq.queue import commands as c
from scrapeq.queue import settings
from scrapeq.queue.wait import Watch
from scrapeq.task import DEFAULT_GROUP, Group, Order, State, Task

T = TypeVar("T")

STATE_KEYS = ("run", "stats", "state", "schedule")  # the run; what its walks keep; when its schedules are due
PURGE_PIECE = 500  # tasks deleted in one call
LEAVE_S = 0.5
READY_PIECE, GROUPS_PIECE = 10_000, 500  # read in one call


class Steering:
    """The half of `Queue` that steers; it needs only `run`."""

    _redis: Any
    _prefix: str
    _watch: Watch
    _leaving: set[asyncio.Future[None]]

    async def run(self, command: c.Command[T]) -> T:
        """Send one command and read its reply."""
        raise NotImplementedError

    # --- limits and pauses

    async def define(self, limits: Mapping[str, Limit], *, force: bool = False) -> None:
        """
        Make limits known by name; instances are `name` or `name|partition`.

        Of two definitions the higher version stands, unless `force` says that this one does.
        """
        await self.run(c.define(limits, force=force))

    async def definitions(self) -> dict[str, Limit]:
        """The definitions that stand, by limit name."""
        return await self.run(c.definitions())

    async def set_order(self, order: Order | None) -> Order:
        """
        `strict`: priority over all open groups; `fair`: the group served longest ago, priority inside. None only asks.

        It holds for all who use the queue. Raises UsageError when too many groups wait for it to be changed.
        """
        return await self.run(settings.set_order(order))

    async def define_pools(self, pools: Mapping[str, Sequence[str]]) -> None:
        """
        The members of pools, at most 64 each: `core|*keys` is granted by the first member of `keys` that has room.

        The lease says which. Members are asked from the one used last on. Raises UsageError.
        """
        await self.run(settings.define_pools(pools))

    async def retire_credential(self, pool: str, credential: str) -> list[str]:
        """A member is used no more until its pool is defined anew; the last one stays. Who is left."""
        return await self.run(settings.retire_credential(pool, credential))

    async def park(self, limits: Sequence[str] = (), *, group: str | None = None, for_s: float) -> None:
        """Close limits (or a group) for at least `for_s` seconds; a longer park stays. A probe reopens."""
        await self.run(c.steer("park", round(for_s * c.US), *await self._instances(limits, group)))

    async def unpark(self, limits: Sequence[str] = (), *, group: str | None = None) -> None:
        """A person's word: open at once, whatever was told."""
        await self.run(c.steer("unpark", *await self._instances(limits, group)))

    async def pause(self, limits: Sequence[str] = (), *, group: str | None = None) -> None:
        """Pause the whole queue, or limits, or a group, until resumed."""
        if not limits and group is None:
            await self.run(c.steer("pause_queue"))
        else:
            await self.run(c.steer("pause", *await self._instances(limits, group)))

    async def resume(self, limits: Sequence[str] = (), *, group: str | None = None) -> None:
        """Resume what was paused; a told wait stays."""
        if not limits and group is None:
            await self.run(c.steer("resume_queue"))
        else:
            await self.run(c.steer("resume", *await self._instances(limits, group)))

    def _leave(self) -> None:
        """Somebody else may have to watch the next event."""

        async def leave() -> None:
            with contextlib.suppress(ScrapeqError):
                await self.run(c.steer("unwatch"))

        task = asyncio.ensure_future(leave())
        self._leaving.add(task)
        task.add_done_callback(self._leaving.discard)

    async def arrive(self) -> None:
        """Someone new waits here: who watched the next event until now may be gone. Raises StoreError."""
        await self.run(c.steer("unwatch"))

    async def leave(self) -> None:
        """Nobody waits here any more, until the next `poll`. Waits half a second at most for the store to hear it."""
        self._watch.until_us = 0
        self._leave()  # always: a marker may have been taken in vain just before
        if self._leaving:
            await asyncio.wait(self._leaving, timeout=LEAVE_S)

    async def _instances(self, limits: Sequence[str], group: str | None) -> list[str]:
        return [*limits] if group is None else [*limits, await self.run(c.private_limit(group))]

    async def limit_states(self, instances: Sequence[str] | None = None) -> list[LimitState]:
        """What is known of these limit instances (None: of all that have a state, at most 256)."""
        if instances is None:
            _, found = await self._redis.hscan(self._prefix + "l", 0, count=256)
            instances = sorted(name.decode() for name in found)[:256]
        return await self.run(c.limit_states(instances)) if instances else []

    async def limit_history(self, instance: str) -> list[Change]:
        """What was learned of a limit instance, newest first: its last 64 changes."""
        return await self.run(settings.limit_history(instance))

    async def limit_instances(self) -> list[str]:
        """The names of all limit instances that have a state, sorted; O(their number)."""
        return sorted(
            {name.decode() async for name, _ in self._redis.hscan_iter(self._prefix + "l", count=500)}
        )

    async def forget_limits(self, instances: Sequence[str]) -> None:
        """Forget the state of limit instances; what is in flight still counts."""
        await self.run(c.steer("forget", *instances))

    # --- looking and editing

    async def ready_by_group(self) -> AsyncIterator[tuple[Group, list[tuple[str, float]]]]:
        """Every group that is known, with its ready tasks as (id, priority), best first; O(tasks), in pieces."""
        lanes = {DEFAULT_GROUP.name: DEFAULT_GROUP}
        async for name, spec in self._redis.hscan_iter(self._prefix + "g", count=GROUPS_PIECE):
            lane, _, private = spec.partition(b"\0")
            limits = await self._redis.hget(self._prefix + "lane", lane) if lane else None
            shared = tuple(limit.decode() for limit in (limits or b"").split(b"\0") if limit)
            lanes[name.decode()] = Group(name.decode(), shared, private.decode())
        for name, group in lanes.items():
            ready: list[tuple[str, float]] = []
            while True:
                end = len(ready) + READY_PIECE - 1
                found = await self._redis.zrange(self._prefix + "r:" + name, len(ready), end, withscores=True)
                ready += [(id_.decode(), -score) for id_, score in found]
                if len(found) < READY_PIECE:
                    break
            yield group, ready

    async def get(self, *ids: str) -> list[Task | None]:
        """Tasks by id, in any state; None where there is none."""
        return await self.run(c.get(ids))

    async def counts(self) -> c.Counts:
        """How many tasks are where, and what happened."""
        return await self.run(c.counts())

    async def ids(self, state: State, n: int = 10, offset: int = 0) -> list[str]:
        """The first n ids of a state: ready by priority, delayed by due time, leased by expiry, dead by age."""
        if state == "ready":
            return await self._ready_ids(n + offset)
        found = await self._redis.zrange(self._prefix + state, offset, offset + n - 1)
        return [id_.decode() for id_ in found]

    async def _ready_ids(self, n: int) -> list[str]:
        best: list[tuple[float, str]] = []
        lanes = await self._redis.zrange(self._prefix + "lanes", 0, 63)
        parked = await self._redis.zrange(self._prefix + "lp", 0, 63)
        groups: list[str] = []
        for lane in [entry[12:] for entry in lanes] + parked:
            heads = await self._redis.zrange(self._prefix + "heads:" + lane.decode(), 0, n - 1)
            groups += [head[12:].decode() for head in heads]
        groups += [group.decode() for group in await self._redis.zrange(self._prefix + "gp", 0, 255)]
        for group in groups:
            ready = await self._redis.zrange(self._prefix + "r:" + group, 0, n - 1, withscores=True)
            best += [(score, id_.decode()) for id_, score in ready]
        return [id_ for _, id_ in sorted(best)[:n]]

    async def peek(self, n: int = 10, state: State = "ready") -> list[Task]:
        """The next n tasks of a state, best first, taking none of them; groups that are closed are seen too."""
        ids = await self.ids(state, n)
        return [task for task in await self.get(*ids) if task is not None] if ids else []

    async def cancel(self, *ids: str) -> list[bool]:
        """Take tasks out of the queue in any state; a lease on one is void. Which were there."""
        return await self.run(c.edit("cancel", ids))

    async def prioritize(self, priority: float, *ids: str) -> list[bool]:
        """Change the priority in any state (leased: when it comes back). Raises UsageError for NaN or infinity."""
        return await self.run(c.edit("prioritize", ids, float(priority)))

    async def redrive(self, *ids: str) -> list[bool]:
        """Dead letters become ready again, attempts and expiries from 0. Which were dead."""
        return await self.run(c.edit("redrive", ids))

    async def drop(self, *ids: str) -> list[bool]:
        """Delete dead letters. Which were dead."""
        return await self.run(c.edit("drop", ids))

    async def purge(self, what: Literal["tasks", "dead", "seen", "limits", "state"]) -> int:
        """Delete all tasks that live, all dead letters, what was seen, what limits know, or the run; how many."""
        if what == "state":
            return int(await self._redis.delete(*(self._prefix + key for key in STATE_KEYS)))
        gone = 0
        if what in ("seen", "limits"):
            more = True
            while more:
                count, more = await self.run(c.purge(what))
                gone += count
            return gone
        states: tuple[State, ...] = ("dead",) if what == "dead" else ("ready", "delayed", "leased")
        for state in states:
            while ids := await self.ids(state, PURGE_PIECE):
                done = await self.run(c.edit("drop" if what == "dead" else "cancel", ids))
                gone += sum(done)
                if not any(done):
                    break
        return gone

    async def sweep(self) -> tuple[bool, float | None]:
        """Do what time brings to a queue that nobody pops: (more is due now, seconds to the next event)."""
        return await self.run(c.sweep())

    async def end_leases(self) -> None:
        """
        End every lease now: whoever held one is known to be gone.

        Each counts as one that ran out, so that a task that kills its worker is found out all the same.
        """
        while (await self.run(c.sweep(orphaned=True)))[0]:
            pass
