"""The command `schema`: print the JSON Schema of the configuration."""

from __future__ import annotations

import typer

from scrapeq.cli.settings import write_json
from scrapeq.exit_codes import Exit


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(rich_help_panel="Check")(schema)


def schema() -> int:
    """
    Print the JSON Schema of the configuration, for editors.

    \b
        scrapeq schema > scrapeq.schema.json
    """
    from scrapeq import config

    write_json(config.schema(), indent=True)
    return Exit.DONE
