"""The asyncio verbs that administer a queue: limits, pauses, inspection, editing, purging."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any, Literal, TypeVar

from scrapeq.errors import StoreDamaged
from scrapeq.limit import Change, Limit, LimitState
from scrapeq.queue import commands as c
from scrapeq.queue import settings
from scrapeq.queue.keys import FAMILY_TYPES, KEY_TYPES, STATE_KEYS, mistyped_text
from scrapeq.task import DEFAULT_GROUP, Group, Order, State, Task

T = TypeVar("T")

PURGE_BATCH = 500  # tasks that one call deletes
READY_BATCH, GROUPS_BATCH = 10_000, 500  # tasks and groups that one call reads
INSTANCES_MAX = 256  # limit instances that `limit_states` returns if none are named
SCAN_COUNT = 1000  # keys that one call looks at
LANES_MAX, PARKED_GROUPS_MAX = 64, 256  # where `ids("ready")` looks for the best tasks


class AsyncAdmin:
    """The administrative verbs of a queue; a subclass provides the connection and `_run`."""

    _redis: Any
    _prefix: str

    async def _run(self, command: c.Command[T]) -> T:
        """Send one command and parse its reply."""
        raise NotImplementedError

    # --- limits and pauses

    async def define(self, limits: Mapping[str, Limit], *, force: bool = False) -> None:
        """
        Define limits by name. Instances are named `name` or `name|partition`.

            await queue.define({"api": Limit((Rate(30, 60.0),), max_concurrency=4)})

        Args:
            limits: The definitions.
            force: Replace a definition even if its version is higher than the new one's.

        Raises:
            UsageError: a name contains `|` or `*`, or begins with `@`.
            StoreError: the store is unreachable or refuses.
        """
        await self._run(c.define(limits, force=force))

    async def definitions(self) -> dict[str, Limit]:
        """Return the definitions in force, by limit name. Raises StoreError."""
        return await self._run(c.definitions())

    async def set_order(self, order: Order | None) -> Order:
        """
        Set the order of the queue for everyone who uses it, and return the order now in force.

        Args:
            order: `strict`: by priority over all open groups. `fair`: round-robin over groups, by priority within
                each. None: change nothing.

        Raises:
            UsageError: an unknown order; or more than 1,000 groups are known and some have tasks, which is too many to
                change in one call.
            StoreError: the store is unreachable or refuses.
        """
        return await self._run(settings.set_order(order))

    async def define_pools(self, pools: Mapping[str, Sequence[str]]) -> None:
        """
        Define pools of credentials; the instance `core|*keys` is granted by the first of `keys` that has room.

        The lease names the credential. The pool tries the credential that it used last first.

            await queue.define_pools({"keys": ["9f1c", "a02b"]})

        Args:
            pools: 1 to 64 credentials by pool name. Names are stored and displayed, so pass digests.

        Raises:
            UsageError: a pool is empty or too large, or a name is repeated or contains other characters than letters,
                digits, `_` and `-`.
            StoreError: the store is unreachable or refuses.
        """
        await self._run(settings.define_pools(pools))

    async def retire_credential(self, pool: str, credential: str) -> list[str]:
        """
        Remove a credential from its pool until the pool is redefined, and return those that remain.

        The last credential of a pool is never removed. Raises StoreError.
        """
        return await self._run(settings.retire_credential(pool, credential))

    async def park(self, limits: Sequence[str] = (), *, group: str | None = None, for_s: float) -> None:
        """
        Close limits or a group for at least `for_s` seconds; a longer park stays. One probe reopens them.

            await queue.park(["api|example.org"], for_s=120)

        Args:
            limits: Limit instances.
            group: A group's name.
            for_s: Seconds.

        Raises:
            StoreError: the store is unreachable or refuses.
        """
        await self._run(c.steer("park", round(for_s * c.US), *await self._instances(limits, group)))

    async def unpark(self, limits: Sequence[str] = (), *, group: str | None = None) -> None:
        """Open parked limits or a group at once, whatever a server reported. Raises StoreError."""
        await self._run(c.steer("unpark", *await self._instances(limits, group)))

    async def pause(self, limits: Sequence[str] = (), *, group: str | None = None) -> None:
        """Pause limits, a group or, without arguments, the whole queue, until `resume`. Raises StoreError."""
        if not limits and group is None:
            await self._run(c.steer("pause_queue"))
        else:
            await self._run(c.steer("pause", *await self._instances(limits, group)))

    async def resume(self, limits: Sequence[str] = (), *, group: str | None = None) -> None:
        """Resume what `pause` stopped; a park stays. Raises StoreError."""
        if not limits and group is None:
            await self._run(c.steer("resume_queue"))
        else:
            await self._run(c.steer("resume", *await self._instances(limits, group)))

    async def _instances(self, limits: Sequence[str], group: str | None) -> list[str]:
        """Return the limit instances to act on: those named, and the private one of the group."""
        return [*limits] if group is None else [*limits, await self._run(c.private_limit(group))]

    async def limit_states(self, instances: Sequence[str] | None = None) -> list[LimitState]:
        """
        Return the state of limit instances.

        Args:
            instances: Their names; None = all that have a state, at most 256.

        Raises:
            StoreError: the store is unreachable or refuses.
        """
        if instances is None:
            _, found = await self._redis.hscan(self._prefix + "l", 0, count=INSTANCES_MAX)
            instances = sorted(name.decode() for name in found)[:INSTANCES_MAX]
        return await self._run(c.limit_states(instances)) if instances else []

    async def limit_history(self, instance: str) -> list[Change]:
        """Return what the queue learned about a limit instance: its last 64 changes, newest first."""
        return await self._run(settings.limit_history(instance))

    async def limit_instances(self) -> list[str]:
        """Return the names of all limit instances that have a state, sorted. O(their number)."""
        return sorted(
            {name.decode() async for name, _ in self._redis.hscan_iter(self._prefix + "l", count=500)}
        )

    async def forget_limits(self, instances: Sequence[str]) -> None:
        """Reset the state of limit instances; requests in flight still count. Raises StoreError."""
        await self._run(c.steer("forget", *instances))

    # --- inspection and editing

    async def ready_by_group(self) -> AsyncIterator[tuple[Group, list[tuple[str, float]]]]:
        """Yield every known group with its ready tasks as (id, priority), best first. O(tasks), read in batches."""
        groups = {DEFAULT_GROUP.name: DEFAULT_GROUP}
        async for name, spec in self._redis.hscan_iter(self._prefix + "g", count=GROUPS_BATCH):
            lane, _, private = spec.partition(b"\0")
            limits = await self._redis.hget(self._prefix + "lane", lane) if lane else None
            shared = tuple(limit.decode() for limit in (limits or b"").split(b"\0") if limit)
            groups[name.decode()] = Group(name.decode(), shared, private.decode())
        for name, group in groups.items():
            ready: list[tuple[str, float]] = []
            while True:
                end = len(ready) + READY_BATCH - 1
                found = await self._redis.zrange(self._prefix + "r:" + name, len(ready), end, withscores=True)
                ready += [(id_.decode(), -score) for id_, score in found]
                if len(found) < READY_BATCH:
                    break
            yield group, ready

    async def get(self, *ids: str) -> list[Task | None]:
        """
        Return tasks by id, in any state; None for an id that does not exist.

            (task,) = await queue.get("17")
        """
        return await self._run(c.get(ids))

    async def counts(self) -> c.Counts:
        """Return how many tasks are in each state, and totals since the queue was created."""
        return await self._run(c.counts())

    async def ids(self, state: State, n: int = 10, offset: int = 0) -> list[str]:
        """
        Return n task ids of a state.

        Args:
            state: `ready` (by priority), `delayed` (by due time), `leased` (by expiry) or `dead` (by age).
            n: How many at most.
            offset: How many to skip.
        """
        if state == "ready":
            return (await self._ready_ids(n + offset))[offset:]
        found = await self._redis.zrange(self._prefix + state, offset, offset + n - 1)
        return [id_.decode() for id_ in found]

    async def _ready_ids(self, n: int) -> list[str]:
        best: list[tuple[float, str]] = []
        lanes = await self._redis.zrange(self._prefix + "lanes", 0, LANES_MAX - 1)
        parked = await self._redis.zrange(self._prefix + "lp", 0, LANES_MAX - 1)
        groups: list[str] = []
        for lane in [entry[12:] for entry in lanes] + parked:
            heads = await self._redis.zrange(self._prefix + "heads:" + lane.decode(), 0, n - 1)
            groups += [head[12:].decode() for head in heads]
        parked_groups = await self._redis.zrange(self._prefix + "gp", 0, PARKED_GROUPS_MAX - 1)
        groups += [group.decode() for group in parked_groups]
        for group in groups:
            ready = await self._redis.zrange(self._prefix + "r:" + group, 0, n - 1, withscores=True)
            best += [(score, id_.decode()) for id_, score in ready]
        return [id_ for _, id_ in sorted(best)[:n]]

    async def peek(self, n: int = 10, state: State = "ready") -> list[Task]:
        """
        Return the next n tasks of a state, best first, without leasing them. Closed groups are included.

            for task in await queue.peek(5):
                print(task.id, task.priority, task.payload)
        """
        ids = await self.ids(state, n)
        return [task for task in await self.get(*ids) if task is not None] if ids else []

    async def cancel(self, *ids: str) -> list[bool]:
        """Remove tasks in any state, and void their leases. Return for each id whether the task existed."""
        return await self._run(c.edit("cancel", ids))

    async def prioritize(self, priority: float, *ids: str) -> list[bool]:
        """
        Change the priority of tasks in any state; for a leased task it applies when the task comes back.

        Returns:
            For each id whether the task existed.

        Raises:
            UsageError: the priority is NaN or infinite.
        """
        return await self._run(c.edit("prioritize", ids, float(priority)))

    async def redrive(self, *ids: str) -> list[bool]:
        """
        Make dead letters ready again, with their attempts and expiries reset to 0.

        Returns:
            For each id whether it was a dead letter.
        """
        return await self._run(c.edit("redrive", ids))

    async def drop(self, *ids: str) -> list[bool]:
        """Delete dead letters. Return for each id whether it was one."""
        return await self._run(c.edit("drop", ids))

    async def purge(self, what: Literal["tasks", "dead", "seen", "limits", "state"]) -> int:
        """
        Delete part of the queue, and return how many entries were deleted.

        Args:
            what: `tasks`: all that are ready, delayed or leased. `dead`: all dead letters. `seen`: the keys
                remembered for deduplication. `limits`: the state of all limits. `state`: the run, its statistics,
                its cursors and its schedules.
        """
        if what == "state":
            return int(await self._redis.delete(*(self._prefix + key for key in STATE_KEYS)))
        deleted = 0
        if what in ("seen", "limits"):
            more = True
            while more:
                count, more = await self._run(c.purge(what))
                deleted += count
            return deleted
        states: tuple[State, ...] = ("dead",) if what == "dead" else ("ready", "delayed", "leased")
        for state in states:
            while ids := await self.ids(state, PURGE_BATCH):
                done = await self._run(c.edit("drop" if what == "dead" else "cancel", ids))
                deleted += sum(done)
                if not any(done):
                    break
        return deleted

    async def sweep(self) -> float | None:
        """
        Make due tasks ready and expire leases, without popping.

        Every `pop` does this for itself; a queue that nobody pops needs it to keep its counts true.

        Returns:
            Seconds until the next delay or lease ends; None if none will.
        """
        more, wait_s = True, None
        while more:
            more, wait_s = await self._run(c.sweep())
        return wait_s

    async def end_leases(self) -> None:
        """
        Expire every lease now, because all workers are known to be gone.

        Each counts as an expiry, so a task that kills its worker is still detected.
        """
        more = True
        while more:
            more, _ = await self._run(c.sweep(orphaned=True))

    async def check_types(self, *, families: bool = False) -> None:
        """
        Check that the queue's keys have the types that the queue gave them.

        Args:
            families: Also check the keys that exist once for each group and limit. This scans the whole database.

        Raises:
            StoreDamaged: something else has written to one of them; the message names it.
        """
        pipe = self._redis.pipeline(transaction=False)
        for name in KEY_TYPES:
            pipe.type(self._prefix + name)
        for (name, expected), found in zip(KEY_TYPES.items(), await pipe.execute(), strict=True):
            if found.decode() not in (expected, "none"):
                raise StoreDamaged(mistyped_text(self._prefix + name, found.decode(), expected))
        if not families:
            return
        async for key in self._own_keys():
            expected = FAMILY_TYPES.get(key.decode().removeprefix(self._prefix).partition(":")[0], "")
            found = await self._redis.type(key) if expected else b"none"
            if found.decode() not in (expected, "none"):
                raise StoreDamaged(mistyped_text(key.decode(), found.decode(), expected))

    async def erase(self) -> None:
        """Delete every key of the queue: its tasks, its limits and what it stores of runs. Scans the whole database."""
        async for key in self._own_keys():
            await self._redis.unlink(key)

    def _own_keys(self) -> AsyncIterator[bytes]:
        escaped = "".join(f"\\{letter}" if letter in "*?[]\\" else letter for letter in self._prefix)
        found: AsyncIterator[bytes] = self._redis.scan_iter(match=escaped + "*", count=SCAN_COUNT)
        return found
