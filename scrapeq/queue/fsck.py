"""
Checks that the data of a queue is consistent. It only reads, in bounded pages, so it may run on a queue in use.

One script checks each page atomically, so tasks that move meanwhile raise no false alarm.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass, field

import redis
import redis.asyncio

from scrapeq.queue.keys import key_of
from scrapeq.queue.scripts import scripts

AREAS = (
    *("tasks", "meta", "delayed", "leased", "dead", "suspects", "groups", "lanes"),
    *("index", "parked_lanes", "parked_groups", "seen", "totals"),
)
_NAME = "fsck"
_SCAN = "scan "
_UNCHECKED = "unchecked"


@dataclass(frozen=True, slots=True)
class Finding:
    """
    One inconsistency.

    Args:
        kind: states, priority, group, token, identity, sequence, missing record, lost, stray head, stray entry, open
            and parked, empty and parked, never woken, lane, bucket, late, count, in flight.
        what: The task's id, the group, lane or limit.
        detail: What is wrong with it.
    """

    kind: str
    what: str
    detail: str = ""

    def __str__(self) -> str:
        return f"{self.kind}: {self.what}" + (f" ({self.detail})" if self.detail else "")


@dataclass(slots=True)
class Report:
    """How many tasks, groups and lanes were checked, what is inconsistent, and what could not be checked."""

    tasks: int = 0
    groups: int = 0
    lanes: int = 0
    findings: list[Finding] = field(default_factory=list)
    unchecked: list[Finding] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Whether everything that was checked is consistent."""
        return not self.findings


_Args = tuple[str | int, ...]  # of the script
_Reply = list[bytes | int]


def _check(page: int) -> Generator[_Args, _Reply, Report]:
    """Yield the arguments of each call, receive its reply, and return the report: the core of both drivers."""
    report = Report()
    found: dict[Finding, None] = {}
    todo = [(area, "") for area in AREAS]
    while todo:
        area, which = todo.pop(0)
        cursor = "0"
        while True:
            reply = yield (area, cursor, page, which)
            texts = [
                value.decode("utf-8", "replace") if isinstance(value, bytes) else value for value in reply
            ]
            cursor = str(texts[0])
            if area in ("tasks", "groups", "lanes"):
                setattr(report, area, getattr(report, area) + int(texts[1]))
            for i in range(2, len(texts), 3):
                finding = Finding(*map(str, texts[i : i + 3]))
                if finding.kind.startswith(_SCAN):
                    todo.append((finding.kind.removeprefix(_SCAN), finding.what))
                elif finding.kind == _UNCHECKED:
                    report.unchecked.append(finding)
                else:
                    found[finding] = None  # a scan may return an entry twice
            if cursor == "0":
                break
    report.findings = list(found)
    return report


async def fsck(redis: redis.asyncio.Redis, name: str, *, page: int = 500, test_clock: bool = False) -> Report:
    """
    Check the whole queue.

    Args:
        redis: A client of its store, with `decode_responses=False`.
        name: The queue's name.
        page: About how many entries one script checks.
        test_clock: As in `scripts`.
    """
    checking = _check(page)
    sha = await redis.script_load(scripts(test_clock)[_NAME].text)
    args = next(checking)
    while True:
        try:
            args = checking.send(await redis.evalsha(sha, 1, key_of(name), *args))
        except StopIteration as end:
            report: Report = end.value
            return report


def fsck_blocking(redis: redis.Redis, name: str, *, page: int = 500, test_clock: bool = False) -> Report:
    """As `fsck`, with a blocking client."""
    checking = _check(page)
    sha = redis.script_load(scripts(test_clock)[_NAME].text)
    args = next(checking)
    while True:
        try:
            args = checking.send(redis.evalsha(sha, 1, key_of(name), *args))
        except StopIteration as end:
            report: Report = end.value
            return report
