"""Which tasks a verb is about: by resource, host, group, or an expression over the task."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from scrapeq.errors import ExpressionError, UsageError

if TYPE_CHECKING:
    from scrapeq.expression import Expression
    from scrapeq.queue import Queue
    from scrapeq.task import State, Task

# What --where may name: the task's own members, and those of its request.
NAMES = (
    "id", "state", "priority", "group", "attempts", "expiries", "releases", "error", "status",
    "resource", "method", "url", "host", "depth", "page", "seed", "parent",
)  # fmt: skip
PIECE = 500  # tasks read in one call
GROUP_END = ","  # ends a group's name, and means nothing to a person

_STATUS = re.compile(r"(\d{3})\b", re.ASCII)


@dataclass(frozen=True, slots=True)
class Selection:
    """Conditions that a task must meet, all of them; an empty one is met by every task."""

    resource: str = ""
    host: str = ""
    group: str = ""
    where: Expression | None = None

    @property
    def is_all(self) -> bool:
        """No condition at all."""
        return not (self.resource or self.host or self.group or self.where)

    def holds(self, task: Task) -> bool:
        """Whether the task is meant."""
        facts = facts_of(task)
        return (
            (not self.resource or facts["resource"] == self.resource)
            and (not self.host or facts["host"] == self.host)
            and (not self.group or facts["group"].rstrip(GROUP_END) == self.group.rstrip(GROUP_END))
            and (self.where is None or bool(self.where.evaluate(facts)))
        )


def selection(resource: str = "", host: str = "", group: str = "", where: str = "") -> Selection:
    """The conditions of the options. Raises UsageError for an expression that does not parse."""
    compiled = None
    if where:
        from scrapeq.expression import compile_expression

        try:
            compiled = compile_expression(where, NAMES)
        except ExpressionError as error:
            hint = error.hint or 'for example --where "status == 503 and attempts > 1"'
            raise UsageError(
                f"--where: {error.message}\n  {where}\n  {' ' * error.position}^ {hint}"
            ) from None
    return Selection(resource, host, group, compiled)


def facts_of(task: Task) -> dict[str, Any]:
    """A task as names for people, JSON and expressions; `status` is read from the error's text, null without one."""
    request: Mapping[str, Any] = task.payload if isinstance(task.payload, Mapping) else {}
    status = _STATUS.match(task.last_error)
    url = str(request.get("url") or "")
    return {
        "id": task.id,
        "state": task.state,
        "priority": task.priority,
        "group": task.group,
        "attempts": task.attempts,
        "expiries": task.expiries,
        "releases": task.releases,
        "error": task.last_error,
        "status": int(status[1]) if status else None,
        "resource": request.get("resource"),
        "method": request.get("method"),
        "url": url,
        "host": _host(url),
        "depth": request.get("depth"),
        "page": request.get("page"),
        "seed": request.get("seed"),
        "parent": request.get("parent"),
    }


def json_of(task: Task) -> dict[str, Any]:
    """A task as --json shows it."""
    facts = facts_of(task)
    return {**facts, "due_in_s": task.due_in_s, "payload": task.payload}


def _host(url: str) -> str:
    try:
        return urlsplit(url).netloc.rpartition("@")[2]
    except ValueError:
        return ""


async def selected(queue: Queue, state: State, wanted: Selection, at_most: int) -> AsyncIterator[Task]:
    """The tasks of a state that are meant, in their order, among the first `at_most`; it takes none of them."""
    if state == "ready":  # merged from many groups: read in one piece, there is no offset to go on from
        for task in await queue.peek(at_most, state):
            if wanted.holds(task):
                yield task
        return
    for offset in range(0, at_most, PIECE):
        ids = await queue.ids(state, min(PIECE, at_most - offset), offset)
        if not ids:
            return
        for found in await queue.get(*ids):
            if found is not None and found.state == state and wanted.holds(found):
                yield found


def task_ids(given: list[str]) -> list[str]:
    """Ids as the queue writes them; leading zeros may be left out. Raises UsageError."""
    for id_ in given:
        if not (id_.isascii() and id_.isdigit() and len(id_) <= 12):
            raise UsageError(
                f"{id_!r} is no task id: a number of up to 12 digits, as `scrapeq peek` shows it"
            )
    return [id_.zfill(12) for id_ in given]


def short_id(id_: str) -> str:
    """An id without its leading zeros."""
    return id_.lstrip("0") or "0"
