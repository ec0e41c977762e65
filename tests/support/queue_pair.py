"""A queue on a real store beside its model: runs the same operations on both, compares them and checks the keys."""

from __future__ import annotations

import contextlib
import struct
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple, TypeVar

import redis
from queue_model.model import Model
from queue_model.packed import IN_FLIGHT, read_group, read_lane, read_limit, read_meta

from scrapeq.limit import Limit, of_credential
from scrapeq.queue import commands as c
from scrapeq.queue import settings
from scrapeq.queue.block import lane_and_private, lane_entries
from scrapeq.queue.library import library
from scrapeq.task import Dedup, Group, Lease, NewTask, Order, Task

US = 1_000_000
START_US = 1_600_000_000_000_000
CONTROL = ">29d"
NEVER = 9e15
ID = 12
HASHES = ("task", "meta", "g", "lane", "l", "turn")
ZSETS = ("delayed", "leased", "dead", "lanes", "lp", "gp")


T = TypeVar("T")


class Keys(NamedTuple):
    """A snapshot of a queue's keys."""

    hashes: dict[str, dict[bytes, bytes]]
    zsets: dict[str, dict[bytes, float]]
    ready: dict[str, list[tuple[bytes, float]]]
    heads: dict[str, list[tuple[bytes, float]]]
    next_event: float
    armed: bool


def as_bytes(value: bytes | str) -> bytes:
    """Return a value of the store, which is bytes since the tests' clients do not decode."""
    assert isinstance(value, bytes)
    return value


