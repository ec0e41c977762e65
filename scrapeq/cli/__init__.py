"""The command line: one file a family of verbs. Heavy modules are imported inside the verbs, so that help is quick."""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Sequence

from scrapeq.cli.error_output import exit_of
from scrapeq.exit_codes import Exit

__all__ = ["main"]

# Python looks for circular garbage at every 700 new containers; imports and JSON make many, and hardly any garbage.
GC_CONTAINERS = 50_000


def main(argv: Sequence[str] | None = None) -> int:
    """
    Run one command line.

    Args:
        argv: What stands behind `scrapeq`; None = this process's.

    Returns:
        The exit code. Never raises: every error is one line on standard error.
    """
    gc.set_threshold(GC_CONTAINERS)
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # closed by whoever started us
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115 (open to the end)
        stream = getattr(sys, name)
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")  # a terminal without UTF-8 gets "?", not a traceback
    try:
        from scrapeq.cli.app import app, globals_first

        args = globals_first(sys.argv[1:] if argv is None else argv) or ["--help"]
        code = app(args, prog_name="scrapeq", standalone_mode=False)
        sys.stdout.flush()
        if code == Exit.SECOND_SIGNAL:  # the option parser's own answer to Ctrl-C
            raise KeyboardInterrupt
        return int(code or Exit.DONE)
    except BaseException as error:
        return int(exit_of(error))
