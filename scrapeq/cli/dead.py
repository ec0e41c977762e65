"""The family of dead letters: dead list, show, redrive, drop."""

from __future__ import annotations

import re
from collections import Counter
from typing import TYPE_CHECKING, Annotated, Any

import typer

from scrapeq.cli.error_output import print_message
from scrapeq.cli.formatting import count, counted, cut, safe, table
from scrapeq.cli.open_queue import width, with_queue, with_store
from scrapeq.cli.options import CountOption, HostOption, ResourceOption, WhereOption
from scrapeq.cli.selection import PIECE, Selection, facts_of, json_of, selected, selection, short_id, task_ids
from scrapeq.cli.settings import Settings, write_json
from scrapeq.errors import UsageError
from scrapeq.exit_codes import Exit

if TYPE_CHECKING:
    from scrapeq.queue import Queue
    from scrapeq.task import Task

_REQUEST = re.compile(r"[A-Z]+ https?://\S+: ")
_HOOK = re.compile(r"(?:handler|on_page|on_item) \S+: [^:]+")
LISTED = 20
REASON_WIDTH = 60
REASONS = 6

IdsArgument = Annotated[list[str] | None, typer.Argument(metavar="ID", help="Which; see `dead list`.")]
AllOption = Annotated[bool, typer.Option("--all", help="All of them.")]

app = typer.Typer(invoke_without_command=True, rich_markup_mode=None)


def register(parent: typer.Typer) -> None:
    """Add these verbs."""
    parent.add_typer(app, name="dead", rich_help_panel="Manage")


@app.callback()
def dead(ctx: typer.Context) -> None:
    """
    Dead letters: tasks that failed for good. Alone it lists them.

    \b
        scrapeq dead redrive --where "status == 503"
    """
    if ctx.invoked_subcommand is None:
        _list(ctx.obj, selection(), LISTED)


@app.command("list")
def list_(
    ctx: typer.Context,
    number: CountOption = LISTED,
    resource: ResourceOption = "",
    host: HostOption = "",
    where: WhereOption = "",
) -> int:
    """
    List dead letters, those that died first on top, and count their reasons.

    \b
        scrapeq dead list --where "attempts >= 5"
    """
    return _list(ctx.obj, selection(resource, host, where=where), number)


def _list(settings: Settings, wanted: Selection, number: int) -> int:
    async def read(queue: Queue) -> tuple[int, list[Task], Counter[str], int]:
        total = (await queue.counts()).dead
        shown: list[Task] = []
        reasons: Counter[str] = Counter()
        async for task in selected(queue, "dead", wanted, total):
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
        print("no dead letters" if not total else f"none of {counted(total, 'dead letter')} is meant")
        return Exit.DONE
    of = "" if matched == total else f" of {count(total)}"
    common = ", ".join(f"{count(times)} {reason}" for reason, times in reasons.most_common(REASONS))
    more = "" if len(reasons) <= REASONS else f", {len(reasons) - REASONS} other reasons"
    print(cut(f"{counted(matched, 'dead letter')}{of}: {common}{more}", width() or 10_000))
    rows = [("ID", "RESOURCE", "TRIES", "ERROR", "URL")]
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
    print("\n".join(table(rows, width())))
    if matched > len(shown):
        print(f"{count(matched - len(shown))} more: -n {matched}")
    settings.note("next: scrapeq dead show ID | redrive ID... | drop ID...   (or --where, or --all)")
    return Exit.DONE


def _reason(task: Task) -> str:
    """What dead letters of one kind have in common: the error without its request and its details."""
    said = _REQUEST.sub("", safe(task.last_error))
    hook = _HOOK.match(said)
    reason = hook[0] if hook else said.partition(": ")[0]
    return cut(reason, REASON_WIDTH) or "no reason known"


@app.command()
def show(
    ctx: typer.Context, id_: Annotated[str, typer.Argument(metavar="ID", help="Which; see `dead list`.")]
) -> int:
    """
    Show one task whole: its error, its request and what it carries. Any task, not only a dead one.

    \b
        scrapeq dead show 93311
    """
    settings: Settings = ctx.obj
    (wanted,) = task_ids([id_])

    async def read(queue: Queue) -> Task | None:
        return (await queue.get(wanted))[0]

    task = with_queue(settings.plan(credentials=False), read)
    if task is None:
        raise UsageError(f"there is no task {short_id(wanted)}; see scrapeq dead list")
    if settings.json:
        settings.print_json(json_of(task))
        return Exit.DONE
    facts = facts_of(task)
    rows = [
        (name, safe(str(facts[name])))
        for name in ("id", "state", "resource", "method", "url", "group", "error")
    ]
    rows.append(
        ("tries", f"{task.attempts} charged, {task.releases} given back, {task.expiries} leases ran out")
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
    Make dead letters ready again, their tries counted from 0.

    \b
        scrapeq dead redrive --where "status == 503"
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
    Delete dead letters for good.

    \b
        scrapeq dead drop --where "status == 404"
    """
    return _change(ctx.obj, "drop", ids or [], all_, selection(resource, host, where=where))


def _change(settings: Settings, verb: str, given: list[str], all_: bool, wanted: Selection) -> int:
    if bool(given) + all_ + (not wanted.is_all) != 1:
        raise UsageError(f"{verb} which? name IDs, or conditions (--where, --resource, --host), or --all")
    ids = task_ids(given)

    async def change(queue: Queue, client: Any) -> tuple[int, list[str]]:
        done = await changed_of(queue)
        if verb == "redrive" and done[0]:  # the next run does these, and does not begin anew
            from scrapeq.supervise.run_state import RunState

            await RunState(client, queue).reopen()
        return done

    async def changed_of(queue: Queue) -> tuple[int, list[str]]:
        act = queue.redrive if verb == "redrive" else queue.drop
        if ids:
            done = await act(*ids)
            return sum(done), [id_ for id_, changed in zip(ids, done, strict=True) if not changed]
        total = (await queue.counts()).dead  # what dies from now on is not meant
        matched = [task.id async for task in selected(queue, "dead", wanted, total)]
        changed = 0
        for start in range(0, len(matched), PIECE):
            changed += sum(await act(*matched[start : start + PIECE]))
        return changed, []

    changed, missed = with_store(settings.plan(credentials=False), change)
    if settings.json:
        settings.print_json({verb: changed, "not_dead": missed})
    else:
        said = "made ready again" if verb == "redrive" else "deleted"
        if changed or not missed:
            print(f"{counted(changed, 'dead letter')} {said}")
        if verb == "redrive" and changed:
            settings.note("next: scrapeq run   (if no run goes on)")
    for id_ in missed:
        print_message(f"error: {short_id(id_)} is no dead letter")
    return Exit.USAGE if missed else Exit.DONE
