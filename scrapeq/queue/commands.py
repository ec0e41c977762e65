"""
The commands of both drivers: what to send to a script, and how to parse its reply. No I/O.

Seconds become microseconds here, keys become digests, payloads become JSON.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Generic, Literal, NamedTuple, TypeVar

import orjson

from scrapeq.errors import UsageError
from scrapeq.limit import SOURCES, Limit, LimitState, Rate, of_credential
from scrapeq.queue.block import PAYLOAD_MAX, US, Block, duration_us, lane_name
from scrapeq.queue.replies import (
    ACK,
    BURY,
    EXTEND,
    NO_RESPONSE,
    OBSERVE,
    RELEASE,
    RESPONDED,
    RETRY,
    UNSENT,
    VISIBILITY,
    Counts,
    Delivery,
    Entry,
    Popped,
    Pushed,
    Settled,
)
from scrapeq.task import Dedup, Group, Lease, NewTask, State, Task, weight_of

T = TypeVar("T")
Arg = bytes | str | int | float

__all__ = [
    "ACK",
    "BURY",
    "EXTEND",
    "NO_RESPONSE",
    "OBSERVE",
    "RELEASE",
    "RESPONDED",
    "RETRY",
    "UNSENT",
    "US",
    "VISIBILITY",
    "Command",
    "Counts",
    "Delivery",
    "Entry",
    "Popped",
    "Pushed",
    "Settled",
    "lane_name",
]

PUSH_MAX = 4 << 20  # bytes of payloads in one call
PUSH_COUNT = 400  # tasks in one call: into as many groups they cost the server about 5 ms
ID_DIGITS = 12

_ENTRY = struct.Struct(">BBddH")
_RECORD = struct.Struct(">BdBB")


class Command(NamedTuple, Generic[T]):
    """
    A call of a script.

    Args:
        script: The script's name.
        args: Its arguments after the key.
        parse: Turns the reply into a value.
        is_repeatable: Whether it may be sent again if the connection broke and its effect is unknown.
    """

    script: str
    args: Sequence[Arg]
    parse: Callable[[Any], T]
    is_repeatable: bool = True


_PUSH_OUTCOMES: dict[bytes, Pushed] = {
    b"d": Pushed("duplicate"),
    b"r": Pushed("raised"),
    b"x": Pushed("dead"),
    b"-": Pushed("orphaned"),
}


def _pushed(value: bytes) -> Pushed:
    return _PUSH_OUTCOMES.get(value) or Pushed("pushed", value.decode())


def _parse_push(reply: Any) -> list[Pushed] | None:
    return None if reply[0] == b"full" else [_pushed(value) for value in reply[1:]]


def push(tasks: Iterable[NewTask], *, max_tasks: int, dedup: Dedup) -> Iterable[Command[list[Pushed] | None]]:
    """
    Push tasks, in as many calls as the bounds of one call require.

    The reply of a call is None if the queue is full and the call pushed nothing. A call may be repeated if
    deduplication recognizes all its tasks.
    """
    bound = min(PUSH_COUNT, max_tasks) if max_tasks else PUSH_COUNT
    block, is_repeatable = Block(), True
    for task in tasks:
        block.add(task, dedup)
        is_repeatable = is_repeatable and bool(task.key)
        if len(block.payloads) >= bound or block.size > PUSH_MAX - PAYLOAD_MAX:
            yield _push_command(block, max_tasks, is_repeatable)
            block, is_repeatable = Block(), True
    if block.payloads:
        yield _push_command(block, max_tasks, is_repeatable)


def _push_command(block: Block, max_tasks: int, is_repeatable: bool) -> Command[list[Pushed] | None]:
    args: list[Arg] = [max_tasks, block.spec(), bytes(block.header), *block.payloads]
    return Command("push", args, _parse_push, is_repeatable)


def read_record(record: bytes) -> tuple[float, str, bytes]:
    """Return the priority, the group and the payload of a task's record."""
    _, priority, group_len, key_len = _RECORD.unpack_from(record)
    start = _RECORD.size
    return priority, record[start : start + group_len].decode(), record[start + group_len + key_len :]


# A reply of `pop`: four values, six per task, and, if a pool granted, one list of the credentials.
_POP_HEAD, _POP_TASK = 4, 6


def _parse_pop(reply: Any) -> Popped:
    if reply[0] == b"again":
        return Popped([], 0.0, 1, is_unfinished=True)
    wait, granted = float(reply[1]), int(reply[3])
    tasks = []
    has_credentials = (len(reply) - _POP_HEAD) % _POP_TASK == 1
    credentials = reply.pop() if has_credentials else ()
    for i in range(_POP_HEAD, len(reply), _POP_TASK):
        id_, token, record, attempts, expiries, releases = reply[i : i + _POP_TASK]
        priority, group, payload = read_record(record)
        name = id_.decode()
        lease = Lease(name, token.decode(), granted)
        tasks.append(
            Task(name, orjson.loads(payload), priority, group, attempts, expiries, releases, lease, "leased")
        )
    for task, credential in zip(tasks, credentials, strict=bool(credentials)):
        if credential and task.lease is not None:
            task.lease = task.lease._replace(credential=credential.decode())
    poll_at_us = granted + int(wait) if reply[0] == b"watch" else 0
    return Popped(tasks, None if wait < 0 else wait / US, int(reply[2]), poll_at_us=poll_at_us)


