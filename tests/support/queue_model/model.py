"""
The reference model: the queue in memory, in the simplest possible code.

It has the verbs of `scrapeq.queue.commands` with the same arguments and results, and none of the scripts' indexes: a
pop sorts everything that is ready and checks every limit of every task. `Popped.wait_s` is not modelled (None).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import orjson

from queue_model import records
from queue_model.limit_book import LimitBook
from queue_model.order import Turns
from queue_model.pools import Choice, Pools, with_credential
from queue_model.records import LeaseRecord, TaskRecord
from scrapeq.limit import Limit, LimitState
from scrapeq.limits.charges import ChargedResponse, settle, spend
from scrapeq.limits.engine import How
from scrapeq.queue import commands as c
from scrapeq.queue.block import lane_and_private
from scrapeq.task import Dedup, Group, Lease, NewTask, Order, Task

US = 1_000_000


@dataclass
class Model(LimitBook):
    """A queue; the test sets the server's clock, `server_us`."""

    server_us: int = 0
    offset: int = 0
    last: int = 0
    sequence: int = 0
    nonce: int = 0
    paused: bool = False
    pools: Pools = field(default_factory=Pools)
    turns: Turns = field(default_factory=Turns)
    tasks: dict[str, TaskRecord] = field(default_factory=dict)
    leases: dict[str, LeaseRecord] = field(default_factory=dict)
    seen: dict[str, str] = field(default_factory=dict)  # key -> task id, "" once it is done
    done_in: dict[str, int] = field(default_factory=dict)  # key -> the scheduled run in which it was done
    page_sequences: dict[str, str] = field(default_factory=dict)  # page sequence -> id of its current page
    groups: dict[str, Group] = field(default_factory=dict)
    counted: dict[str, int] = field(default_factory=lambda: dict.fromkeys(records.COUNTED, 0))

    def _tick(self) -> int:
        """Advance the queue's clock, which follows the server's but never steps back."""
        now = self.server_us + self.offset
        if now < self.last:
            self.offset += self.last - now
            now = self.last
        self.last = now
        return now

    @property
    def now(self) -> int:
        """The queue's clock, without advancing it."""
        return max(self.last, self.server_us + self.offset)

    # ---- push

    def push(
        self, tasks: Sequence[NewTask], *, max_tasks: int = 0, dedup: Dedup = "only_new"
    ) -> list[c.Pushed] | None:
        """Push tasks; None: the queue is full and nothing was pushed."""
        now = self._tick()
        if max_tasks and sum(t.state != "dead" for t in self.tasks.values()) + len(tasks) > max_tasks:
            return None
        self._register(task.group for task in tasks)
        return [self._push(task, dedup, now) for task in tasks]

    def _register(self, groups: Iterable[Group]) -> None:
        """Store the limits of groups; of several definitions in one call the last distinct one counts."""
        for group in dict.fromkeys(groups):
            old = self.groups.get(group.name)
            limits, private = lane_and_private(group)
            own = old.private if old and old.private.startswith("@") and not private else private
            self.groups[group.name] = Group(group.name, tuple(sorted(limits)), own, group.weights)

    def _push(self, new: NewTask, dedup: Dedup, now: int) -> c.Pushed:
        known = new.key and new.key in self.seen
        twin = self.tasks.get(self.seen[new.key]) if known else None
        reruns = new.key and new.scheduled_run and (twin is None or twin.state == "dead")
        is_paging = reruns and self._is_paging(new.page_sequence)
        if reruns and known and not is_paging:
            before = self.done_in.get(new.key, 0) if twin is None else twin.scheduled_run
            if before < new.scheduled_run:
                known = False
                if twin is not None:
                    self._forget(twin, done=False)
        if known or is_paging:
            self.counted["duplicates"] += 1
            if twin is None:
                return c.Pushed("duplicate")
            if twin.state == "dead":
                return c.Pushed("dead")
            if dedup == "raise_priority" and not new.scheduled_run and new.priority > twin.priority:
                twin.priority = float(new.priority)
                return c.Pushed("raised")
            return c.Pushed("duplicate")
        self.sequence += 1
        id_ = f"{self.sequence:012d}"
        payload = orjson.loads(orjson.dumps(new.payload))
        task = TaskRecord(id_, payload, float(new.priority), new.group.name, new.key)
        if new.key:
            self.seen[new.key] = id_
            if new.scheduled_run:
                task.scheduled_run, task.page_sequence = new.scheduled_run, new.page_sequence
                self.page_sequences[new.page_sequence] = id_
        self.tasks[id_] = task
        self._back(task, now + round(new.delay_s * US), now)
        self.counted["pushed"] += 1
        return c.Pushed("pushed", id_)

    def _is_paging(self, page_sequence: str) -> bool:
        at = self.tasks.get(self.page_sequences.get(page_sequence, "")) if page_sequence else None
        return at is not None and at.state != "dead"

    def _back(self, task: TaskRecord, due: int, now: int) -> None:
        task.state, task.due = ("delayed", due) if due > now else ("ready", 0)
        self.turns.enter(task)

    def set_order(self, order: Order) -> None:
        """Switch between priority over all groups and round-robin over groups."""
        self._tick()
        self.turns.change(order, self.tasks.values())

    # ---- time

    def events(self, now: int) -> None:
        """Expire leases and make delayed tasks ready."""
        for lease in sorted(self.leases.values(), key=lambda lease: (lease.ends, lease.id)):
            if lease.ends <= now:
                self._expire(lease, now)
        for task in self.tasks.values():
            if task.state == "delayed" and task.due <= now:
                self._back(task, now, now)

    def _expire(self, lease: LeaseRecord, now: int) -> None:
        self._give_back(lease, ChargedResponse("expired", lease.ends), now)
        del self.leases[lease.id]
        task = lease.task
        if task is None:
            return
        if lease.quiet:
            task.releases += 1
            self.counted["released"] += 1
            self._back(task, now, now)
            return
        task.expiries += 1
        self.counted["expired"] += 1
        if task.expiries >= records.POISON:
            self._bury(task, records.CRASHED)
            return
        task.suspect = True
        self._back(task, now + (now + int(task.id) * records.JITTER_FACTOR) % records.EXPIRY_JITTER_US, now)

    def sweep(self) -> None:
        """Process the events that are due, without a pop; an empty queue forgets its groups."""
        self.events(self._tick())
        if not self.tasks and not self.leases:
            self.groups.clear()
            self.pools.last_used.clear()

    # ---- pop

    def pop(self, n: int, *, lease_s: float, suspects: int = 0) -> c.Popped:
        """Lease the best n tasks whose limits all grant now."""
        now = self._tick()
        self.events(now)
        taken: list[Task] = []
        for task in () if self.paused else self.turns.best_first(self.tasks.values()):
            if len(taken) >= n:
                break
            choice = self._choose(task.group, now, task.priority)
            if choice is None:
                continue
            if task.suspect and suspects:
                self._back(task, now + records.SUSPECT_DELAY_US, now)
                continue
            suspects += task.suspect
            lease = self._lease(task.id, task.group, choice, now, now + round(lease_s * US))
            lease.task = task
            task.state = "leased"
            self.turns.serve(task.group)
            taken.append(self._show(task, Lease(task.id, lease.token, now, choice.credential), now))
            self.counted["granted"] += 1
        self.turns.forget(self.tasks.values())
        live = sum(task.state != "dead" for task in self.tasks.values())
        return c.Popped(taken, None, live)

    def _choose(
        self, group: str, now: int, priority: float, weight: float = 1, credential: str = ""
    ) -> Choice | None:
        """Return the first choice whose limits all grant."""
        for choice in self.pools.choices(self.groups.get(group, Group()), credential):
            if all(
                self.limit(name).grants(now, weight * own, priority) for name, own in choice.limits.items()
            ):
                return choice
        return None

    def grantable(self, now: int) -> bool:
        """Return whether a pop would lease a task now."""
        return not self.paused and any(
            task.state == "ready" and self._choose(task.group, now, task.priority)
            for task in self.tasks.values()
        )

    def _lease(
        self, id_: str, group: str, choice: Choice, now: int, ends: int, weight: float = 1
    ) -> LeaseRecord:
        self.nonce += 1
        self.pools.took(self.groups.get(group, Group()), choice)
        charged = {name: weight * own for name, own in choice.limits.items()}
        token = f"{now}.{self.nonce}"
        lease = LeaseRecord(id_ + token, now, charged, weight, id=id_, token=token, ends=ends)
        spend(self.limit, lease)
        self.leases[id_] = lease
        return lease

    def acquire(self, group: Group, *, weight: float, lease_s: float, credential: str = "") -> Lease | None:
        """Acquire a grant without a task; None if a limit is closed."""
        now = self._tick()
        self.events(now)
        self._register([group])
        choice = None if self.paused else self._choose(group.name, now, math.inf, weight, credential)
        if choice is None:
            return None
        self.sequence += 1
        ends = now + round(lease_s * US)
        lease = self._lease(f"{self.sequence:012d}", group.name, choice, now, ends, weight)
        return Lease(lease.id, lease.token, now, choice.credential)

    # ---- settle

    def settle(self, entries: Sequence[c.Entry], dedup: Dedup = "only_new") -> list[c.Settled]:
        """Settle leases in order, then push the follow-up tasks."""
        now = self._tick()
        settled = [c.Settled(self._settle(entry, now)) for entry in entries]
        for entry, result in zip(entries, settled, strict=True):
            if result.outcome == "lost":
                result.pushed.extend(c.Pushed("orphaned") for _ in entry.push)
        follow = [(result, entry.push) for entry, result in zip(entries, settled, strict=True)]
        live = [(result, task) for result, push in follow if result.outcome != "lost" for task in push]
        used = {task.group for _, task in live}
        self._register(group for entry in entries for task in entry.push if (group := task.group) in used)
        for result, task in live:
            result.pushed.append(self._push(task, dedup, now))
        return settled

    def _settle(self, entry: c.Entry, now: int) -> Literal["done", "lost", "dead"]:
        lease = self.leases.get(entry.lease.id)
        if lease is None or lease.token != entry.lease.token:
            return "lost"
        if entry.verb in (c.EXTEND, c.VISIBILITY):
            if lease.void:
                return "lost"
            lease.ends, lease.quiet = now + round(entry.delay_s * US), entry.verb == c.VISIBILITY
            return "done"
        self._observe(lease, with_credential(entry), now)
        if entry.verb == c.OBSERVE:
            return "lost" if lease.void else "done"
        del self.leases[lease.id]
        task = lease.task
        if task is None:
            return "lost" if lease.void else "done"
        if entry.verb == c.ACK:
            self._forget(task, done=True)
            self.counted["done"] += 1
            return "done"
        if entry.verb == c.BURY:
            self._bury(task, entry.error)
            return "done"
        task.error = entry.error or task.error
        if entry.verb == c.RETRY:
            task.attempts += 1
            self.counted["retried"] += 1
            if task.attempts >= entry.max_attempts:
                self._bury(task, task.error)
                return "dead"
        else:
            task.releases += 1
            self.counted["released"] += 1
        self._back(task, now + round(entry.delay_s * US), now)
        return "done"

    def _observe(self, lease: LeaseRecord, entry: c.Entry, now: int) -> None:
        hows: tuple[How, ...] = ("unsent", "responded", "expired")
        how = "responded" if entry.verb == c.OBSERVE else hows[entry.sent]
        at = max(now - round(entry.age_s * US), lease.granted)
        if not lease.settled and how == "responded":
            self.counted["answered"] += 1
        response = ChargedResponse(
            how, at, entry.reported, entry.refused, entry.guessed, entry.rates, entry.costs
        )
        self._give_back(lease, response, now)
        if entry.refused:
            self.counted["refused"] += 1

    def _give_back(self, lease: LeaseRecord, response: ChargedResponse, now: int) -> None:
        settle(self.limit, lease, response, now)

    def _bury(self, task: TaskRecord, error: str) -> None:
        task.state, task.due, task.error, task.suspect = "dead", 0, error, False
        self.counted["died"] += 1

    def _forget(self, task: TaskRecord, *, done: bool) -> None:
        del self.tasks[task.id]
        if task.key and done:
            self.seen[task.key], self.done_in[task.key] = "", task.scheduled_run
        else:
            self.seen.pop(task.key, None)
        if self.page_sequences.get(task.page_sequence) == task.id:
            del self.page_sequences[task.page_sequence]

    # ---- administration

    def define(self, limits: dict[str, Limit], *, force: bool = False) -> None:
        """Define limits; of two definitions the one with the higher version counts, else the later or a forced one."""
        self.learn_definitions(limits, self._tick(), force=force)

    def steer(self, verb: str, *args: Any) -> None:
        """Change limits or the queue like `commands.steer`; `park` takes the time in microseconds first."""
        now = self._tick()
        names = args[1:] if verb == "park" else args
        if verb in ("pause_queue", "resume_queue"):
            self.paused = verb == "pause_queue"
            return
        every = [one for name in names for one in self.pools.instances(name)]
        self.steer_limits(verb, every, now + args[0] if verb == "park" else 0)

    def private_limit(self, group: str) -> str:
        """Return the limit that only this group has; create it if it does not exist."""
        self._tick()
        spec = self.groups.get(group, Group())
        if not spec.private:
            self.groups[group] = Group(group, spec.limits, "@" + group, spec.weights)
        return self.groups[group].private

    def edit(self, verb: str, ids: Sequence[str], value: float = 0) -> list[bool]:
        """Edit tasks: cancel, prioritize, redrive, drop."""
        now = self._tick()
        changed = []
        for id_ in ids:
            changed.append(self._edit(verb, id_, value, now))
            self.turns.forget(self.tasks.values())
        return changed

    def _edit(self, verb: str, id_: str, value: float, now: int) -> bool:
        task = self.tasks.get(id_)
        if task is None or (verb in ("redrive", "drop") and task.state != "dead"):
            return False
        if verb == "prioritize":
            task.priority = float(value)
        elif verb == "redrive":
            task.attempts = task.expiries = 0
            self._back(task, now, now)
        else:
            if lease := self.leases.get(id_):
                # A request may be in flight: its response still counts for the limits, but its lease is void.
                lease.task, lease.void = None, True
            self._forget(task, done=False)
            self.counted["cancelled"] += verb == "cancel"
        return True

    # ---- read

    def _show(self, task: TaskRecord, lease: Lease | None, now: int) -> Task:
        due = self.leases[task.id].ends if task.state == "leased" else task.due
        return task.show(lease, (due - now) / US)

    def get(self, ids: Iterable[str]) -> list[Task | None]:
        """Return tasks as they are now."""
        found = map(self.tasks.get, ids)
        return [self._show(task, None, self.now) if task else None for task in found]

    def limit_states(self, names: Iterable[str]) -> list[LimitState]:
        """Return the states of limits."""
        return [self.limit(name).state(self.now) for name in names]

    def counts(self) -> c.Counts:
        """Return how many tasks are in each state; `next_event_s` is not modelled (None)."""
        states = [task.state for task in self.tasks.values()]
        ready, delayed, leased, dead = (states.count(s) for s in ("ready", "delayed", "leased", "dead"))
        fields: dict[str, Any] = dict(self.counted)
        return c.Counts(self.now, ready, delayed, leased, dead, self.paused, None, **fields)
