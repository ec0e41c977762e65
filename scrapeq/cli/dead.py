"""The command `dead`: list, show, redrive and drop dead letters."""

from __future__ import annotations

import re
from collections import Counter
from typing import TYPE_CHECKING, Annotated, Any

import typer

from scrapeq.cli.error_output import print_message
from scrapeq.cli.formatting import count, counted, cut, safe, table
from scrapeq.cli.options import CountOption, HostOption, ResourceOption, WhereOption
from scrapeq.cli.queue_access import terminal_width, with_queue, with_store
from scrapeq.cli.selection import (
    BATCH,
    Selection,
    facts_of,
    json_of,
    select_tasks,
    selection,
    short_id,
    task_ids,
)
from scrapeq.cli.settings import Settings, write_json
from scrapeq.errors import UsageError
from scrapeq.exit_codes import Exit

if TYPE_CHECKING:
    from scrapeq.queue import Queue
    from scrapeq.task import Task

_REQUEST = re.compile(r"[A-Z]+ https?://\S+: ")
_HOOK = re.compile(r"(?:handler|on_page|on_item) \S+: [^:]+")
ROWS = 20
REASON_WIDTH = 60
REASONS_SHOWN = 6
PIPE_WIDTH = 10_000  # columns of the line of reasons where the output is not a terminal

IdsArgument = Annotated[
    list[str] | None, typer.Argument(metavar="ID...", help="Ids of dead letters; see scrapeq dead list.")
]
AllOption = Annotated[bool, typer.Option("--all", help="All dead letters.")]

app = typer.Typer(invoke_without_command=True, rich_markup_mode=None)


def register(parent: typer.Typer) -> None:
    """Add the command and its subcommands."""
    parent.add_typer(app, name="dead", rich_help_panel="Manage")


@app.callback()
def dead(ctx: typer.Context) -> None:
    """
    List, redrive and drop dead letters: tasks that failed for good. Without a subcommand it lists them.

    \b
        scrapeq dead redrive --where "status == 503"
    """
    if ctx.invoked_subcommand is None:
        _list(ctx.obj, selection(), ROWS)


@app.command("list")
def list_(
    ctx: typer.Context,
    number: CountOption = ROWS,
    resource: ResourceOption = "",
    host: HostOption = "",
    where: WhereOption = "",
) -> int:
    """
    List dead letters, oldest first, and count their reasons.

    \b
        scrapeq dead list --where "attempts >= 5"
    """
    return _list(ctx.obj, selection(resource, host, where=where), number)


def _list(settings: Settings, conditions: Selection, number: int) -> int:
    async def read(queue: Queue) -> tuple[int, list[Task], Counter[str], int]:
        total = (await queue.counts()).dead
        shown: list[Task] = []
        reasons: Counter[str] = Counter()
        async for task in select_tasks(queue, "dead", conditions, total):
            reasons[_reason(task)] += 1
            if len(shown) < number:
                shown.append(task)
        return total, shown, reasons, sum(reasons.values())

    total, shown, reasons, matched = with_queue(settings.plan(credentials=False), read)
    if settings.json:
        for task in shown:
            settings.print_json(json_of(task))
        return Exit.DONE
    if not matched:
        print("no dead letters" if not total else f"none of {counted(total, 'dead letter')} matches")
        return Exit.DONE
    of_total = "" if matched == total else f" of {count(total)}"
    common = ", ".join(f"{count(times)} {reason}" for reason, times in reasons.most_common(REASONS_SHOWN))
    more = f", {len(reasons) - REASONS_SHOWN} other reasons" if len(reasons) > REASONS_SHOWN else ""
    print(cut(f"{counted(matched, 'dead letter')}{of_total}: {common}{more}", terminal_width() or PIPE_WIDTH))
    rows = [("ID", "RESOURCE", "ATTEMPTS", "ERROR", "URL")]
    for task in shown:
        facts = facts_of(task)
        rows.append(
            (
                short_id(task.id),
                safe(str(facts["resource"] or "")),
                str(task.attempts),
                cut(safe(task.last_error), REASON_WIDTH),
                safe(facts["url"]),
            )
        )
    print("\n".join(table(rows, terminal_width())))
    if matched > len(shown):
        print(f"{count(matched - len(shown))} more: scrapeq dead list -n {matched}")
    settings.note("next: scrapeq dead show ID | redrive ID... | drop ID...   (or --where, or --all)")
    return Exit.DONE


