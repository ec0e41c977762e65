"""The verbs and the options that all of them have."""

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
from scrapeq.cli.error_output import say
from scrapeq.cli.settings import Settings, Verbosity

VALUED = {"-c": "-c", "--config": "-c", "--redis": "--redis"}
SHORT_HELP = 90  # characters
FLAGS = {"--json", "-q", "--quiet", "-v", "--verbose"}

FAMILIES = ("Run", "Watch", "Steer", "Data", "Check")  # the order of the help


class Verbs(TyperGroup):
    """The verbs by family, in plain text: drawing boxes would take longer than the rest of the help."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """One section a family."""
        commands = {name: self.get_command(ctx, name) for name in self.list_commands(ctx)}
        for family in FAMILIES:
            rows = [
                (name, command.get_short_help_str(SHORT_HELP))
                for name, command in commands.items()
                if command is not None and getattr(command, "rich_help_panel", "") == family
            ]
            if rows:
                with formatter.section(family):
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


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"scrapeq {importlib.import_module('scrapeq').__version__}")
        raise typer.Exit


@app.callback()
def scrapeq(
    ctx: typer.Context,
    config: Annotated[
        str,
        typer.Option(
            "-c", "--config", metavar="FILE", help="The YAML file; else SCRAPEQ_CONFIG, else what ran here."
        ),
    ] = "",
    redis: Annotated[
        str, typer.Option("--redis", metavar="URL", help="The store; wins over redis.url.")
    ] = "",
    json: Annotated[bool, typer.Option("--json", help="Answer in JSON.")] = False,
    quiet: Annotated[bool, typer.Option("-q", "--quiet", help="Say nothing but errors.")] = False,
    verbose: Annotated[bool, typer.Option("-v", "--verbose", help="Say more.")] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """
    Scrape what matters most first, as fast as the limits allow, and lose nothing.

    \b
        scrapeq run api.yaml

    These options may stand before the verb or after it.
    """
    if quiet and verbose:
        raise typer.BadParameter("-q and -v contradict each other")
    verbosity: Verbosity = "quiet" if quiet else "verbose" if verbose else "normal"
    ctx.obj = Settings(config=config, redis=redis, json=json, verbosity=verbosity)
    ctx.obj.log_to(say, store_warnings=False)


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


def globals_first(argv: Sequence[str]) -> list[str]:
    """The options that all verbs have, moved before the verb; what stands behind `--` stays."""
    front: list[str] = []
    rest: list[str] = []
    words = iter(argv)
    for word in words:
        name, equals, _ = word.partition("=")
        if word == "--":
            rest += [word, *words]
        elif word in VALUED:
            front += [VALUED[word], *list(_first(words))]
        elif word in FLAGS or (equals and name.startswith("--") and name in VALUED):
            front.append(word)
        else:
            rest.append(word)
    return front + rest


def _first(words: object) -> Sequence[str]:
    """The next word, if there is one: without it the option parser says what is missing."""
    return [word for _, word in zip(range(1), words, strict=False)]  # type: ignore[call-overload]
