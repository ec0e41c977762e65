"""The verb that begins: init."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from scrapeq.cli.settings import LAST_CONFIG as FILE
from scrapeq.cli.settings import Settings
from scrapeq.errors import UsageError
from scrapeq.exit_codes import Exit

STDOUT = STDIN = "-"


def register(app: typer.Typer) -> None:
    """Add this verb."""
    app.command(rich_help_panel="Run")(init)


def init(
    ctx: typer.Context,
    output: Annotated[
        str, typer.Option("-o", "--output", metavar="FILE", help="The file to write; - is standard output.")
    ] = FILE,
    curl: Annotated[
        str | None,
        typer.Option(
            "--curl", metavar="COMMAND", help="A curl command to begin from; - reads standard input."
        ),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Write over a file that is there.")] = False,
) -> int:
    """
    Write a configuration to begin with; it validates and runs.

    \b
        scrapeq init --curl "curl https://api.example.com/v1/items?per_page=100 -H 'Authorization: Bearer …'"

    Without --curl it scrapes the sample API. With it, it asks for what the command asks for; what a browser copies
    as cURL will do. Credentials become ${env:…}, and are not in the file.
    """
    settings: Settings = ctx.obj
    target = Path(output)
    if output != STDOUT and target.exists() and not force:
        raise UsageError(f"{output} is there already; --force writes over it, -o FILE writes another")
    notes: list[str] = []
    exports: list[str] = []
    if curl is not None:
        from scrapeq.cli.curl import read_curl
        from scrapeq.cli.curl_config import render_config

        command = sys.stdin.read() if curl == STDIN else curl
        request = read_curl(command)
        text, exports = render_config(request, output)
        notes = request.notes
    else:
        text = _start(target if output != STDOUT else Path(FILE))
    if output == STDOUT:
        sys.stdout.write(text)
        return Exit.DONE
    _write(target, text, force)
    if settings.json:
        settings.print_json({"file": output, "environment": exports, "notes": notes})
        return Exit.DONE
    for note in notes:
        settings.note(f"note: {note}")
    print(f"{output} written")
    for line in exports:
        print(f"  {line}")
    settings.note(
        f"next: scrapeq validate {output}, scrapeq -c {output} fetch --resource NAME, scrapeq run {output}"
    )
    return Exit.DONE


def _start(target: Path) -> str:
    from importlib.resources import files

    from scrapeq.cli.yaml_text import name_of

    text = files("scrapeq.cli").joinpath("start.yaml").read_text("utf-8")
    return text.replace("NAME", name_of(target.stem)).replace("FILE", str(target))


def _write(target: Path, text: str, force: bool) -> None:
    try:
        with target.open("w" if force else "x", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        raise UsageError(f"{target}: cannot be written: {error.strerror}") from None
