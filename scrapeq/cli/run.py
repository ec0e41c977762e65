"""The command `run`: scrape until no work is left."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from scrapeq.cli.error_output import FOLDER
from scrapeq.cli.options import (
    ConcurrencyOption,
    WorkersOption,
    check_choice,
    check_resource,
    read_bound,
    read_settings,
)
from scrapeq.cli.settings import Settings

if TYPE_CHECKING:
    from scrapeq.cli.progress_lines import ProgressOutput
    from scrapeq.plan import Plan

ROLES = ("all", "fetcher", "scheduler")
PROGRESS = ("auto", "live", "lines", "none")


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(rich_help_panel="Run")(run)


def run(
    ctx: typer.Context,
    files: Annotated[
        list[str] | None,
        typer.Argument(metavar="FILE...", help="Configuration files. Default: the file of -c."),
    ] = None,
    workers: WorkersOption = None,
    concurrency: ConcurrencyOption = None,
    role: Annotated[
        str, typer.Option(metavar="ROLE", help="all, fetcher (adds no seeds) or scheduler.")
    ] = "all",
    only: Annotated[str, typer.Option(metavar="R,...", help="Start from these resources only.")] = "",
    keep_running: Annotated[
        bool, typer.Option("--keep-running", help="Stay up when no work is left, and follow the schedules.")
    ] = False,
    full_refresh: Annotated[
        bool,
        typer.Option(
            "--full-refresh",
            help="Discard an unfinished run, all cursors and dead letters; fetch everything.",
        ),
    ] = False,
    take_over: Annotated[
        bool,
        typer.Option("--take-over", help="Use the queue of a file with another file name: FILE was renamed."),
    ] = False,
    progress: Annotated[
        str, typer.Option(metavar="HOW", help="auto (live on a terminal), live, lines or none.")
    ] = "auto",
    for_: Annotated[str, typer.Option("--for", metavar="10m", help="Stop after this time.")] = "",
    max_requests: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="Stop after so many requests.")
    ] = None,
    max_items: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="Stop after so many items.")
    ] = None,
    max_wait: Annotated[
        str, typer.Option(metavar="10m", help="Give up if a rate limit stays closed for longer.")
    ] = "",
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="K=V", help="Override a key of the file: --set run.workers=4."),
    ] = None,
) -> int:
    """
    Scrape until no work is left, and show the progress. The same command resumes a stopped run.

    \b
        scrapeq run api.yaml --max-wait 10m

    Exit codes: 0 done, 3 done with dead letters, 4 gave up waiting for a limit (--max-wait), 5 stopped with work left,
    6 store, 7 output, 8 stopped by a response (action: fail), 2 usage or configuration, 1 internal error, 130 stopped
    at once by a second signal.
    """
    settings: Settings = ctx.obj
    check_choice(role, ROLES, "--role")
    check_choice(progress, PROGRESS, "--progress")
    overrides: dict[str, Any] = dict(read_settings(set_ or []))
    overrides |= {"run.workers": workers} if workers is not None else {}
    overrides |= {"run.concurrency": concurrency} if concurrency is not None else {}
    for_s, max_wait_s = read_bound(for_, "--for"), read_bound(max_wait, "--max-wait")
    plans = _load_plans(settings, settings.files(files or ()), overrides)
    resources = tuple(name.strip() for name in only.split(",") if name.strip())
    for name in resources:
        check_resource([resource.name for plan in plans for resource in plan.resources], name, "--only")

    from scrapeq.cli.progress import progress_output
    from scrapeq.supervise.options import RunOptions

    options = RunOptions(
        role=role,
        keep_running=keep_running,
        full_refresh=full_refresh,
        take_over=take_over,
        for_s=for_s,
        max_requests=max_requests,
        max_items=max_items,
        max_wait_s=max_wait_s,
        only=resources,
    )
    items = any(output.type == "stdout" for plan in plans for output in plan.outputs)
    view = progress_output(progress, settings, [(plan.name, plan.file) for plan in plans], items=items)
    settings.send_logs_to(view.event)
    code = _supervise(plans, options, view)
    if settings.json:
        settings.print_json({"exit": code, "runs": view.final()}, to_stderr=items)
    return code


def _load_plans(settings: Settings, files: list[str], overrides: dict[str, Any]) -> list[Plan]:
    """Return the plans of all files. Raises ConfigError with the mistakes of all files, or UsageError."""
    from scrapeq.errors import ConfigError, Problem

    plans: list[Plan] = []
    problems: list[Problem] = []
    for file in files:
        try:
            plans.append(settings.load_and_check(file, overrides))
        except ConfigError as error:
            problems += error.problems
    if problems:
        raise ConfigError(problems)
    return plans


def _supervise(plans: list[Plan], options: Any, view: ProgressOutput) -> int:
    from scrapeq.supervise.supervisor import run_plans_blocking

    try:
        return run_plans_blocking(plans, options, view, folder=FOLDER)
    finally:
        view.close()
