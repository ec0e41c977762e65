"""
Random operations on a queue in a real store and on its model: equal replies, and the invariants after each step.

SCRAPEQ_PROPERTY_RUNS sets the number of sequences (200), SCRAPEQ_PROPERTY_SEED the seed of the first. A failure prints
its seed and the shortest sequence that still fails.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest
import redis
from queue_pair import Pair

from scrapeq.limit import Limit, Rate, Reserve
from scrapeq.queue import commands as c
from scrapeq.queue.fsck import fsck_blocking
from scrapeq.task import Group, Lease, NewTask

RUNS = int(os.environ.get("SCRAPEQ_PROPERTY_RUNS", "200"))
SEED = int(os.environ.get("SCRAPEQ_PROPERTY_SEED", "1"))
STEPS = 50
# Times are multiples of 16 us, and windows powers of two of them, so that the store's timestamps are exact.
TICK = 16
SHORT, LONG = 1.048576, 16.777216
TICK_S = TICK / c.US
PRIORITIES = [
    0.0,
    0.0,
    1.0,
    1.0,
    2.0,
    -1.0,
    -7.5,
    1e308,
    -1e308,
    5e-324,
    -5e-324,
    1.7e9,
    1.7e9 + 1e-6,
    0.1,
    2**53 + 2,
]
LIMITS = {
    "paced": Limit((Rate(5, SHORT),)),
    "slots": Limit((Rate(3, LONG),)),
    "two": Limit((Rate(4, SHORT), Rate(6, LONG)), max_concurrency=3),
    "burst": Limit((Rate(4, SHORT * 2, burst=3),)),
    "narrow": Limit(max_concurrency=1),
    "wide": Limit(max_concurrency=3),
    "learn": Limit(learn=True),
    "learn_rate": Limit((Rate(20, SHORT),), learn=True),
    "aligned": Limit((Rate(4, LONG, aligned_s=SHORT),)),
    "both": Limit((Rate(7, LONG, aligned_s=0.0), Rate(3, SHORT))),
    "kept": Limit((Rate(4, LONG),), reserve=Reserve(0.5, 1.0)),
    "kept_burst": Limit((Rate(4, SHORT * 2, burst=4),), reserve=Reserve(0.5, 0.0)),
    "kept_aligned": Limit((Rate(4, LONG, aligned_s=0.0),), reserve=Reserve(0.25, 1e8 - LONG, of_now=True)),
    "kept_told": Limit(learn=True, reserve=Reserve(0.25, 0.5)),
}
NAMES = [*LIMITS, "undefined"]
CREDENTIALS = ["a1", "b2", "c3", "d4", "e5"]
SIZES = [0, 0.25, 0.5, 2, 3, 7]


class Run:
    """One random sequence. Each step draws from its own seed, so steps can be left out when one fails."""

    def __init__(self, store: redis.Redis, seed: int) -> None:
        store.flushall()
        self.pair = Pair(store, singly=seed % 3 == 0)
        self.leases: list[Lease] = []
        self.versions = dict.fromkeys(LIMITS, 0)
        self.log: list[str] = []
        world = random.Random(seed)
        # Few limits are often used together; many limits give more combinations.
        self.names = world.sample(NAMES, 2) if seed % 2 else NAMES
        self.pooled = world.choice([0, 0, 0.7])  # share of groups with the limits of a pool
        if world.random() < 0.8:
            self.pair.define_pools({"keys": CREDENTIALS[: world.choice([1, 2, 3, 5])]})
        self.groups = [self._group(world, f"g{i}") for i in range(world.choice([1, 3, 6]))]
        self.pair.define(LIMITS)
        if world.random() < 0.4:
            self.pair.set_order("fair")

    def _group(self, r: random.Random, name: str) -> Group:
        names = self.names
        shared = tuple(r.sample(names, min(r.choice([0, 1, 1, 2, 3]), len(names))))
        private = r.choice(["", "", *(f"{limit}|{name}" for limit in r.sample(names, min(3, len(names))))])
        if r.random() < self.pooled:
            shared += tuple(
                f"{limit}|{r.choice('xy')},*keys" for limit in r.sample(names, r.choice([1, 1, 2]))
            )
            private = r.choice([private, f"{r.choice(names)}|{name},*keys"])
        limits = tuple(limit + r.choice(["", "|a"]) for limit in shared)
        heavy = [limit for limit in limits if r.random() < 0.3]
        return Group(name, limits, private, tuple((limit, r.choice(SIZES)) for limit in heavy))

    def step(self, seed: int) -> None:
        """Run one operation on both sides, and compare them."""
        r = random.Random(seed)
        (operation,) = r.choices(OPERATIONS, WEIGHTS)
        self.log.append(operation.__name__)
        operation(self, r)
        self.pair.check()

    # ---- random arguments

    def _duration(self, r: random.Random, most_s: float) -> float:
        return r.randrange(int(most_s / TICK_S)) * TICK_S

    def _task(self, r: random.Random) -> NewTask:
        group = r.choice(self.groups)
        if r.random() < 0.02:  # it gets other limits
            group = self._group(r, group.name)
            self.groups = [group if old.name == group.name else old for old in self.groups]
        elif r.random() < 0.05:  # another program defines the group differently once
            group = self._group(r, group.name)
        delay = self._duration(r, 3) if r.random() < 0.2 else 0.0
        key = f"k{r.randrange(12)}" if r.random() < 0.5 else ""
        scheduled_run = r.choice([0, 0, 1, 2, 3]) if key else 0
        sequence = r.choice(["", "w1", "w2"]) if scheduled_run else ""
        payload, priority = {"n": r.randrange(9)}, r.choice(PRIORITIES)
        return NewTask(payload, priority, delay, group, key, scheduled_run, sequence)

    def _lease(self, r: random.Random) -> Lease:
        live = [lease for lease in self.leases if lease.id in self.pair.model.leases]
        if live and r.random() < 0.9:
            return r.choice(live)
        return r.choice(self.leases) if self.leases else Lease("000000000001", "1.1", 1)

    def _entry(self, r: random.Random) -> c.Entry:
        lease = self._lease(r)
        held = self.pair.model.leases.get(lease.id)
        names = list(held.limits) if held and held.limits and r.random() < 0.9 else self.names
        if lease.credential and r.random() < 0.5:  # as instances of the pool
            names = [name.replace(lease.credential, "*keys") for name in names]
        verb = r.choice(
            [c.ACK] * 3 + [c.RETRY] * 2 + [c.RELEASE, c.BURY, c.OBSERVE, c.OBSERVE, c.EXTEND, c.VISIBILITY]
        )
        reported = (
            [(r.choice(names), r.choice([0, 1, 3, 10]), self._duration(r, 20))] if r.random() < 0.2 else []
        )
        refused = [(r.choice(names), self._duration(r, 4))] if r.random() < 0.15 else []
        delay = self._duration(r, 5) if r.random() < 0.6 else 0.0
        age = self._duration(r, 2) if r.random() < 0.3 else 0.0
        push = [self._task(r) for _ in range(r.choice([0, 0, 1, 2]))]
        error = r.choice(["", "a 500"])
        most = r.choice([1, 2, 5])
        sent = r.choices((c.RESPONDED, c.NO_RESPONSE, c.UNSENT), (6, 2, 2))[0]
        guessed = r.choice([0, 0, 0, 1, 2])
        rates = (
            [(r.choice(names), r.choice([2, 5, 40]), self._duration(r, 3) or 1.0)]
            if r.random() < 0.03
            else []
        )
        costs = [(r.choice(names), r.choice([1, *SIZES]))] if r.random() < 0.2 else []
        return c.Entry(
            verb, lease, sent, age, delay, most, reported, refused, guessed, rates, error, push, costs
        )

    # ---- operations

    def push(self, r: random.Random) -> None:
        """Push tasks."""
        tasks = [self._task(r) for _ in range(r.choice([1, 1, 2, 5]))]
        most = r.choice([0, 0, 0, 0, 0, 30])
        if most == 0 or len(tasks) <= most:
            self.pair.push(tasks, max_tasks=most, dedup=r.choice(["only_new", "raise_priority"]))

    def pop(self, r: random.Random) -> None:
        """Pop as a worker."""
        tasks = self.pair.pop(
            r.choice([1, 1, 2, 3, 8]),
            lease_s=r.choice([0.512, 4.096, 61.44]),
            suspects=r.choice([0, 0, 0, 1]),
        )
        self.leases += [task.lease for task in tasks if task.lease]

    def settle(self, r: random.Random) -> None:
        """Settle some leases, or report on them."""
        entries = [self._entry(r) for _ in range(r.choice([1, 1, 1, 2, 4]))]
        self.pair.settle(entries, r.choice(["only_new", "raise_priority"]))

    def acquire(self, r: random.Random) -> None:
        """Acquire a grant without a task."""
        lease = self.pair.acquire(
            r.choice(self.groups),
            weight=r.choice([1, 1, 0.5, 2, 5]),
            lease_s=r.choice([1.024, 30.72]),
            credential=r.choice(["", *CREDENTIALS]) if self.pooled and r.random() < 0.5 else "",
        )
        if lease:
            self.leases.append(lease)

    def wait(self, r: random.Random) -> None:
        """Advance the server's clock."""
        model = self.pair.model
        step = self._duration(r, r.choice([0.01, 0.5, 2, 20, 100]))
        events = [lease.ends for lease in model.leases.values()]
        events += [task.due for task in model.tasks.values() if task.state == "delayed"]
        events += [int(limit.parked_until) for limit in model.limits.values()]
        coming = [event - model.now for event in events if event > model.now]
        us = round(step * c.US)
        if coming and r.random() < 0.5:  # to the time of an event, or just before
            us = r.choice(coming)
        us = -(-us // TICK) * TICK - r.choice([0, 0, 0, TICK])
        self.pair.set_time(model.server_us + max(0, us))

    def step_back(self, r: random.Random) -> None:
        """Set the server's clock back."""
        self.pair.set_time(self.pair.model.server_us - round(self._duration(r, 50) * c.US))

    def steer(self, r: random.Random) -> None:
        """Park, pause or reopen as an operator."""
        known = sorted(self.pair.instances | {name for group in self.groups for name in group.limits})
        names = [r.choice(known or self.names) for _ in range(r.choice([1, 1, 2]))]
        verb = r.choice(
            ["park", "unpark", "unpark", "pause", "resume", "resume", "resume", "forget", "queue"]
        )
        if verb == "queue":
            self.pair.steer("resume_queue" if self.pair.model.paused or r.random() < 0.5 else "pause_queue")
        elif verb == "park":
            self.pair.steer("park", round(self._duration(r, 5) * c.US), *names)
        else:
            self.pair.steer(verb, *names)

    def resume_all(self, r: random.Random) -> None:
        """Resume everything, so that a sequence does not stay paused."""
        self.pair.steer("resume_queue")
        self.pair.steer("resume", *sorted(self.pair.instances))

    def define(self, r: random.Random) -> None:
        """Define a new version of a limit, or an outdated one."""
        name = r.choice([name for name in self.names if name in LIMITS and name != "learn"] or ["paced"])
        old = self.pair.model.definitions[name]
        stretch = r.random() < 0.3
        rates = tuple(
            replace(
                rate,
                limit=max(1, rate.limit + r.choice([-1, 0, 1, 2])),
                interval_s=first.interval_s * r.choice([0.25, 0.5, 1]) if stretch else rate.interval_s,
            )
            for rate, first in zip(old.rates, LIMITS[name].rates, strict=True)
        )
        most = old.max_concurrency and max(1, old.max_concurrency + r.choice([-1, 1]))
        version = old.version + r.choice([-1, 0, 1])
        self.pair.define({name: replace(old, rates=rates, max_concurrency=most, version=version)})

    def set_order(self, r: random.Random) -> None:
        """Change the order."""
        self.pair.set_order(r.choice(["strict", "fair"]))

    def change_pool(self, r: random.Random) -> None:
        """Redefine a pool, or retire a credential."""
        if r.random() < 0.5:
            self.pair.retire("keys", r.choice(CREDENTIALS))
        else:
            self.pair.define_pools({"keys": r.sample(CREDENTIALS, r.choice([1, 2, 4, 5]))})

    def private_limit(self, r: random.Random) -> None:
        """Give a group a private limit, and perhaps park it."""
        name = self.pair.private_limit(r.choice(self.groups).name)
        if r.random() < 0.5:
            self.pair.steer("park", round(self._duration(r, 5) * c.US), name)

    def edit(self, r: random.Random) -> None:
        """Edit tasks as an operator."""
        ids = [f"{r.randrange(1, self.pair.model.sequence + 2):012d}" for _ in range(r.choice([1, 2, 5]))]
        dead = [task.id for task in self.pair.model.tasks.values() if task.state == "dead"]
        verb = r.choice(["cancel", "prioritize", "prioritize", "redrive", "redrive", "drop"])
        if dead and verb in ("redrive", "drop"):
            ids += [r.choice(dead)]
        self.pair.edit(verb, ids, r.choice(PRIORITIES))

    def sweep(self, r: random.Random) -> None:
        """Sweep, as the scheduler does."""
        self.pair.sweep()


CHOICES: list[tuple[Callable[[Run, random.Random], None], int]] = [
    *((Run.push, 20), (Run.pop, 30), (Run.settle, 25), (Run.acquire, 4), (Run.wait, 18), (Run.step_back, 1)),
    *(
        (Run.steer, 5),
        (Run.resume_all, 2),
        (Run.define, 2),
        (Run.private_limit, 1),
        (Run.set_order, 1),
        (Run.change_pool, 1),
        (Run.edit, 5),
        (Run.sweep, 2),
    ),
]
OPERATIONS, WEIGHTS = [choice for choice, _ in CHOICES], [weight for _, weight in CHOICES]


def play(
    store: redis.Redis, seed: int, steps: Sequence[int]
) -> tuple[int, list[str], AssertionError | Exception | None]:
    """Play the steps; return how many were played, their names and the error."""
    run = Run(store, seed)
    for i, step in enumerate(steps):
        try:
            run.step(step)
        except (AssertionError, redis.RedisError) as error:
            return i + 1, run.log, error
    report = fsck_blocking(store, "q", page=10, test_clock=True)
    if not report.ok:
        return len(steps), run.log, AssertionError(f"fsck: {'; '.join(map(str, report.findings))}")
    return len(steps), run.log, None


def shortest(store: redis.Redis, seed: int, steps: list[int]) -> list[int]:
    """Leave out steps as long as the rest still fails."""
    size = max(1, len(steps) // 2)
    while size:
        i = 0
        while i < len(steps):
            shorter = steps[:i] + steps[i + size :]
            played, _, error = play(store, seed, shorter)
            if error:
                steps = shorter[:played]
            else:
                i += size
        size //= 2
    return steps


PARTS = 8


@pytest.mark.parametrize("part", range(PARTS))
def test_the_queue_behaves_like_its_model(store: redis.Redis, part: int) -> None:
    """Every reply equals the model's, and the invariants of the keys hold after every step."""
    for seed in range(SEED + part, SEED + RUNS, PARTS):
        steps = [seed * 1_000_003 + i for i in range(STEPS)]
        played, _, error = play(store, seed, steps)
        if error:
            steps = shortest(store, seed, steps[:played])
            _, log, last = play(store, seed, steps)
            pytest.fail(f"seed {seed}: {last or error}\nsteps {steps}: {' '.join(log)}\nfirst: {error}")
