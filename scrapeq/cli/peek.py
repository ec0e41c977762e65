"""The command `peek`: show the next tasks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from scrapeq.cli.formatting import count, safe, span, table
from scrapeq.cli.options import (
    CountOption,
    GroupOption,
    HostOption,
    ResourceOption,
    WhereOption,
    check_choice,
)
from scrapeq.cli.queue_access import terminal_width, with_queue
from scrapeq.cli.selection import GROUP_END, facts_of, json_of, select_tasks, selection, short_id
from scrapeq.cli.settings import Settings
from scrapeq.cli.status import STATES
from scrapeq.exit_codes import Exit

if TYPE_CHECKING:
    from scrapeq.queue import Counts, Queue
    from scrapeq.task import State, Task

ROWS = 10
READ_MAX = 10_000  # tasks that a condition is checked against


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(rich_help_panel="Watch")(peek)


def peek(
    ctx: typer.Context,
    number: CountOption = ROWS,
    state: Annotated[
        str, typer.Option("--state", metavar="STATE", help="ready, delayed, leased or dead.")
    ] = "ready",
    resource: ResourceOption = "",
    host: HostOption = "",
    group: GroupOption = "",
    where: WhereOption = "",
) -> int:
    """
    Show the next tasks, highest priority first, without taking them.

    \b
        scrapeq peek -n 20 --state delayed
    """
    settings: Settings = ctx.obj
    check_choice(state, STATES, "--state")
    conditions = selection(resource, host, group, where)
    task_state: State = state  # type: ignore[assignment]

    async def read(queue: Queue) -> tuple[list[Task], Counts]:
        tasks: list[Task] = []
        limit = number if conditions.is_all else max(number, READ_MAX)
        async for task in select_tasks(queue, task_state, conditions, limit):
            tasks.append(task)
            if len(tasks) == number:
                break
        return tasks, await queue.counts()

    tasks, counts = with_queue(settings.plan(credentials=False), read)
    if settings.json:
        for task in tasks:
            settings.print_json(json_of(task))
        return Exit.DONE
    total = getattr(counts, state)
    if not tasks and total and not conditions.is_all:
        print(f"none of {count(total)} {state} tasks matches")
    elif not tasks:
        others = ", ".join(f"{count(getattr(counts, other))} {other}" for other in STATES if other != state)
        print(f"no {state} tasks; {others}")
    else:
        rows = [("ID", "PRIORITY", "DUE", "RESOURCE", "REQUEST", "GROUP"), *map(_row, tasks)]
        print("\n".join(table(rows, terminal_width())))
        if total > len(tasks) and conditions.is_all:
            settings.note(f"{count(total - len(tasks))} more {state} tasks")
    return Exit.DONE


def _row(task: Task) -> tuple[str, ...]:
    facts = facts_of(task)
    due = {
        "delayed": f"in {span(task.due_in_s)}",
        "leased": f"lease ends in {span(task.due_in_s)}",
        "dead": "dead",
    }
    request = f"{facts['method'] or ''} {facts['url']}".strip() or str(task.payload)
    return (
        short_id(task.id),
        f"{task.priority:.15g}",
        due.get(task.state, "now"),
        safe(str(facts["resource"] or "")),
        safe(request),
        safe(task.group).rstrip(GROUP_END),
    )
