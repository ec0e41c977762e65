"""What all who use a queue share beside the tasks: its order, the members of its pools, what was learned of a limit."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from scrapeq.errors import UsageError
from scrapeq.limit import SOURCES, Change
from scrapeq.queue.block import CREDENTIAL_MAX, US
from scrapeq.queue.commands import Command
from scrapeq.task import Order

POOL_MAX = 64  # members of one pool
_CREDENTIAL = re.compile(rf"[A-Za-z0-9_-]{{1,{CREDENTIAL_MAX}}}")
_POOL_NAME = re.compile(r"[A-Za-z0-9_-]{0,64}")


def set_order(order: Order | None) -> Command[Order]:
    """
    The order of the queue from now on; None only asks. -> the order now.

    Raises UsageError when more than 1,000 groups are known and some have tasks: one call changes no more.
    """
    if order not in ("strict", "fair", None):
        raise UsageError(f"order: {order!r} is none; it must be strict or fair")

    def parse(reply: Any) -> Order:
        now: Order = "fair" if reply[1] == b"fair" else "strict"
        if reply[0] == b"queued":
            raise UsageError(
                f"order: the queue is in {now} order, and {int(reply[2]):,} groups are too many to change it while "
                f"tasks are queued; let it run dry or purge its tasks first, or stay with order: {now}"
            )
        return now

    return Command("steer", ("order", order or ""), parse)


def define_pools(pools: Mapping[str, Sequence[str]]) -> Command[None]:
    """
    The members of pools, by the pools' names, in the order in which they are used.

    Names are kept and shown: for a credential give a digest. Raises UsageError: none or more than 64 members, one
    named twice, or a name of other characters than letters, digits, _ and -, or of more than 32.
    """
    for name, credentials in pools.items():
        if not _POOL_NAME.fullmatch(name):
            raise UsageError(f"pool {name!r}: a name has up to 64 letters, digits, _ and -")
        if not 1 <= len(credentials) <= POOL_MAX:
            raise UsageError(f"pool {name!r}: {len(credentials)} members; it must have 1 to {POOL_MAX}")
        if len(set(credentials)) < len(credentials):
            raise UsageError(f"pool {name!r}: two of its members have one name")
        for credential in credentials:
            if not _CREDENTIAL.fullmatch(credential):
                raise UsageError(
                    f"pool {name!r}: {credential!r} is no name of up to {CREDENTIAL_MAX} letters, digits, _ and -"
                )
    wire = {name: list(credentials) for name, credentials in pools.items()}
    return Command("steer", ("pools", orjson.dumps(wire)), lambda _: None)


def retire_credential(pool: str, credential: str) -> Command[list[str]]:
    """A member is used no more until its pool is defined anew; the last one stays. -> who is left."""
    return Command("steer", ("retire", pool, credential), lambda reply: [name.decode() for name in reply[1:]])


def limit_history(instance: str) -> Command[list[Change]]:
    """What was learned of a limit instance, newest first."""

    def parse(reply: Any) -> list[Change]:
        changes = []
        for line in reply:
            at, limit, window, source, trial = map(float, line.split())
            changes.append(Change(int(at), limit, window / US, SOURCES[int(source)], trial))
        return changes

    return Command("look", ("history", instance), parse)
