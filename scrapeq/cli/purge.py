"""The command `purge`: delete parts of a queue's data."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from scrapeq.cli.formatting import count, counted
from scrapeq.cli.queue_access import with_queue
from scrapeq.cli.settings import Settings
from scrapeq.errors import UsageError
from scrapeq.exit_codes import Exit

if TYPE_CHECKING:
    from scrapeq.queue import Queue

Part = Literal["tasks", "dead", "seen", "limits", "state"]

# What each option deletes. The run comes first, so that a purge that is cut short does not look like a resumable run.
DESCRIPTIONS: dict[Part, str] = {
    "state": "the run's record, the cursors of incremental resources, and the due times of schedules",
    "tasks": "all ready, delayed and leased tasks",
    "dead": "all dead letters",
    "seen": "the record of requests already made, which prevents duplicates",
    "limits": "what was learned about rate limits, including current waits",
}


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(rich_help_panel="Data")(purge)


def purge(
    ctx: typer.Context,
    tasks: Annotated[bool, typer.Option("--tasks", help="All ready, delayed and leased tasks.")] = False,
    dead: Annotated[bool, typer.Option("--dead", help="All dead letters.")] = False,
    seen: Annotated[
        bool, typer.Option("--seen", help="The record of requests already made, so they can be made again.")
    ] = False,
    state: Annotated[
        bool,
        typer.Option("--state", help="The run's record, cursors of incremental resources, due times."),
    ] = False,
    limits: Annotated[
        bool, typer.Option("--limits", help="What was learned about rate limits, with current waits.")
    ] = False,
    all_: Annotated[bool, typer.Option("--all", help="All of the above.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask for confirmation.")] = False,
) -> int:
    """
    Delete tasks, dead letters or other data from the queue. Output files are not touched.

    \b
        scrapeq purge --dead

    Exit codes: 0 deleted, 2 not confirmed or wrong usage.
    """
    settings: Settings = ctx.obj
    chosen: dict[Part, bool] = {"state": state, "tasks": tasks, "dead": dead, "seen": seen, "limits": limits}
    parts = [part for part, is_chosen in chosen.items() if is_chosen or all_]
    if not parts:
        raise UsageError("purge: choose --tasks, --dead, --seen, --state, --limits or --all")
    plan = settings.plan(credentials=False)
    if not yes and not sys.stdin.isatty():
        raise UsageError(
            f"purge --{' --'.join(parts)} cannot be undone; add --yes to confirm without a terminal"
        )

    async def confirm_and_purge(queue: Queue) -> dict[str, int] | None:
        if not yes:
            counts = await queue.counts()
            sizes = {"tasks": f" ({count(counts.live)})", "dead": f" ({count(counts.dead)})"}
            listed = "".join(f"\n  {DESCRIPTIONS[part]}{sizes.get(part, '')}" for part in parts)
            # This blocks the event loop, which is fine: nothing else runs in this process.
            if not typer.confirm(
                f"Delete permanently from the queue {plan.name}:{listed}\nContinue?", err=True
            ):
                return None
        return {part: await queue.purge(part) for part in parts}

    deleted = with_queue(plan, confirm_and_purge)
    if deleted is None:
        settings.note("nothing was deleted")
        return Exit.USAGE
    if settings.json:
        settings.print_json({"queue": plan.name, "purged": deleted})
    elif settings.verbosity != "quiet":
        names = {"seen": "the record of requests", "state": "the run's state", "limits": "the limits' state"}
        numbers = {"tasks": "task", "dead": "dead letter"}
        listed = [counted(deleted[part], one) for part, one in numbers.items() if part in deleted]
        listed += [names[part] for part in parts if part in names]
        print(f"deleted from {plan.name}: {', '.join(listed)}")
    return Exit.DONE
