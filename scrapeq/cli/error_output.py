"""Report the error that ended a command: one message on standard error, and an exit code."""

from __future__ import annotations

import errno
import os
import sys
import time
from contextlib import suppress
from pathlib import Path

from scrapeq.errors import ConfigError, ExpressionError, Problem
from scrapeq.exit_codes import Exit, exit_code_of
from scrapeq.private_files import private_folder

FOLDER = Path(".scrapeq")  # the data folder of a run, in the directory in which the command was started
CRASH_LOG = "crash.log"
DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EIO)


def print_message(text: str) -> None:
    """Print a message for the user on standard error; standard output is for data."""
    with suppress(OSError):  # the reader of standard error is gone
        print(text, file=sys.stderr, flush=True)


def report_error(error: BaseException) -> Exit:
    """Print what went wrong and return the exit code; an unexpected error is logged with its traceback."""
    if isinstance(error, SystemExit):
        return Exit(error.code) if isinstance(error.code, int) else Exit.INTERNAL
    if isinstance(error, BrokenPipeError):
        return _drop_stdout()
    code = exit_code_of(error)
    if code is not None:
        _print_error(error)
        return code
    usage = getattr(error, "format_message", None)  # an error of click, the option parser
    if usage is not None and hasattr(error, "exit_code"):
        _print_usage_error(error, usage())
        return Exit.USAGE
    if type(error).__name__ == "Abort":  # how click reports end of input at a prompt, or a Ctrl-C
        if isinstance(error.__cause__, KeyboardInterrupt):
            return report_error(error.__cause__)
        print_message("error: aborted; nothing was changed")
        return Exit.USAGE
    if isinstance(error, OSError) and error.filename is None and error.errno in DISK_ERRORS:
        print_message(f"error: standard output cannot be written: {error.strerror}")
        _drop_stdout()
        return Exit.OUTPUT
    return _report_crash(error)


def _drop_stdout() -> Exit:
    """Point standard output to the null device: in `scrapeq peek | head` the reader may close the pipe early."""
    os.dup2(
        os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno()
    )  # Python would report the pipe when it exits
    return Exit.DONE


def _print_error(error: BaseException) -> None:
    if isinstance(error, KeyboardInterrupt):
        print_message("stopped")
    elif isinstance(error, ConfigError):
        for problem in error.problems:
            print_message(f"error: {problem_text(problem)}")
    elif isinstance(error, ExpressionError):
        print_message(f"error: {error.message}" + (f"\n  {error.hint}" if error.hint else ""))
    else:
        print_message(
            "\n  ".join([f"error: {error or type(error).__name__}", *getattr(error, "__notes__", ())])
        )


def problem_text(problem: Problem) -> str:
    """Return `file:line:col: field: message` and the hint; `file: …` if the problem concerns the whole file."""
    return str(problem) if problem.line else str(problem).replace(":0:0:", ":", 1)


def _print_usage_error(error: BaseException, message: str) -> None:
    context = getattr(error, "ctx", None)
    command = context.command_path if context is not None else "scrapeq"
    print_message(f"error: {message[:1].lower()}{message[1:]}\n  try: {command} --help")


def _report_crash(error: BaseException) -> Exit:
    import traceback

    log = _log_traceback("".join(traceback.format_exception(error)))
    summary = (str(error).strip().splitlines() or [""])[0]
    print_message(
        f"error: internal: {type(error).__name__}: {summary}\n  the traceback is in {log}; please report it"
    )
    return Exit.INTERNAL


def _log_traceback(text: str) -> Path | str:
    """Append the traceback to a log in the data folder, else in the temporary folder; return its path."""
    import tempfile

    time_text = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    for folder in (FOLDER, Path(tempfile.gettempdir())):
        path = folder / (CRASH_LOG if folder is FOLDER else f"scrapeq-{os.getpid()}-{CRASH_LOG}")
        try:
            if folder is FOLDER:
                private_folder(folder)
            file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW, 0o600)
            with os.fdopen(file, "a", encoding="utf-8", errors="replace") as log:
                log.write(f"{time_text} scrapeq {' '.join(sys.argv[1:2])}\n{text}\n")
        except OSError:
            continue
        return path
    return "no file (neither the data folder nor the temporary folder is writable)"
