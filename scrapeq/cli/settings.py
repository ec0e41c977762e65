"""The options of all commands: which configuration and store to use, and how to print."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TextIO

from scrapeq.cli.error_output import FOLDER, print_message
from scrapeq.errors import UsageError

if TYPE_CHECKING:
    from scrapeq.plan import Plan

CONFIG_VARIABLE = "SCRAPEQ_CONFIG"
DEFAULT_CONFIG = "scrapeq.yaml"  # the file that init writes
RUN_RECORD = FOLDER / "run.json"  # where a run stores the names of its files
JSON_VERSION = 1  # of the objects that --json prints

Verbosity = Literal["quiet", "normal", "verbose"]


@dataclass(frozen=True, slots=True)
class Settings:
    """The options of all commands. An empty `config` or `redis` was not given."""

    config: str = ""
    redis: str = ""
    json: bool = False
    verbosity: Verbosity = "normal"

    def files(self, arguments: Sequence[str] = ()) -> list[str]:
        """
        Return the configuration files.

        They are the arguments, else -c, else SCRAPEQ_CONFIG, else those that last ran here, else scrapeq.yaml.

        Raises:
            UsageError: There are none.
        """
        if arguments:
            if self.config:
                raise UsageError("give configuration files either as arguments or with -c, not both")
            return list(dict.fromkeys(arguments))
        if self.config:
            return [self.config]
        if os.environ.get(CONFIG_VARIABLE):
            return [os.environ[CONFIG_VARIABLE]]
        recorded = read_run_record()
        has_default = Path(DEFAULT_CONFIG).is_file()
        if recorded:
            if has_default and DEFAULT_CONFIG not in recorded:
                self.note(
                    f"note: {', '.join(recorded)} ran here last; for {DEFAULT_CONFIG} use -c {DEFAULT_CONFIG}"
                )
            return recorded
        if has_default:
            return [DEFAULT_CONFIG]
        raise UsageError(
            f"no configuration: there is no {DEFAULT_CONFIG} in this directory and nothing ran here yet; "
            f"use -c FILE or set {CONFIG_VARIABLE}"
        )

    def file(self, argument: str | None = None) -> str:
        """Return the only configuration file. Raises UsageError if there are none or several."""
        files = self.files([argument] if argument is not None else ())
        if len(files) > 1:
            raise UsageError(f"several configurations ran here: {', '.join(files)}; choose one with -c FILE")
        return files[0]

    def plan(self, overrides: Mapping[str, Any] | None = None, *, credentials: bool = True) -> Plan:
        """
        Return the plan of the only configuration file.

        Args:
            overrides: Values by key, which replace those of the file.
            credentials: Require the environment variables that hold credentials.

        Raises:
            UsageError: There are zero or several configuration files.
            ConfigError: The file has mistakes.
        """
        return self.load(self.file(), overrides, credentials=credentials)

    def load(
        self,
        file: str,
        overrides: Mapping[str, Any] | None = None,
        *,
        inputs: bool = True,
        credentials: bool = True,
    ) -> Plan:
        """Return the plan of a file, with --redis and the overrides applied; see `config.load`. Raises ConfigError."""
        from scrapeq import config

        changes = dict(overrides or {})
        if self.redis:
            changes["redis.url"] = self.redis
        return config.load(file, overrides=changes, inputs=inputs, credentials=credentials)

    def load_and_check(
        self, file: str, overrides: Mapping[str, Any] | None = None, *, inputs: bool = True
    ) -> Plan:
        """As `load`, and import the hooks and auth plugins that the file names. Raises ConfigError, UsageError."""
        from scrapeq.errors import ConfigError
        from scrapeq.plan import STATIC_AUTHS, TOKEN_AUTHS

        plan = self.load(file, overrides, inputs=inputs)
        if any(one.handler or one.on_page or one.on_item for one in plan.resources):
            from scrapeq.worker.hook_calls import check_hooks

            if problems := check_hooks(plan):
                raise ConfigError(problems)
        if plan.client.auth.type not in (*STATIC_AUTHS, *TOKEN_AUTHS):
            from scrapeq.fetch.auth_factory import check

            check(plan.client)
        return plan

    def note(self, text: str) -> None:
        """Print a remark on standard error, unless -q was given."""
        if self.verbosity != "quiet":
            print_message(text)

    def print_json(self, fields: Mapping[str, Any], *, to_stderr: bool = False) -> None:
        """Print one JSON object on a line, with the version of its format in `v`."""
        write_json({"v": JSON_VERSION, **fields}, out=sys.stderr if to_stderr else None)

    def send_logs_to(self, show: Callable[[str], None], *, store_warnings: bool = True) -> None:
        """
        Show the log records of scrapeq: warnings, with -q only errors, with -v everything.

        Args:
            show: Called with the text of each record.
            store_warnings: Show warnings about the store, which each opening of the store repeats.
        """
        level = {"quiet": logging.ERROR, "normal": logging.WARNING, "verbose": logging.DEBUG}[self.verbosity]
        root = logging.getLogger("scrapeq")
        root.handlers[:] = [_CallbackHandler(show)]
        root.setLevel(level)
        quiet = self.verbosity != "verbose" and not store_warnings
        logging.getLogger("scrapeq.store").setLevel(logging.ERROR if quiet else logging.NOTSET)


class _CallbackHandler(logging.Handler):
    def __init__(self, show: Callable[[str], None]) -> None:
        super().__init__()
        self._show = show

    def emit(self, record: logging.LogRecord) -> None:
        self._show(f"{record.levelname.lower()}: {record.getMessage()}")


def write_json(value: Any, *, indent: bool = False, out: TextIO | None = None) -> None:
    """Write JSON and a newline to a stream; None = standard output."""
    import orjson

    options = orjson.OPT_APPEND_NEWLINE | orjson.OPT_NON_STR_KEYS | (orjson.OPT_INDENT_2 if indent else 0)
    (out or sys.stdout).write(orjson.dumps(value, option=options).decode())


def read_run_record() -> list[str]:
    """Return the files of the last run of this directory that still exist; empty if nothing ran."""
    import orjson

    with suppress(OSError, ValueError, KeyError, TypeError):
        files = orjson.loads(RUN_RECORD.read_bytes())["files"]
        if all(isinstance(file, str) for file in files):
            return [_relative(file) for file in files if Path(file).is_file()]
    return []


def _relative(file: str) -> str:
    """Return the path relative to the current directory, if it is below it."""
    path, here = Path(file), Path.cwd()
    return str(path.relative_to(here)) if path.is_relative_to(here) else file