class Pair:
    """A queue on a store and its model. With `singly`, a pop of n tasks is n pops of one task on the store."""

    def __init__(self, store: redis.Redis, name: str = "q", *, singly: bool = False) -> None:
        self.store = store
        self.prefix = f"scrapeq:{{{name}}}:"
        self.model = Model(START_US)
        self.singly = singly
        self.groups: set[str] = set()
        self.lanes: set[str] = {""}
        self.instances: set[str] = set()
        self.library = library(test_clock=True)
        with contextlib.suppress(redis.ResponseError):  # it is loaded already
            store.function_load(self.library.text)
        self.parks: dict[str, float] = {}
        self.set_time(START_US)

    # ---- both sides

    def set_time(self, us: int) -> None:
        """Set the server's clock."""
        self.model.server_us = us
        self.store.set(self.prefix + "testclock", us)

    def run(self, command: c.Command[T]) -> T:
        """Run a command on the store."""
        return command.parse(
            self.store.fcall(self.library.function(command.script), 1, self.prefix + "c", *command.args)
        )

    def _know(self, *groups: Group) -> None:
        for group in groups:
            self.groups.add(group.name)
            limits, private = lane_and_private(group)
            self.lanes.add(c.lane_name(lane_entries(limits, group)))
            for name in [*limits, *([private] if private else [])]:
                self.instances.update(self.model.pools.instances(name))

    def push(
        self, tasks: Sequence[NewTask], *, max_tasks: int = 0, dedup: Dedup = "only_new"
    ) -> list[c.Pushed] | None:
        """Push tasks on both; return the results."""
        self._know(*(task.group for task in tasks))
        done: list[c.Pushed] = []
        for start in range(0, len(tasks), c.PUSH_COUNT):
            batch = tasks[start : start + c.PUSH_COUNT]
            (command,) = c.push(batch, max_tasks=max_tasks, dedup=dedup)
            got = self.run(command)
            assert got == self.model.push(batch, max_tasks=max_tasks, dedup=dedup)
            if got is None:
                return None
            done += got
        return done

    def pop(self, n: int, *, lease_s: float, suspects: int = 0) -> list[Task]:
        """Pop on both like a worker that was woken: the script must set the wake-up marker again if tasks remain."""
        self.store.delete(self.prefix + "wake")
        got: list[Task] = []
        suspects_held = suspects
        while True:
            popped = self.run(c.pop(1 if self.singly else n, lease_s=lease_s, suspects=suspects_held))
            assert not popped.is_unfinished
            got += popped.tasks
            suspects_held += sum(task.expiries > 0 for task in popped.tasks)
            if not self.singly or not popped.tasks or len(got) == n:
                break
        expected = self.model.pop(n, lease_s=lease_s, suspects=suspects)
        assert got == expected.tasks
        assert [task.lease for task in got] == [task.lease for task in expected.tasks]
        assert popped.live == expected.live
        if len(got) < n and not self.model.paused:
            self._check_wait(popped.wait_s)
        return got

    def settle(self, entries: Sequence[c.Entry], dedup: Dedup = "only_new") -> list[c.Settled]:
        """Settle on both; a call with only stale leases must change nothing but the clock."""
        for entry in entries:
            self._know(*(task.group for task in entry.push))
            credential = entry.lease.credential
            self.instances.update(of_credential(name, credential) for name, *_ in entry.reported)
            self.instances.update(of_credential(name, credential) for name, _ in entry.refused)
            self.instances.update(of_credential(name, credential) for name, *_ in entry.rates)
        stale = all(
            (lease := self.model.leases.get(entry.lease.id)) is None or lease.token != entry.lease.token
            for entry in entries
        )
        before = self.content() if stale else None
        got, expected = self.run(c.settle(entries, dedup)), self.model.settle(entries, dedup)
        assert got == expected
        assert before is None or self.content() == before
        return got

    def acquire(self, group: Group, *, weight: float, lease_s: float, credential: str = "") -> Lease | None:
        """Acquire a grant without a task on both."""
        self._know(group)
        got = self.run(c.acquire(group, weight=weight, lease_s=lease_s, credential=credential))
        expected = self.model.acquire(group, weight=weight, lease_s=lease_s, credential=credential)
        assert (got if isinstance(got, Lease) else None) == expected
        return expected

    def define(self, limits: dict[str, Limit]) -> None:
        """Define limits on both."""
        self.run(c.define(limits))
        self.model.define(limits)

    def steer(self, verb: str, *args: Any) -> None:
        """Change limits or the queue on both."""
        names = [one for name in args if isinstance(name, str) for one in self.model.pools.instances(name)]
        self.instances.update(names)
        self.run(c.steer(verb, *args))
        self.model.steer(verb, *args)
        if verb in ("unpark", "forget"):  # an operator may shorten a park
            for name in names:
                self.parks.pop(name, None)

    def set_order(self, order: Order) -> None:
        """Set the order on both."""
        assert self.run(settings.set_order(order)) == order
        self.model.set_order(order)

    def define_pools(self, pools: dict[str, list[str]]) -> None:
        """Define credential pools on both."""
        self.run(settings.define_pools(pools))
        self.model.define({})  # advances its clock
        self.model.pools.credentials.update({name: list(credentials) for name, credentials in pools.items()})
        for group in self.model.groups.values():
            self._know(group)

    def retire(self, pool: str, credential: str) -> None:
        """Retire a credential on both."""
        self.model.define({})
        assert self.run(settings.retire_credential(pool, credential)) == self.model.pools.retire(
            pool, credential
        )

    def private_limit(self, group: str) -> str:
        """Get the private limit of a group on both."""
        self.groups.add(group)
        got = self.run(c.private_limit(group))
        assert got == self.model.private_limit(group)
        self.instances.add(got)
        return str(got)

    def edit(self, verb: str, ids: Sequence[str], value: float = 0.0) -> None:
        """Edit tasks on both."""
        assert self.run(c.edit(verb, ids, value)) == self.model.edit(verb, ids, value)

    def sweep(self) -> None:
        """Sweep both."""
        more, _ = self.run(c.sweep())
        assert not more
        self.model.sweep()

    # ---- checks

    def content(self) -> dict[bytes, bytes]:
        """Return a dump of every key of the queue, except those that only hold the time."""
        timed = {(self.prefix + name).encode() for name in ("c", "testclock")}
        keys = sorted(as_bytes(key) for key in self.store.keys(self.prefix + "*"))
        quiet = [key for key in keys if key not in timed]
        return {key: self.store.dump(key) or b"" for key in quiet}

    def _check_wait(self, wait_s: float | None) -> None:
        """Check that nothing becomes grantable before the wait that the pop returned is over."""
        assert wait_s is None or wait_s > 0, "a wait of 0 without a task"
        model = self.model
        events = [lease.ends for lease in model.leases.values()]
        events += [task.due for task in model.tasks.values() if task.state == "delayed"]
        until = model.now + (wait_s * US if wait_s is not None else 10 * 366 * 86_400 * US)
        assert all(event >= until - 1 for event in events)
        assert not model.grantable(int(until) - 1), f"grantable before {wait_s}"

    def check(self) -> None:
        """Compare all visible state, then check the invariants of the keys."""
        model, ids = self.model, [f"{i:012d}" for i in range(1, self.model.sequence + 1)]
        names = sorted(self.instances)
        queries = (c.counts(), c.get(ids), c.limit_states(names))
        keys, (counts, tasks, states) = self._read(queries)
        expected = model.counts()
        for name in c.Counts.__dataclass_fields__:
            if name not in ("next_event_s", "created_us"):
                assert getattr(counts, name) == getattr(expected, name), name
        assert tasks == model.get(ids)
        for got, expected_state in zip(states, model.limit_states(names), strict=True):
            opens = (got.opens_s == 0.0, expected_state.opens_s == 0.0)
            assert opens[0] == opens[1], (got, expected_state)
            assert got == replace(expected_state, opens_s=got.opens_s), f"{got} is not {expected_state}"
            before = self.parks.get(got.name, 0.0)
            parked_until = model.limit(got.name).parked_until
            assert parked_until >= before, "a park was shortened"
            self.parks[got.name] = parked_until
        self._check_keys(keys, counts.now_us)

    def _read(self, queries: Sequence[c.Command[Any]]) -> tuple[Keys, list[Any]]:
        """Read all keys and the replies of some commands in one pipeline."""
        groups, lanes = sorted(self.groups), sorted(self.lanes)
        pipe = self.store.pipeline(transaction=False)
        for key in HASHES:
            pipe.hgetall(self.prefix + key)
        zsets = [*ZSETS, *(f"r:{group}" for group in groups), *(f"heads:{lane}" for lane in lanes)]
        for key in zsets:
            pipe.zrange(self.prefix + key, 0, -1, withscores=True)
        pipe.get(self.prefix + "c")
        pipe.exists(self.prefix + "wake")
        for query in queries:
            pipe.fcall(self.library.function(query.script), 1, self.prefix + "c", *query.args)
        *got, control, armed = (all_replies := pipe.execute())[: -len(queries)]
        hashes = dict(zip(HASHES, got, strict=False))
        found = dict(zip(zsets, got[len(HASHES) :], strict=False))
        ready = {group: found[f"r:{group}"] for group in groups}
        heads = {lane: found[f"heads:{lane}"] for lane in lanes}
        next_event = struct.unpack(CONTROL, control)[0] if control else NEVER
        keys = Keys(hashes, {key: dict(found[key]) for key in ZSETS}, ready, heads, next_event, armed == 1)
        replies = all_replies[-len(queries) :]
        return keys, [query.parse(reply) for query, reply in zip(queries, replies, strict=True)]

    def _check_keys(self, k: Keys, now: int) -> None:
        """Check invariants 1, 2, 3, 5 and 7."""
        tasks, zsets = k.hashes["task"], k.zsets

        locations = Counter([*zsets["delayed"], *zsets["dead"], *(i for i in zsets["leased"] if i in tasks)])
        for credentials in k.ready.values():
            locations.update(id_ for id_, _ in credentials)
        assert locations == Counter(dict.fromkeys(tasks, 1)), "an id is not in exactly one state"

        for group, credentials in k.ready.items():
            spec, parked = read_group(k.hashes["g"].get(group.encode())), group.encode() in zsets["gp"]
            turn = k.hashes["turn"].get(group.encode())
            assert (turn is not None) == (bool(credentials) and self.model.turns.order == "fair"), (
                f"{group!r}: turn {turn!r}"
            )
            assert turn is None or int(turn) == self.model.turns.of[group]
            score = credentials[0][1] if credentials and turn is None else float(turn or 0)
            entry = (credentials[0][0] + group.encode(), score) if credentials else None
            found = [
                (lane, head)
                for lane, heads in k.heads.items()
                for head in heads
                if head[0][ID:] == group.encode()
            ]
            assert not parked or entry, f"{group!r} is empty and parked"
            assert found == ([(spec[0], entry)] if entry and not parked else []), f"{group!r}: wrong heads"

        entries = {
            credential[ID:].decode(): (credential[:ID], score) for credential, score in zsets["lanes"].items()
        }
        parked_lanes = {lane.decode() for lane in zsets["lp"] if not lane.startswith(b"\0")}
        assert len(entries) == len(zsets["lanes"]), "a lane has two entries"
        assert not parked_lanes & set(entries), "a lane is open and parked"
        assert parked_lanes | set(entries) == {lane for lane, heads in k.heads.items() if heads}
        for lane, entry in entries.items():
            head, score = k.heads[lane][0]
            assert entry == (head[:ID], score), f"lane {lane!r}: its entry is not its head"

        charged: Counter[str] = Counter()  # weights, whose fractions add up exactly
        for id_ in zsets["leased"]:
            meta = read_meta(k.hashes["meta"][id_])
            if not meta.answered:
                lane, _, credential = meta.lane.partition("\1")
                limits = read_lane(k.hashes["lane"][lane.encode()]) if lane else {}
                limits = {of_credential(name, credential): weight for name, weight in limits.items()}
                limits |= {meta.private: 1} if meta.private else {}
                charged.update({name: weight * meta.weight for name, weight in limits.items()})
        in_flight = {name.decode(): read_limit(state)[IN_FLIGHT] for name, state in k.hashes["l"].items()}
        for name in {*charged, *in_flight}:
            assert charged[name] == in_flight.get(name, 0), f"{name} in flight"

        due = [time for key in ("delayed", "leased", "lp", "gp") for time in zsets[key].values()]
        assert all(k.next_event <= time for time in due), "an event is earlier than next_event"
        if not k.armed and k.next_event > now:
            assert not self.model.grantable(now), "a task is grantable without marker or event"
