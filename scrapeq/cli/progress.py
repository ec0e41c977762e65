"""Choose how a run shows its progress: a live view on a terminal, lines elsewhere, or nothing."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from scrapeq.cli.error_output import print_message
from scrapeq.cli.progress_lines import Lines, ProgressOutput
from scrapeq.cli.settings import Settings


def progress_output(
    how: str, settings: Settings, runs: Sequence[tuple[str, str]], *, items: bool = False
) -> ProgressOutput:
    """
    Return the progress output for `--progress`.

    Args:
        how: auto, live, lines or none. `auto` is live if the output is a terminal, else lines.
        settings: `quiet` shows nothing; with `json` the progress goes to standard error.
        runs: Name and file of each run.
        items: An output writes items to standard output, so the progress goes to standard error.
    """
    out = sys.stderr if settings.json or items else sys.stdout
    is_terminal = out.isatty() and os.environ.get("TERM", "") not in ("", "dumb")
    if settings.verbosity == "quiet" or how == "none":
        return ProgressOutput(out, runs, show_summary=settings.verbosity != "quiet" and not settings.json)
    if how == "live" and not is_terminal:
        print_message("warning: --progress live needs a terminal; showing lines instead")
    if how in ("auto", "live") and is_terminal:
        from scrapeq.cli.live_view import LiveView

        return LiveView(out, runs)
    return Lines(out, runs)
