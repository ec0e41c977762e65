"""Commands for what all users of a queue share beside its tasks: its order, its pools, its history of limits."""

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

POOL_MAX = 64  # credentials in one pool
_CREDENTIAL = re.compile(rf"[A-Za-z0-9_-]{{1,{CREDENTIAL_MAX}}}")
_POOL_NAME = re.compile(r"[A-Za-z0-9_-]{0,64}")


def set_order(order: Order | None) -> Command[Order]:
    """
    Set the order of the queue; the reply is the order in force. None changes nothing.

    Raises UsageError if more than 1,000 groups are known and some have tasks: too many to change in one call.
    """
    if order not in ("strict", "fair", None):
        raise UsageError(f"order: expected strict or fair, got {order!r}")

    def parse(reply: Any) -> Order:
        now: Order = "fair" if reply[1] == b"fair" else "strict"
        if reply[0] == b"queued":
            raise UsageError(
                f"order: cannot leave {now} while tasks are queued in {int(reply[2]):,} groups; let the queue run "
                f"empty or purge its tasks first, or keep order: {now}"
            )
        return now

    return Command("steer", ("order", order or ""), parse)


def define_pools(pools: Mapping[str, Sequence[str]]) -> Command[None]:
    """
    Define the credentials of pools by pool name, in the order in which they are used.

    The names of credentials are stored and displayed, so pass digests. Raises UsageError for a pool of 0 or more than
    64 credentials, a repeated one, or a name that is too long or contains other characters than letters, digits, `_`
    and `-`.
    """
    for name, credentials in pools.items():
        if not _POOL_NAME.fullmatch(name):
            raise UsageError(f"pool {name!r}: expected a name of up to 64 letters, digits, _ and -")
        if not 1 <= len(credentials) <= POOL_MAX:
            raise UsageError(f"pool {name!r}: expected 1 to {POOL_MAX} credentials, got {len(credentials)}")
        if len(set(credentials)) < len(credentials):
            raise UsageError(f"pool {name!r}: two of its credentials have the same name")
        for credential in credentials:
            if not _CREDENTIAL.fullmatch(credential):
                raise UsageError(
                    f"pool {name!r}: credential {credential!r}: expected a name of up to {CREDENTIAL_MAX} letters, "
                    "digits, _ and -"
                )
    wire = {name: list(credentials) for name, credentials in pools.items()}
    return Command("steer", ("pools", orjson.dumps(wire)), lambda _: None)


def retire_credential(pool: str, credential: str) -> Command[list[str]]:
    """Remove a credential until its pool is redefined, unless it is the last; the reply is those that remain."""
    return Command("steer", ("retire", pool, credential), lambda reply: [name.decode() for name in reply[1:]])


def limit_history(instance: str) -> Command[list[Change]]:
    """Read what was learned about a limit instance, newest first."""

    def parse(reply: Any) -> list[Change]:
        changes = []
        for line in reply:
            at, limit, window, source, trial = map(float, line.split())
            changes.append(Change(int(at), limit, window / US, SOURCES[int(source)], trial))
        return changes

    return Command("look", ("history", instance), parse)