def pop(
    n: int,
    *,
    lease_s: float,
    suspects: int = 0,
    stay_s: float = 0.0,
    stays_with_some: bool = False,
    previous_poll_at_us: int = 0,
) -> Command[Popped]:
    """
    Lease the best n tasks.

    Args:
        n: How many at most.
        lease_s: Seconds that they stay invisible.
        suspects: How many tasks with expired leases the caller holds.
        stay_s: Seconds that the caller will wait if it gets nothing. The script designates one such waiter to poll at
            the next event.
        stays_with_some: Whether it also waits if it gets less than n.
        previous_poll_at_us: `Popped.poll_at_us` of the caller's pop before.
    """
    stay = duration_us(stay_s, "wait") if stay_s > 0 else 0
    lease = duration_us(lease_s, "lease")
    return Command("pop", (n, lease, suspects, stay, int(stays_with_some), previous_poll_at_us), _parse_pop)


_OUTCOMES: tuple[Literal["lost", "done", "dead"], ...] = ("lost", "done", "dead")
_SETTLED = tuple(Settled(outcome) for outcome in _OUTCOMES)


def settle(entries: Sequence[Entry], dedup: Dedup = "only_new") -> Command[list[Settled]]:
    """Report the outcomes of leases and push the follow-up tasks, in one call."""
    block = Block()
    args: list[Arg] = [len(entries), b"", b""]
    owners: list[int] = []
    for i, entry in enumerate(entries, 1):
        delay = duration_us(entry.delay_s, "delay")
        age = duration_us(max(0.0, entry.age_s), "age")
        args.append(_ENTRY.pack(entry.verb, entry.sent, age, delay, entry.max_attempts))
        args.append(entry.lease.id)
        args.append(entry.lease.token)
        extra: dict[str, Any] = {}
        credential = entry.lease.credential
        if entry.reported:
            extra["reported"] = [
                (of_credential(name, credential), left, duration_us(reset, "reset"))
                for name, left, reset in entry.reported
            ]
        if entry.refused:
            extra["refused"] = [
                (of_credential(name, credential), duration_us(wait, "wait")) for name, wait in entry.refused
            ]
            extra["guessed"] = entry.guessed
        if entry.rates:
            extra["rates"] = [
                (of_credential(name, credential), limit, duration_us(window, "window"))
                for name, limit, window in entry.rates
            ]
        if entry.costs:
            extra["costs"] = [
                (of_credential(name, credential), weight_of(cost, name)) for name, cost in entry.costs
            ]
        if entry.error:
            extra["error"] = entry.error
        args.append(orjson.dumps(extra) if extra else b"")
        for task in entry.push:
            block.add(task, dedup, owner=i)
            owners.append(i)
    if owners:
        args[1], args[2] = block.spec(), bytes(block.header)
        args.extend(block.payloads)
    outcomes = _OUTCOMES

    def parse(reply: Any) -> list[Settled]:
        if not owners:
            return [_SETTLED[value] for value in reply]
        settled = [Settled(outcomes[value], []) for value in reply[: len(entries)]]
        for owner, value in zip(owners, reply[len(entries) :], strict=True):
            settled[owner - 1].pushed.append(_pushed(value))
        return settled

    return Command("settle", args, parse)


def acquire(
    group: Group, *, weight: float, lease_s: float, credential: str = ""
) -> Command[Lease | float | None]:
    """
    Acquire a grant without a task: the lease, or seconds until another try is worth it (None: an event decides).

    Args:
        group: The limits. Each is charged `weight` times what the group weighs there; a reserve does not apply.
        weight: What the request costs.
        lease_s: Seconds until the grant expires.
        credential: The one credential of a pool to use; empty = any.
    """
    block = Block()
    block.group(group)

    def parse(reply: Any) -> Lease | float | None:
        if reply[0] == b"ok":
            return Lease(reply[1].decode(), reply[2].decode(), int(reply[3]), reply[4].decode())
        wait = float(reply[1])
        return None if wait < 0 else wait / US

    weight = weight_of(weight, "acquire")
    return Command("acquire", (block.spec(), weight, duration_us(lease_s, "lease"), credential), parse, False)


def define(limits: Mapping[str, Limit], *, force: bool = False) -> Command[None]:
    """Define limits by name; `force`: even if the present definition has a higher version."""
    wire = {name: limit.wire() for name, limit in limits.items()}
    for name in wire:
        if "|" in name or "*" in name or name.startswith("@"):
            raise UsageError(f"limit {name!r}: a name must not contain '|' or '*' or begin with '@'")
    return Command("steer", ("define", orjson.dumps(wire), int(force)), _none)


