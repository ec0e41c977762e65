"""The command line: one module per command, which imports heavy modules when it runs, so that --help stays fast."""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Sequence

from scrapeq.cli.error_output import report_error
from scrapeq.exit_codes import Exit
from scrapeq.private_files import keep_owner_bits

__all__ = ["main"]

# Python's default of 700 makes the garbage collector run all the time while modules are imported and JSON is parsed;
# both create many containers and hardly any cycles.
GC_THRESHOLD = 50_000  # new containers between two collections


def main(argv: Sequence[str] | None = None) -> int:
    """
    Run one command line.

    Args:
        argv: The arguments after `scrapeq`; None = those of this process.

    Returns:
        The exit code. It never raises: every error becomes one message on standard error.
    """
    gc.set_threshold(GC_THRESHOLD)
    keep_owner_bits()
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # the parent process closed it
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115 (stays open until the process ends)
        stream = getattr(sys, name)
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")  # print "?" where the terminal's encoding lacks a character
    try:
        from scrapeq.cli.app import app, global_options_first

        args = global_options_first(sys.argv[1:] if argv is None else argv) or ["--help"]
        code = app(args, prog_name="scrapeq", standalone_mode=False)
        sys.stdout.flush()
        if code == Exit.SECOND_SIGNAL:  # how click reports a Ctrl-C that it caught
            raise KeyboardInterrupt
        return int(code or Exit.DONE)
    except BaseException as error:
        return int(report_error(error))
