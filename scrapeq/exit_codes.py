"""
Every exit code of the command, which error ends with which code, and which code wins when several apply.

The reference in `docs/reference/exit-codes.md` is generated from this table.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import IntEnum

from scrapeq import errors


class Exit(IntEnum):
    """An exit code of `scrapeq`; its description is in `MEANINGS`."""

    DONE = 0
    INTERNAL = 1
    USAGE = 2
    DEAD_LETTERS = 3
    GAVE_UP = 4
    STOPPED = 5
    STORE = 6
    OUTPUT = 7
    RESPONSE = 8
    SECOND_SIGNAL = 130


MEANINGS: dict[Exit, str] = {
    Exit.DONE: "success; a run has done all its work",
    Exit.INTERNAL: "internal error; the message names the file with the traceback",
    Exit.USAGE: "wrong usage or configuration",
    Exit.DEAD_LETTERS: "done, but something is missing: dead letters, or an incomplete page sequence",
    Exit.GAVE_UP: "gave up waiting for a rate limit (--max-wait); work is left",
    Exit.STOPPED: "stopped by a signal or a bound such as --for; work is left",
    Exit.STORE: "the store cannot be used, or has lost data of the run",
    Exit.OUTPUT: "an output cannot be written",
    Exit.RESPONSE: "stopped by a response (action: fail)",
    Exit.SECOND_SIGNAL: "ended at once by a second Ctrl-C or SIGTERM",
}

# The exit code of an error that ends a command: the first class that matches counts. The worker handles FetchError,
# ExtractError and LeaseLost itself, so one of them here is a bug and ends with `Exit.INTERNAL`.
ERRORS: tuple[tuple[type[BaseException], Exit], ...] = (
    (errors.UsageError, Exit.USAGE),
    (errors.ExpressionError, Exit.USAGE),
    (errors.QueueFull, Exit.STORE),
    (errors.NotDurable, Exit.STORE),
    (errors.StoreError, Exit.STORE),
    (errors.OutputError, Exit.OUTPUT),
    (errors.RateLimited, Exit.GAVE_UP),
    (errors.ScrapeqError, Exit.INTERNAL),
    (KeyboardInterrupt, Exit.SECOND_SIGNAL),
)

# When the runs of one command end with different codes, the command ends with the first of these.
PRECEDENCE = (
    Exit.STORE,
    Exit.OUTPUT,
    Exit.RESPONSE,
    Exit.USAGE,
    Exit.GAVE_UP,
    Exit.STOPPED,
    Exit.DEAD_LETTERS,
)

# The reasons for which a worker ends the whole run, by the word that it reports to the supervisor.
FATAL_REASONS: dict[str, Exit] = {
    "store": Exit.STORE,
    "output": Exit.OUTPUT,
    "limit": Exit.GAVE_UP,
    "response": Exit.RESPONSE,
    "bound": Exit.STOPPED,
}


def exit_code_of(error: BaseException) -> Exit | None:
    """Return the exit code for an error that scrapeq raises on purpose or a Ctrl-C; None for any other."""
    return next((code for kind, code in ERRORS if isinstance(error, kind)), None)


def most_important(codes: Iterable[int]) -> int:
    """Return the exit code of a command whose runs ended with these codes."""
    found = set(codes)
    return next((code for code in PRECEDENCE if code in found), Exit.DONE)