def definitions() -> Command[dict[str, Limit]]:
    """Read the definitions by limit name."""
    return Command(
        "look",
        ("defined",),
        lambda reply: {name: Limit.from_wire(wire) for name, wire in orjson.loads(reply).items()},
    )


def steer(verb: str, *args: Arg) -> Command[None]:
    """
    Change the state of limits or of the queue.

    Args:
        verb: `park` (microseconds, then instances), `unpark`, `pause`, `resume`, `forget` (instances), `pause_queue`,
            `resume_queue`, `unwatch` (designate another waiter).
        args: What the verb takes.
    """
    return Command("steer", (verb, *args), _none)


def private_limit(group: str) -> Command[str]:
    """Return the limit that only this group has; create it if it does not exist."""
    return Command("steer", ("group", group), lambda reply: str(reply[1].decode()))


def edit(verb: str, ids: Sequence[str], value: float | str = "") -> Command[list[bool]]:
    """Edit tasks (`cancel`, `prioritize`, `redrive`, `drop`); the reply says for each id whether it was changed."""
    if isinstance(value, float) and not math.isfinite(value):
        raise UsageError(f"priority: expected a finite number, got {value!r}")
    text = repr(value) if isinstance(value, float) else value
    names = (id_.zfill(ID_DIGITS) for id_ in ids)
    return Command("edit", (verb, text, *names), lambda reply: [r == 1 for r in reply])


def get(ids: Sequence[str]) -> Command[list[Task | None]]:
    """Read tasks by id; None for an id that does not exist."""
    names = [id_.zfill(ID_DIGITS) for id_ in ids]

    def parse(reply: Any) -> list[Task | None]:
        found: list[Task | None] = []
        for name, i in zip(names, range(0, len(reply), 8), strict=True):
            record, state, attempts, expiries, releases, error, _, due = reply[i : i + 8]
            if not record:
                found.append(None)
                continue
            priority, group, payload = read_record(record)
            in_state: State = state.decode()
            due_s = float(due) / US if in_state in ("delayed", "leased") else 0.0
            counts = (attempts, expiries, releases)
            text = error.decode("utf-8", "replace")
            found.append(
                Task(name, orjson.loads(payload), priority, group, *counts, None, in_state, text, due_s)
            )
        return found

    return Command("look", ("get", *names), parse)


def counts() -> Command[Counts]:
    """Read how many tasks are in each state, and the totals."""

    def parse(reply: Any) -> Counts:
        now, ready, delayed, leased, dead, paused, next_event, *rest, created, damaged = map(float, reply)
        return Counts(
            int(now),
            int(ready),
            int(delayed),
            int(leased),
            int(dead),
            paused == 1,
            None if next_event < 0 else next_event / US,
            *(int(value) for value in rest),
            created_us=int(created),
            is_damaged=damaged == 1,
        )

    return Command("look", ("counts",), parse)


def limit_states(instances: Sequence[str]) -> Command[list[LimitState]]:
    """Read the state of limit instances."""

    def parse(reply: Any) -> list[LimitState]:
        states = []
        for name, i in zip(instances, range(0, len(reply), 15), strict=True):
            park, paused, fly, probing, left, reset, cap, consecutive_refusals, *rest = map(
                float, reply[i : i + 15]
            )
            heaviest, learned, window, in_trial, source, opens, used = rest
            states.append(
                LimitState(
                    name,
                    park / US,
                    paused == 1,
                    fly,
                    probing == 1,
                    None if left < 0 else left,
                    max(0.0, reset / US) if left >= 0 else 0.0,
                    int(cap),
                    int(consecutive_refusals),
                    Rate(learned, window / US) if learned else None,
                    in_trial == 1,
                    SOURCES[int(source)],
                    None if opens < 0 else opens / US,
                    used,
                    heaviest,
                )
            )
        return states

    return Command("look", ("limits", *instances), parse)


def purge(what: str) -> Command[tuple[int, bool]]:
    """Delete a batch of `seen` keys or `limits`; the reply is (how many, whether there are more)."""
    return Command("purge", (what,), lambda reply: (int(reply[0]), reply[1] == b"1"))


def sweep(budget: int = 500, *, orphaned: bool = False) -> Command[tuple[bool, float | None]]:
    """
    Process due delays and expired leases; the reply is (whether more is due now, seconds to the next event).

    Args:
        budget: How many at most.
        orphaned: Expire all leases, since their workers are gone.
    """

    def parse(reply: Any) -> tuple[bool, float | None]:
        wait = float(reply[1])
        return reply[0] == b"1", None if wait < 0 else wait / US

    return Command("sweep", (budget, "1" if orphaned else "0"), parse)


def _none(_: Any) -> None:
    return None
