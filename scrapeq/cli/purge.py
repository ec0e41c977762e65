"""The verb that empties: purge."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from scrapeq.cli.formatting import count, counted
from scrapeq.cli.open_queue import with_queue
from scrapeq.cli.settings import Settings
from scrapeq.errors import UsageError
from scrapeq.exit_codes import Exit

if TYPE_CHECKING:
    from scrapeq.queue import Queue

What = Literal["tasks", "dead", "seen", "limits", "state"]

# What each option deletes, in the order in which it is done: first the run, so that nothing is taken for resumed.
MEANINGS: dict[What, str] = {
    "state": "the run, so that the next one begins anew; what incremental walks keep; when schedules are due",
    "tasks": "all tasks that wait or are under way",
    "dead": "all dead letters",
    "seen": "what was seen already, so that everything may be asked again",
    "limits": "what was learned of the limits, told waits too",
}


def register(app: typer.Typer) -> None:
    """Add this verb."""
    app.command(rich_help_panel="Data")(purge)


def purge(
    ctx: typer.Context,
    tasks: Annotated[bool, typer.Option("--tasks", help="All tasks that wait or are under way.")] = False,
    dead: Annotated[bool, typer.Option("--dead", help="All dead letters.")] = False,
    seen: Annotated[bool, typer.Option("--seen", help="What was seen already.")] = False,
    state: Annotated[
        bool, typer.Option("--state", help="The run, what incremental walks keep, when schedules are due.")
    ] = False,
    limits: Annotated[
        bool, typer.Option("--limits", help="What was learned of the limits, told waits too.")
    ] = False,
    all_: Annotated[bool, typer.Option("--all", help="All of these.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> int:
    """
    Delete what the queue holds; what was written to the outputs stays.

    \b
        scrapeq purge --dead
    """
    settings: Settings = ctx.obj
    chosen: dict[What, bool] = {"state": state, "tasks": tasks, "dead": dead, "seen": seen, "limits": limits}
    kinds = [kind for kind, wanted in chosen.items() if wanted or all_]
    if not kinds:
        raise UsageError("purge what? --tasks, --dead, --seen, --state, --limits or --all")
    plan = settings.plan(credentials=False)
    if not yes and not sys.stdin.isatty():
        raise UsageError(f"purge --{' --'.join(kinds)} deletes for good; say --yes where nobody can be asked")

    async def confirm_and_purge(queue: Queue) -> dict[str, int] | None:
        if not yes:
            found = await queue.counts()
            sizes = {"tasks": f" ({count(found.live)})", "dead": f" ({count(found.dead)})"}
            listed = "".join(f"\n  {MEANINGS[kind]}{sizes.get(kind, '')}" for kind in kinds)
            # a store that waits for an answer harms nobody: this is its only visitor, or a run's own
            if not typer.confirm(f"Delete from the queue {plan.name}:{listed}\nfor good?", err=True):
                return None
        return {kind: await queue.purge(kind) for kind in kinds}

    gone = with_queue(plan, confirm_and_purge)
    if gone is None:
        settings.note("nothing was deleted")
        return Exit.USAGE
    if settings.json:
        settings.print_json({"queue": plan.name, "purged": gone})
    elif settings.verbosity != "quiet":
        parts = [counted(gone[k], "task") for k in ("tasks",) if k in gone]
        parts += [counted(gone[k], "dead letter") for k in ("dead",) if k in gone]
        parts += [
            {"seen": "what was seen", "state": "the run's state", "limits": "the limits' state"}[k]
            for k in kinds
            if k not in ("tasks", "dead")
        ]
        print(f"deleted from {plan.name}: {', '.join(parts)}")
    return Exit.DONE
