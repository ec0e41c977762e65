"""The program `scrapeq`: its commands, and the options that all of them have."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from scrapeq.cli import (
    dead,
    fetch,
    init,
    limits,
    peek,
    plan,
    purge,
    run,
    scheduler,
    schema,
    seed,
    state,
    status,
    validate,
)
from scrapeq.cli.error_output import print_message
from scrapeq.cli.settings import Settings, Verbosity

OPTIONS_WITH_VALUE = {"-c": "-c", "--config": "-c", "--redis": "--redis"}
FLAGS = {"--json", "-q", "--quiet", "-v", "--verbose"}
SHORT_HELP = 90  # characters of a command's summary in the help of the program

SECTIONS = ("Run", "Watch", "Manage", "Data", "Check")  # of the help, in this order


class Verbs(TyperGroup):
    """The commands in sections of plain text: importing rich for boxes would take longer than everything else."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write one section of commands after the other."""
        commands = {name: self.get_command(ctx, name) for name in self.list_commands(ctx)}
        for section in SECTIONS:
            rows = [
                (name, command.get_short_help_str(SHORT_HELP))
                for name, command in commands.items()
                if command is not None and getattr(command, "rich_help_panel", "") == section
            ]
            if rows:
                with formatter.section(section):
                    formatter.write_dl(rows)


app = typer.Typer(
    name="scrapeq",
    cls=Verbs,
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(requested: bool) -> None:
    if requested:
        typer.echo(f"scrapeq {importlib.import_module('scrapeq').__version__}")
        raise typer.Exit


@app.callback()
def scrapeq(
    ctx: typer.Context,
    config: Annotated[
        str,
        typer.Option(
            "-c",
            "--config",
            metavar="FILE",
            help="Configuration file. Default: $SCRAPEQ_CONFIG, else the file that last ran in this directory, else "
            "scrapeq.yaml.",
        ),
    ] = "",
    redis: Annotated[
        str, typer.Option("--redis", metavar="URL", help="URL of the store; overrides redis.url.")
    ] = "",
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    quiet: Annotated[bool, typer.Option("-q", "--quiet", help="Print errors only.")] = False,
    verbose: Annotated[bool, typer.Option("-v", "--verbose", help="Print debug messages.")] = False,
    version: Annotated[
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit."),
    ] = False,
) -> None:
    """
    Scrape rate-limited APIs: the most important pages first, as fast as the limits allow, without losing any.

    \b
        scrapeq init                create scrapeq.yaml
        scrapeq run scrapeq.yaml    run it; the same command resumes it

    The options below may come before or after the command. Every command ends with exit code 0 on success, 2 for wrong
    usage or configuration, 6 if the store cannot be used, 1 for an internal error; its --help lists any others.
    """
    if quiet and verbose:
        raise typer.BadParameter("-q and -v contradict each other")
    verbosity: Verbosity = "quiet" if quiet else "verbose" if verbose else "normal"
    ctx.obj = Settings(config=config, redis=redis, json=json, verbosity=verbosity)
    ctx.obj.send_logs_to(print_message, store_warnings=False)


for module in (
    init,
    run,
    scheduler,
    status,
    peek,
    limits,
    seed,
    dead,
    state,
    purge,
    validate,
    schema,
    plan,
    fetch,
):
    module.register(app)


def global_options_first(argv: Sequence[str]) -> list[str]:
    """Return the arguments with the options of all commands moved before the command; arguments after `--` stay."""
    front: list[str] = []
    rest: list[str] = []
    words = iter(argv)
    for word in words:
        name, equals, _ = word.partition("=")
        if word == "--":
            rest += [word, *words]
        elif word in OPTIONS_WITH_VALUE:
            value = next(words, None)  # if it is missing, the option parser reports that
            front += [OPTIONS_WITH_VALUE[word], *([] if value is None else [value])]
        elif word in FLAGS or (equals and name.startswith("--") and name in OPTIONS_WITH_VALUE):
            front.append(word)
        else:
            rest.append(word)
    return front + rest
