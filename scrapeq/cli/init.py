"""The command `init`: write a configuration to start from."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from scrapeq.cli.settings import DEFAULT_CONFIG, Settings
from scrapeq.errors import UsageError
from scrapeq.exit_codes import Exit

STDOUT = STDIN = "-"


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(rich_help_panel="Run")(init)


def init(
    ctx: typer.Context,
    output: Annotated[
        str, typer.Option("-o", "--output", metavar="FILE", help="File to write; - is standard output.")
    ] = DEFAULT_CONFIG,
    curl: Annotated[
        str | None,
        typer.Option(
            "--curl", metavar="COMMAND", help="Start from this curl command; - reads it from standard input."
        ),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite an existing file.")] = False,
) -> int:
    """
    Write a configuration that runs as it is, for you to change.

    \b
        scrapeq init --curl "curl https://api.example.com/v1/items?per_page=100 -H 'Authorization: Bearer …'"

    Without --curl it scrapes the bundled sample API. With --curl it sends the same request as the command, for example
    one that a browser copied with "Copy as cURL". Credentials become ${env:…} and are not written to the file.
    """
    settings: Settings = ctx.obj
    target = Path(output)
    if output != STDOUT and target.exists() and not force:
        raise UsageError(f"{output} exists; overwrite it with --force, or choose another file with -o FILE")
    notes: list[str] = []
    exports: list[str] = []
    if curl is not None:
        from scrapeq.cli.curl import read_curl
        from scrapeq.cli.curl_config import render_config

        request = read_curl(sys.stdin.read() if curl == STDIN else curl)
        text, exports = render_config(request, output)
        notes = request.notes
    else:
        text = _sample_config(target if output != STDOUT else Path(DEFAULT_CONFIG))
    if output == STDOUT:
        sys.stdout.write(text)
        return Exit.DONE
    _write(target, text, force)
    if settings.json:
        settings.print_json({"file": output, "environment": exports, "notes": notes})
        return Exit.DONE
    for note in notes:
        settings.note(f"note: {note}")
    print(f"wrote {output}")
    for line in exports:
        print(f"  {line}")
    settings.note(
        f"next: scrapeq validate {output}, scrapeq -c {output} fetch --resource NAME, scrapeq run {output}"
    )
    return Exit.DONE


def _sample_config(target: Path) -> str:
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
