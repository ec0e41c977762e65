"""The verb `peek`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from scrapeq.cli.formatting import count, safe, span, table
from scrapeq.cli.open_queue import width, with_queue
from scrapeq.cli.options import CountOption, GroupOption, HostOption, ResourceOption, WhereOption
from scrapeq.cli.selection import GROUP_END, facts_of, json_of, selected, selection, short_id
from scrapeq.cli.settings import Settings
from scrapeq.cli.status import STATES
from scrapeq.errors import UsageError
from scrapeq.exit_codes import Exit

if TYPE_CHECKING:
    from scrapeq.queue import Counts, Queue
    from scrapeq.task import State, Task

PEEKED = 10
LOOKED_AT = 10_000  # tasks that a condition is tried on


def register(app: typer.Typer) -> None:
    """Add this verb."""
    app.command(rich_help_panel="Watch")(peek)


def peek(
    ctx: typer.Context,
    number: CountOption = PEEKED,
    state: Annotated[
        str, typer.Option("--state", metavar="STATE", help="ready, delayed, leased or dead.")
    ] = "ready",
    resource: ResourceOption = "",
    host: HostOption = "",
    group: GroupOption = "",
    where: WhereOption = "",
) -> int:
    """
    Show the next tasks, best first, and take none of them.

    \b
        scrapeq peek -n 20 --state delayed
    """
    settings: Settings = ctx.obj
    if state not in STATES:
        raise UsageError(f"--state: {state!r} is none; one of {', '.join(STATES)}")
    wanted = selection(resource, host, group, where)
    of: State = state  # type: ignore[assignment]

    async def read(queue: Queue) -> tuple[list[Task], Counts]:
        found: list[Task] = []
        at_most = number if wanted.is_all else max(number, LOOKED_AT)
        async for task in selected(queue, of, wanted, at_most):
            found.append(task)
            if len(found) == number:
                break
        return found, await queue.counts()

    found, counts = with_queue(settings.plan(credentials=False), read)
    if settings.json:
        for task in found:
            settings.print_json(json_of(task))
        return Exit.DONE
    total = getattr(counts, state)
    if not found:
        others = ", ".join(f"{count(getattr(counts, other))} {other}" for other in STATES if other != state)
        print(
            f"no task is {state}; {others}"
            if not total or wanted.is_all
            else f"none of {count(total)} is meant"
        )
        return Exit.DONE
    rows = [("ID", "PRIORITY", "DUE", "RESOURCE", "REQUEST", "GROUP"), *map(_peek_row, found)]
    print("\n".join(table(rows, width())))
    if total > len(found) and wanted.is_all:
        settings.note(f"{count(total - len(found))} more are {state}")
    return Exit.DONE


def _peek_row(task: Task) -> tuple[str, ...]:
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
