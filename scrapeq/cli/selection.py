"""Select tasks by resource, host, group, or an expression over their facts."""

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

# The names that --where knows: the facts of a task and of its request.
NAMES = (
    "id", "state", "priority", "group", "attempts", "expiries", "releases", "error", "status",
    "resource", "method", "url", "host", "depth", "page", "seed", "parent",
)  # fmt: skip
BATCH = 500  # tasks read in one call
ID_DIGITS = 12
GROUP_END = ","  # ends the name of a group in the store; the user need not type it

_STATUS = re.compile(r"(\d{3})\b", re.ASCII)


@dataclass(frozen=True, slots=True)
class Selection:
    """Conditions that a task must meet, all of them. A Selection without conditions matches every task."""

    resource: str = ""
    host: str = ""
    group: str = ""
    where: Expression | None = None

    @property
    def is_all(self) -> bool:
        """Whether it matches every task."""
        return not (self.resource or self.host or self.group or self.where)

    def matches(self, task: Task) -> bool:
        """Return whether the task meets the conditions."""
        facts = facts_of(task)
        return (
            (not self.resource or facts["resource"] == self.resource)
            and (not self.host or facts["host"] == self.host)
            and (not self.group or facts["group"].rstrip(GROUP_END) == self.group.rstrip(GROUP_END))
            and (self.where is None or bool(self.where.evaluate(facts)))
        )


def selection(resource: str = "", host: str = "", group: str = "", where: str = "") -> Selection:
    """Return the conditions of the options. Raises UsageError if the expression does not parse."""
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
    """Return a task as the names of `NAMES`; `status` is the number that its error starts with, else None."""
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
    """Return a task as --json prints it."""
    facts = facts_of(task)
    return {**facts, "due_in_s": task.due_in_s, "payload": task.payload}


def _host(url: str) -> str:
    try:
        return urlsplit(url).netloc.rpartition("@")[2]
    except ValueError:
        return ""


async def select_tasks(queue: Queue, state: State, conditions: Selection, limit: int) -> AsyncIterator[Task]:
    """
    Yield the tasks in a state that match, in the queue's order. No task is leased or changed.

    Args:
        queue: The queue to read.
        state: ready, delayed, leased or dead.
        conditions: The conditions to match.
        limit: Only the first so many tasks in the state are read.
    """
    if state == "ready":  # merged from many groups: a second call could not continue at an offset
        for task in await queue.peek(limit, state):
            if conditions.matches(task):
                yield task
        return
    for offset in range(0, limit, BATCH):
        ids = await queue.ids(state, min(BATCH, limit - offset), offset)
        if not ids:
            return
        for task_or_none in await queue.get(*ids):
            if task_or_none is not None and task_or_none.state == state and conditions.matches(task_or_none):
                yield task_or_none


def task_ids(texts: list[str]) -> list[str]:
    """Return ids as the queue writes them; the user may omit leading zeros. Raises UsageError."""
    for text in texts:
        if not (text.isascii() and text.isdigit() and len(text) <= ID_DIGITS):
            raise UsageError(
                f"{text!r} is not a task id; an id is a number of up to {ID_DIGITS} digits, see scrapeq peek"
            )
    return [text.zfill(ID_DIGITS) for text in texts]


def short_id(id_: str) -> str:
    """Return an id without its leading zeros."""
    return id_.lstrip("0") or "0"
