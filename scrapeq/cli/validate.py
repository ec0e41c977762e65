"""The command `validate`: check configuration files."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from scrapeq.cli.error_output import print_message, problem_text
from scrapeq.cli.settings import Settings
from scrapeq.errors import ConfigError, Problem
from scrapeq.exit_codes import Exit

YAML_WIDTH = 110  # columns


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(rich_help_panel="Check")(validate)


def validate(
    ctx: typer.Context,
    files: Annotated[
        list[str] | None,
        typer.Argument(metavar="FILE...", help="Configuration files. Default: the file of -c."),
    ] = None,
    show: Annotated[
        bool, typer.Option("--show", help="Print the configuration with all defaults, secrets masked.")
    ] = False,
) -> int:
    """
    Check configuration files and report every mistake with its line and column.

    \b
        scrapeq validate api.yaml

    Exit codes: 0 all files are valid, 2 one of them is not.
    """
    settings: Settings = ctx.obj
    reports = [_report(settings, file) for file in settings.files(files or ())]
    if settings.json:
        shown = [{key: value for key, value in report.items() if show or key != "plan"} for report in reports]
        settings.print_json({"files": shown})
    else:
        for report in reports:
            _print_report(settings, report, show)
    return Exit.DONE if all(report["ok"] for report in reports) else Exit.USAGE


def _report(settings: Settings, file: str) -> dict[str, Any]:
    from scrapeq import config

    notes: list[Problem] = []
    try:
        try:
            plan = settings.load_and_check(file)
        except ConfigError as error:
            # A file of seeds may be created by another step before the run, so its absence is only a note.
            plan = settings.load_and_check(file, inputs=False)
            notes = error.problems
    except ConfigError as error:
        if not settings.json:
            for problem in error.problems:
                print_message(f"error: {problem_text(problem)}")
        return {"file": file, "ok": False, "problems": _as_json(error.problems)}
    if not settings.json:
        for problem in notes:
            settings.note(f"note: {problem_text(problem)}")
    described = {"name": plan.name, "plan": config.describe(plan)}
    return {"file": file, "ok": True, "problems": [], "notes": _as_json(notes), **described}


def _as_json(problems: list[Problem]) -> list[dict[str, Any]]:
    return [
        {"line": p.line, "col": p.col, "field": p.field, "message": p.message, "hint": p.hint}
        for p in problems
    ]


def _print_report(settings: Settings, report: dict[str, Any], show: bool) -> None:
    if not report["ok"]:
        return
    plan = report["plan"]
    if show:
        import yaml

        print(f"# {report['file']} with all defaults")
        print(yaml.safe_dump(plan, sort_keys=False, allow_unicode=True, width=YAML_WIDTH), end="")
    elif settings.verbosity != "quiet":
        names = ", ".join(resource["name"] for resource in plan["resources"])
        print(f"{report['file']}: ok, {plan['name']}: {names}")
