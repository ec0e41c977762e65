"""What the options of all verbs say: which file, which store, how to answer."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TextIO

from scrapeq.cli.error_output import FOLDER, say
from scrapeq.errors import UsageError

if TYPE_CHECKING:
    from scrapeq.plan import Plan

CONFIG_VARIABLE = "SCRAPEQ_CONFIG"
LAST_CONFIG = "scrapeq.yaml"  # what init writes
REMEMBERED = FOLDER / "run.json"  # where a run keeps the names of its files
JSON_VERSION = 1  # of what --json answers

Verbosity = Literal["quiet", "normal", "verbose"]


@dataclass(frozen=True, slots=True)
class Settings:
    """The options of all verbs; `config` and `redis` empty = not given."""

    config: str = ""
    redis: str = ""
    json: bool = False
    verbosity: Verbosity = "normal"

    def files(self, given: Sequence[str] = ()) -> list[str]:
        """
        The configuration files: those of the verb, else -c, else SCRAPEQ_CONFIG, else those that ran here.

        Raises:
            UsageError: there are none.
        """
        if given:
            if self.config:
                raise UsageError("give the files either after the verb or with -c, not both")
            return list(dict.fromkeys(given))
        if self.config:
            return [self.config]
        if os.environ.get(CONFIG_VARIABLE):
            return [os.environ[CONFIG_VARIABLE]]
        remembered = read_remembered()
        if remembered:
            return remembered
        found = LAST_CONFIG if Path(LAST_CONFIG).is_file() else "FILE"
        raise UsageError(
            f"no configuration: name it with -c {found} or in {CONFIG_VARIABLE} (nothing has run in this folder yet)"
        )

    def plan(self, overrides: Mapping[str, Any] | None = None, *, credentials: bool = True) -> Plan:
        """
        The one plan that a verb is about; without `credentials` theirs need not be in the environment.

        Raises UsageError, ConfigError.
        """
        files = self.files()
        if len(files) > 1:
            raise UsageError(f"several configurations ran here: {', '.join(files)}; choose one with -c FILE")
        return self.load(files[0], overrides, credentials=credentials)

    def load(
        self,
        file: str,
        overrides: Mapping[str, Any] | None = None,
        *,
        inputs: bool = True,
        credentials: bool = True,
    ) -> Plan:
        """One file with the flags' values over it; see `config.load`. Raises ConfigError."""
        from scrapeq import config

        changes = dict(overrides or {})
        if self.redis:
            changes["redis.url"] = self.redis
        return config.load(file, overrides=changes, inputs=inputs, credentials=credentials)

    def load_whole(
        self, file: str, overrides: Mapping[str, Any] | None = None, *, inputs: bool = True
    ) -> Plan:
        """As `load`, and what the file names of other code can be used. Raises ConfigError, UsageError."""
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
        """Something a person may want to know; not with -q."""
        if self.verbosity != "quiet":
            say(text)

    def print_json(self, answer: Mapping[str, Any], *, aside: bool = False) -> None:
        """One JSON object on a line of standard output, with the version of its shape; `aside`: of standard error."""
        write_json({"v": JSON_VERSION, **answer}, out=sys.stderr if aside else None)

    def log_to(self, tell: Callable[[str], None], *, store_warnings: bool = True) -> None:
        """
        What the rooms log is told to a person: warnings, with -q errors only, with -v everything.

        `store_warnings`: what is said of the store each time it is opened; once a run is enough.
        """
        level = {"quiet": logging.ERROR, "normal": logging.WARNING, "verbose": logging.DEBUG}[self.verbosity]
        root = logging.getLogger("scrapeq")
        root.handlers[:] = [_Teller(tell)]
        root.setLevel(level)
        quiet = self.verbosity != "verbose" and not store_warnings
        logging.getLogger("scrapeq.store").setLevel(logging.ERROR if quiet else logging.NOTSET)


class _Teller(logging.Handler):
    def __init__(self, tell: Callable[[str], None]) -> None:
        super().__init__()
        self._tell = tell

    def emit(self, record: logging.LogRecord) -> None:
        self._tell(f"{record.levelname.lower()}: {record.getMessage()}")


def write_json(value: Any, *, indent: bool = False, out: TextIO | None = None) -> None:
    """JSON and a newline on standard output, or elsewhere."""
    import orjson

    options = orjson.OPT_APPEND_NEWLINE | orjson.OPT_NON_STR_KEYS | (orjson.OPT_INDENT_2 if indent else 0)
    (out or sys.stdout).write(orjson.dumps(value, option=options).decode())


def _near(file: str) -> str:
    """A file below this folder by its shortest name."""
    path, here = Path(file), Path.cwd()
    return str(path.relative_to(here)) if path.is_relative_to(here) else file


def read_remembered() -> list[str]:
    """The files of the run of this folder; empty when none is known."""
    import orjson

    with suppress(OSError, ValueError, KeyError, TypeError):
        files = orjson.loads(REMEMBERED.read_bytes())["files"]
        if all(isinstance(file, str) for file in files):
            return [_near(file) for file in files if Path(file).is_file()]
    return []