def _reason(task: Task) -> str:
    """Return the error without the request and details, so that similar dead letters have the same reason."""
    error = _REQUEST.sub("", safe(task.last_error))
    hook = _HOOK.match(error)
    reason = hook[0] if hook else error.partition(": ")[0]
    return cut(reason, REASON_WIDTH) or "unknown reason"


@app.command()
def show(
    ctx: typer.Context,
    id_: Annotated[str, typer.Argument(metavar="ID", help="Id of a task; see scrapeq dead list.")],
) -> int:
    """
    Show a task with its error, request and payload. It need not be dead.

    \b
        scrapeq dead show 93311
    """
    settings: Settings = ctx.obj
    (full_id,) = task_ids([id_])

    async def read(queue: Queue) -> Task | None:
        return (await queue.get(full_id))[0]

    task = with_queue(settings.plan(credentials=False), read)
    if task is None:
        raise UsageError(f"task {short_id(full_id)} does not exist; see scrapeq dead list")
    if settings.json:
        settings.print_json(json_of(task))
        return Exit.DONE
    facts = facts_of(task)
    rows = [
        (name, safe(str(facts[name])))
        for name in ("id", "state", "resource", "method", "url", "group", "error")
    ]
    rows.append(
        ("attempts", f"{task.attempts} charged, {task.releases} released, {task.expiries} leases expired")
    )
    rows.append(("priority", f"{task.priority:.17g}"))
    print("\n".join(f"{name:9} {value}" for name, value in rows if value not in ("", "None")))
    print("payload")
    write_json(task.payload, indent=True)
    return Exit.DONE


@app.command()
def redrive(
    ctx: typer.Context,
    ids: IdsArgument = None,
    all_: AllOption = False,
    resource: ResourceOption = "",
    host: HostOption = "",
    where: WhereOption = "",
) -> int:
    """
    Make dead letters ready again, with their attempts reset to 0.

    \b
        scrapeq dead redrive --where "status == 503"

    Exit codes: 0 done, 2 an ID is not a dead letter (the others were redriven) or wrong usage.
    """
    return _change(ctx.obj, "redrive", ids or [], all_, selection(resource, host, where=where))


@app.command()
def drop(
    ctx: typer.Context,
    ids: IdsArgument = None,
    all_: AllOption = False,
    resource: ResourceOption = "",
    host: HostOption = "",
    where: WhereOption = "",
) -> int:
    """
    Delete dead letters permanently.

    \b
        scrapeq dead drop --where "status == 404"

    Exit codes: 0 done, 2 an ID is not a dead letter (the others were deleted) or wrong usage.
    """
    return _change(ctx.obj, "drop", ids or [], all_, selection(resource, host, where=where))


def _change(settings: Settings, verb: str, texts: list[str], all_: bool, conditions: Selection) -> int:
    if bool(texts) + all_ + (not conditions.is_all) != 1:
        raise UsageError(
            f"dead {verb}: give either IDs, or conditions (--where, --resource, --host), or --all"
        )
    ids = task_ids(texts)

    async def change(queue: Queue, client: Any) -> tuple[int, list[str]]:
        result = await change_letters(queue)
        if (
            verb == "redrive" and result[0]
        ):  # the next run continues the finished one instead of starting a new one
            from scrapeq.supervise.run_state import RunState

            await RunState(client, queue).reopen()
        return result

    async def change_letters(queue: Queue) -> tuple[int, list[str]]:
        act = queue.redrive if verb == "redrive" else queue.drop
        if ids:
            results = await act(*ids)
            return sum(results), [id_ for id_, changed in zip(ids, results, strict=True) if not changed]
        total = (await queue.counts()).dead  # leaves out the tasks that die from now on
        matched = [task.id async for task in select_tasks(queue, "dead", conditions, total)]
        changed = 0
        for start in range(0, len(matched), BATCH):
            changed += sum(await act(*matched[start : start + BATCH]))
        return changed, []

    changed, missed = with_store(settings.plan(credentials=False), change)
    if settings.json:
        settings.print_json({verb: changed, "not_dead": missed})
    else:
        if changed or not missed:
            print(f"{counted(changed, 'dead letter')} {'redriven' if verb == 'redrive' else 'deleted'}")
        if verb == "redrive" and changed:
            settings.note("next: scrapeq run   (unless a run is active)")
    for id_ in missed:
        print_message(f"error: task {short_id(id_)} is not a dead letter")
    return Exit.USAGE if missed else Exit.DONE
