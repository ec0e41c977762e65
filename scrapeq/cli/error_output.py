"""What an error means for whoever called the command: one line on standard error and an exit code."""

from __future__ import annotations

import errno
import os
import sys
import time
from contextlib import suppress
from pathlib import Path

from scrapeq import errors
from scrapeq.errors import ConfigError, ExpressionError, Problem
from scrapeq.exit_codes import Exit

FOLDER = Path(".scrapeq")  # where a run keeps its data, relative to where the command was started
CRASH_LOG = "crash.log"
NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EIO)


# The first that fits counts. FetchError, ExtractError and LeaseLost are a worker's to handle: here they are a bug.
CODES: tuple[tuple[type[BaseException], Exit], ...] = (
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


def say(text: str) -> None:
    """One message for a person, on standard error; standard output is for data."""
    with suppress(OSError):  # nobody listens any more
        print(text, file=sys.stderr, flush=True)


def exit_of(error: BaseException) -> Exit:
    """Say what went wrong and return the exit code; what nobody foresaw goes to a log with its traceback."""
    if isinstance(error, SystemExit):
        return Exit(error.code) if isinstance(error.code, int) else Exit.INTERNAL
    if isinstance(error, BrokenPipeError):
        return _reader_gone()
    for kind, code in CODES:
        if isinstance(error, kind):
            _say_error(error)
            return code
    usage = getattr(error, "format_message", None)  # the option parser's own errors
    if usage is not None and hasattr(error, "exit_code"):
        _say_usage(error, usage())
        return Exit.USAGE
    if type(error).__name__ == "Abort":  # end of input at a question, or Ctrl-C
        if isinstance(error.__cause__, KeyboardInterrupt):
            return exit_of(error.__cause__)
        say("error: nothing was done")
        return Exit.USAGE
    if isinstance(error, OSError) and error.filename is None and error.errno in NO_ROOM:
        say(f"error: standard output cannot be written: {error.strerror}")
        _reader_gone()
        return Exit.OUTPUT
    return _crash(error)


def _reader_gone() -> Exit:
    """`scrapeq peek | head`: the reader has all it wanted, and that is no error."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # else Python complains at its own end
    return Exit.DONE


def _say_error(error: BaseException) -> None:
    if isinstance(error, KeyboardInterrupt):
        say("stopped")
    elif isinstance(error, ConfigError):
        for problem in error.problems:
            say(f"error: {problem_text(problem)}")
    elif isinstance(error, ExpressionError):
        say(f"error: {error.message}" + (f"\n  {error.hint}" if error.hint else ""))
    else:
        say("\n  ".join([f"error: {error or type(error).__name__}", *getattr(error, "__notes__", ())]))


def problem_text(problem: Problem) -> str:
    """`file:line:col: field: message`, the hint below; a problem of the whole file has no place in it."""
    return str(problem) if problem.line else str(problem).replace(":0:0:", ":", 1)


def _say_usage(error: BaseException, message: str) -> None:
    context = getattr(error, "ctx", None)
    path = context.command_path if context is not None else "scrapeq"
    say(f"error: {message[:1].lower()}{message[1:]}\n  {path} --help says how")


def _crash(error: BaseException) -> Exit:
    import traceback

    kept = _keep_traceback("".join(traceback.format_exception(error)))
    first = (str(error).strip().splitlines() or [""])[0]
    say(f"error: internal: {type(error).__name__}: {first}\n  the traceback is in {kept}; please report it")
    return Exit.INTERNAL


def _keep_traceback(text: str) -> Path | str:
    """Where the traceback is now: beside the data, or in the temporary folder where that cannot be written."""
    import tempfile

    moment = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    for folder in (FOLDER, Path(tempfile.gettempdir())):
        path = folder / (CRASH_LOG if folder is FOLDER else f"scrapeq-{os.getpid()}-{CRASH_LOG}")
        try:
            folder.mkdir(mode=0o700, exist_ok=True)
            file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW, 0o600)
            with os.fdopen(file, "a", encoding="utf-8", errors="replace") as log:
                log.write(f"{moment} scrapeq {' '.join(sys.argv[1:2])}\n{text}\n")
        except OSError:
            continue
        return path
    return "no file (none could be written)"
