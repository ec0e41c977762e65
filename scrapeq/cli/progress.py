"""How a run shows its progress: live on a terminal, in lines elsewhere, or not at all."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from scrapeq.cli.error_output import say
from scrapeq.cli.progress_lines import Lines, ProgressOutput
from scrapeq.cli.settings import Settings


def progress_output(
    how: str, settings: Settings, runs: Sequence[tuple[str, str]], *, items: bool = False
) -> ProgressOutput:
    """
    The way that fits: `auto` is live where standard output is a terminal, else lines.

    Args:
        how: auto, live, lines or none.
        settings: `quiet` shows nothing, `json` leaves standard output to the JSON.
        runs: Name and file of each run.
        items: Standard output is for items.
    """
    out = sys.stderr if settings.json or items else sys.stdout
    able = out.isatty() and os.environ.get("TERM", "") not in ("", "dumb")
    if settings.verbosity == "quiet" or how == "none":
        return ProgressOutput(out, runs, summed=settings.verbosity != "quiet" and not settings.json)
    if how == "live" and not able:
        say("warning: --progress live needs a terminal; lines are shown instead")
    if how in ("auto", "live") and able:
        from scrapeq.cli.live_view import LiveView

        return LiveView(out, runs)
    return Lines(out, runs)
