"""Pools, for the reference model: which member of one a request is charged to."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from scrapeq.limit import is_pooled, of_credential
from scrapeq.queue.block import lane_entries, lane_name
from scrapeq.queue.replies import Entry
from scrapeq.task import Group

_POOL = re.compile(r"\*([\w-]*)", re.ASCII)


class Choice(NamedTuple):
    """What a grant would be charged to: the limit instances, and the member of the pool among them, if there is one."""

    limits: dict[str, float]  # with what a task weighs there
    credential: str = ""
    place: int = 0


def named(entry: Entry) -> Entry:
    """What a lease's holder says of a pool's limits is said of those of the member that granted it."""
    credential = entry.lease.credential
    return entry._replace(
        reported=[(of_credential(name, credential), left, reset_s) for name, left, reset_s in entry.reported],
        refused=[(of_credential(name, credential), wait_s) for name, wait_s in entry.refused],
        rates=[(of_credential(name, credential), limit, window_s) for name, limit, window_s in entry.rates],
        costs=[(of_credential(name, credential), cost) for name, cost in entry.costs],
    )


def _lane(group: Group) -> str:
    return lane_name(lane_entries(group.limits, group))


@dataclass
class Pools:
    """The members by the pools' names; and for each lane the place of the member that it used last."""

    credentials: dict[str, list[str]] = field(default_factory=dict)
    places: dict[str, int] = field(default_factory=dict)

    def _of(self, instances: Sequence[str]) -> list[str]:
        found = (_POOL.search(name) for name in instances)
        return next((self.credentials.get(match[1], []) for match in found if match), [])

    def choices(self, group: Group, only: str = "") -> Iterator[Choice]:
        """In the order in which they are asked; `only`: this member or none."""
        every = (*group.limits, group.private) if group.private else group.limits
        credentials = self._of(group.limits)
        if not credentials:
            yield Choice({name: group.weight(name) for name in every})
        at = self.places.get(_lane(group), 0)
        for step in range(len(credentials)):
            place = (at + step) % len(credentials)
            credential = credentials[place]
            if only in ("", credential):
                limits = {of_credential(name, credential): group.weight(name) for name in every}
                yield Choice(limits, credential, place)

    def took(self, group: Group, choice: Choice) -> None:
        """A grant was charged to it: the next one is asked of the same member first."""
        if choice.credential:
            self.places[_lane(group)] = choice.place

    def instances(self, name: str) -> list[str]:
        """Those that a name stands for: a pool's are its members'."""
        credentials = self._of([name]) if is_pooled(name) else []
        return [of_credential(name, credential) for credential in credentials] or [name]

    def retire(self, pool: str, credential: str) -> list[str]:
        """Out with a member, unless it is the last; who is left."""
        credentials = self.credentials.get(pool, [])
        left = [one for one in credentials if one != credential] or credentials
        if pool in self.credentials:
            self.credentials[pool] = left
        return left
