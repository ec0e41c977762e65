"""
Every exit code of the command, and which one a run reports when several apply.

The reference in `docs/reference/exit-codes.md` is generated from this table.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import IntEnum


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
    Exit.DONE: "done",
    Exit.INTERNAL: "internal error; the message names the file with the traceback",
    Exit.USAGE: "wrong usage or configuration",
    Exit.DEAD_LETTERS: "done, but some tasks ended as dead letters",
    Exit.GAVE_UP: "gave up waiting for a rate limit (--max-wait); work is left",
    Exit.STOPPED: "stopped by a signal or a bound such as --for; work is left",
    Exit.STORE: "the store cannot be used",
    Exit.OUTPUT: "an output cannot be written",
    Exit.RESPONSE: "stopped by a response (action: fail)",
    Exit.SECOND_SIGNAL: "ended at once by a second Ctrl-C or SIGTERM",
}

# When several runs of one command end differently, the first of these that occurred is the exit code.
PRECEDENCE = (
    Exit.STORE,
    Exit.OUTPUT,
    Exit.RESPONSE,
    Exit.USAGE,
    Exit.GAVE_UP,
    Exit.STOPPED,
    Exit.DEAD_LETTERS,
)

# Why a fetcher ends the whole run, as it reports it to the supervisor.
FATAL_REASONS: dict[str, Exit] = {
    "output": Exit.OUTPUT,
    "limit": Exit.GAVE_UP,
    "response": Exit.RESPONSE,
    "bound": Exit.STOPPED,
}


def most_important(codes: Iterable[int]) -> int:
    """Return the code that a command reports when its runs ended with these codes."""
    found = set(codes)
    return next((code for code in PRECEDENCE if code in found), Exit.DONE)
