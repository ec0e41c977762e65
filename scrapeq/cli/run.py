"""The verb `run`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from scrapeq.cli.error_output import FOLDER
from scrapeq.cli.options import check_resource, read_bound, read_settings
from scrapeq.cli.settings import Settings
from scrapeq.errors import UsageError

if TYPE_CHECKING:
    from scrapeq.cli.progress_lines import ProgressOutput
    from scrapeq.plan import Plan

ROLES = ("all", "fetcher", "scheduler")
PROGRESS = ("auto", "live", "lines", "none")


def register(app: typer.Typer) -> None:
    """Add this verb."""
    app.command(rich_help_panel="Run")(run)


def run(
    ctx: typer.Context,
    files: Annotated[
        list[str] | None,
        typer.Argument(metavar="FILE", help="The YAML files; none: -c, or what ran here."),
    ] = None,
    workers: Annotated[int | None, typer.Option(metavar="N", min=1, help="Fetcher processes.")] = None,
    concurrency: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="Requests at once in each.")
    ] = None,
    role: Annotated[str, typer.Option(metavar="ROLE", help="all, fetcher (no seeds) or scheduler.")] = "all",
    only: Annotated[str, typer.Option(metavar="R,...", help="Begin with these resources only.")] = "",
    keep_running: Annotated[
        bool, typer.Option("--keep-running", help="Go on when nothing is left; schedules are kept.")
    ] = False,
    full_refresh: Annotated[
        bool,
        typer.Option("--full-refresh", help="Ask for everything again, also what an unfinished run had."),
    ] = False,
    progress: Annotated[str, typer.Option(metavar="HOW", help="auto, live, lines or none.")] = "auto",
    for_: Annotated[str, typer.Option("--for", metavar="10m", help="Stop after so long.")] = "",
    max_requests: Annotated[int | None, typer.Option(metavar="N", min=1, help="Stop after so many.")] = None,
    max_items: Annotated[int | None, typer.Option(metavar="N", min=1, help="Stop after so many.")] = None,
    max_wait: Annotated[
        str, typer.Option(metavar="10m", help="Give up rather than wait longer for a limit.")
    ] = "",
    set_: Annotated[
        list[str] | None, typer.Option("--set", metavar="K=V", help="Override a key: --set run.workers=4.")
    ] = None,
) -> int:
    """
    Scrape until nothing is left, and show how it goes. The same command resumes what was stopped.

    \b
        scrapeq run api.yaml --max-wait 10m

    Exit codes: 0 done, 3 done with dead letters, 4 gave up at a limit, 5 stopped, work left, 6 store, 7 output,
    8 an answer said to stop, 2 usage, 1 internal, 130 second signal.
    """
    settings: Settings = ctx.obj
    _one_of(role, ROLES, "--role")
    _one_of(progress, PROGRESS, "--progress")
    overrides: dict[str, Any] = dict(read_settings(set_ or []))
    overrides |= {"run.workers": workers} if workers is not None else {}
    overrides |= {"run.concurrency": concurrency} if concurrency is not None else {}
    for_s, max_wait_s = read_bound(for_, "--for"), read_bound(max_wait, "--max-wait")
    plans = _plans(settings, settings.files(files or ()), overrides)
    chosen = tuple(name.strip() for name in only.split(",") if name.strip())
    for name in chosen:
        check_resource([one.name for plan in plans for one in plan.resources], name, "--only")

    from scrapeq.cli.progress import progress_output
    from scrapeq.supervise.options import RunOptions

    options = RunOptions(
        role=role,
        keep_running=keep_running,
        full_refresh=full_refresh,
        for_s=for_s,
        max_requests=max_requests,
        max_items=max_items,
        max_wait_s=max_wait_s,
        only=chosen,
    )
    items = any(output.type == "stdout" for plan in plans for output in plan.outputs)
    view = progress_output(progress, settings, [(plan.name, plan.file) for plan in plans], items=items)
    settings.log_to(view.event)
    code = _supervised(plans, options, view)
    if settings.json:
        settings.print_json({"exit": code, "runs": view.final()}, aside=items)
    return code


def _plans(settings: Settings, files: list[str], overrides: dict[str, Any]) -> list[Plan]:
    """All plans, or every mistake in all files. Raises ConfigError, UsageError."""
    from scrapeq.errors import ConfigError, Problem

    plans: list[Plan] = []
    problems: list[Problem] = []
    for file in files:
        try:
            plans.append(settings.load_whole(file, overrides))
        except ConfigError as error:
            problems += error.problems
    if problems:
        raise ConfigError(problems)
    return plans


def _supervised(plans: list[Plan], options: Any, view: ProgressOutput) -> int:
    from scrapeq.supervise.supervisor import run_plans_blocking

    try:
        return run_plans_blocking(plans, options, view, folder=FOLDER)
    finally:
        view.close()


def _one_of(value: str, known: tuple[str, ...], option: str) -> None:
    if value not in known:
        raise UsageError(f"{option}: {value!r} is none; one of {', '.join(known)}")
