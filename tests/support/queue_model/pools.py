"""The credential pools of the reference model: choosing the credential that a request is charged to."""

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
    """The limit instances that a grant would be charged to, and the credential if one of them belongs to a pool."""

    limits: dict[str, float]  # the weight of a task in each instance
    credential: str = ""
    position: int = 0  # index of the credential in its pool


def with_credential(entry: Entry) -> Entry:
    """Replace the instances of a pool in an entry by those of the credential that granted the lease."""
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
    """The credentials by pool name, and for each lane the index of the credential that it used last."""

    credentials: dict[str, list[str]] = field(default_factory=dict)
    last_used: dict[str, int] = field(default_factory=dict)

    def _of(self, instances: Sequence[str]) -> list[str]:
        found = (_POOL.search(name) for name in instances)
        return next((self.credentials.get(match[1], []) for match in found if match), [])

    def choices(self, group: Group, only: str = "") -> Iterator[Choice]:
        """Yield choices in the order in which the queue tries them; `only`: this credential or none."""
        every = (*group.limits, group.private) if group.private else group.limits
        credentials = self._of(group.limits)
        if not credentials:
            yield Choice({name: group.weight(name) for name in every})
        first = self.last_used.get(_lane(group), 0)
        for step in range(len(credentials)):
            index = (first + step) % len(credentials)
            credential = credentials[index]
            if only in ("", credential):
                limits = {of_credential(name, credential): group.weight(name) for name in every}
                yield Choice(limits, credential, index)

    def took(self, group: Group, choice: Choice) -> None:
        """Record a grant: the next one tries the same credential first."""
        if choice.credential:
            self.last_used[_lane(group)] = choice.position

    def instances(self, name: str) -> list[str]:
        """Return the instances that a name stands for: several if it names a pool."""
        credentials = self._of([name]) if is_pooled(name) else []
        return [of_credential(name, credential) for credential in credentials] or [name]

    def retire(self, pool: str, credential: str) -> list[str]:
        """Remove a credential unless it is the last; return those that remain."""
        credentials = self.credentials.get(pool, [])
        left = [one for one in credentials if one != credential] or credentials
        if pool in self.credentials:
            self.credentials[pool] = left
        return left
