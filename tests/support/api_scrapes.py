"""How the tests of the example configurations run them: the real command in a folder of its own, against a stand-in."""

from __future__ import annotations

import contextlib
import csv
import gzip
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import orjson
from standins.base import Standin

ROOT = Path(__file__).parents[2]
FOLDERS = (ROOT / "configs", ROOT / "tests" / "data" / "config" / "apis")
LIMIT_S = 60.0
# Nothing of a newcomer's surroundings is taken over but what a program needs to start.
KEPT = ("PATH", "HOME", "PYTHONPATH", "LANG", "TMPDIR", "CI")


class Command:
    """
    The command on one file of a folder.

    Args:
        folder: Where it runs; outputs and the store are there.
        file: The configuration's name.
        env: The environment that the file asks for.
        settings: `--set` of every run.
    """

    def __init__(
        self,
        folder: Path,
        file: str,
        *,
        env: dict[str, str] | None = None,
        settings: dict[str, Any] | None = None,
    ) -> None:
        self.folder, self.file = folder, file
        self.env = {key: value for key, value in os.environ.items() if key in KEPT} | (env or {})
        self.settings = settings or {}

    def command(self, *args: str) -> list[str]:
        """The run of this configuration."""
        settings = [f"--set={key}={orjson.dumps(value).decode()}" for key, value in self.settings.items()]
        return [sys.executable, "-m", "scrapeq", "run", self.file, "--progress", "lines", *settings, *args]

    def run(self, *args: str, code: int = 0) -> str:
        """One whole run; what it said. It must end with that code."""
        done = subprocess.run(
            self.command(*args),
            cwd=self.folder,
            env=self.env,
            capture_output=True,
            text=True,
            timeout=LIMIT_S,
        )
        said = f"{done.stdout}\n{done.stderr}"
        assert done.returncode == code, f"{done.returncode}: {said}\n{self.log()}"
        assert "Traceback" not in said
        return said

    def log(self) -> str:
        """What was asked, for a failing test to tell."""
        return ""

    def jsonl(self, path: str) -> list[dict[str, Any]]:
        """The records of one file, which must end with a whole line."""
        file = self.folder / path
        if not file.exists():
            return []
        data = gzip.decompress(file.read_bytes()) if path.endswith(".gz") else file.read_bytes()
        assert not data or data.endswith(b"\n")
        return [orjson.loads(line) for line in data.splitlines()]

    def csv(self, path: str) -> list[dict[str, str]]:
        """The rows of one file."""
        with (self.folder / path).open(newline="", encoding="utf-8") as file:
            return list(csv.DictReader(file))

    def table(self, path: str, name: str) -> list[dict[str, Any]]:
        """The rows of a table of one SQLite file."""
        with contextlib.closing(sqlite3.connect(f"file:{self.folder / path}?mode=ro", uri=True)) as database:
            database.row_factory = sqlite3.Row
            return [dict(row) for row in database.execute(f'SELECT * FROM "{name}"')]


class Scrape(Command):
    """
    One configuration of the project in a folder of its own, against a stand-in.

    Args:
        folder: Where it runs; outputs and the store are there.
        name: The configuration's file, without `.yaml`.
        api: What it is pointed at.
        base: What follows the stand-in's address in `client.base_url`.
        env: The environment that the file asks for.
        settings: `--set` of every run, in place of limits and page sizes that are made for the real one.
    """

    def __init__(
        self,
        folder: Path,
        name: str,
        api: Standin,
        base: str = "",
        *,
        env: dict[str, str] | None = None,
        settings: dict[str, Any] | None = None,
    ) -> None:
        settings = {"client.base_url": f"{api.url}{base}", **(settings or {})}
        super().__init__(folder, f"{name}.yaml", env=env, settings=settings)
        self.api = api
        found = next(path / self.file for path in FOLDERS if (path / self.file).exists())
        shutil.copy(found, folder)
        for beside in found.parent.glob("*.csv"):
            shutil.copy(beside, folder)

    def killed(self, after_requests: int) -> None:
        """A run whose first process is killed for real once the stand-in was asked so often."""
        command = self.command()
        program = command.index("-m")
        command[program : program + 2] = [str(Path(__file__).with_name("short_leases.py"))]
        process = subprocess.Popen(
            command,
            cwd=self.folder,
            env=self.env,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        deadline = time.monotonic() + LIMIT_S
        try:
            while len(self.api.asked) < after_requests:
                assert process.poll() is None, "it ended before it could be killed"
                assert time.monotonic() < deadline, self.log()
                time.sleep(0.002)
        finally:
            process.send_signal(signal.SIGKILL)
            process.wait(LIMIT_S)

    def log(self) -> str:
        """What was asked, for a failing test to tell."""
        return "\n".join(f"{one.status} {'refused ' * one.refused}{one.url}" for one in self.api.asked[-60:])


def newest_of(records: list[dict[str, Any]], key: str) -> dict[Any, dict[str, Any]]:
    """The last line of each key: a file that is added to has an older one before it."""
    return {record[key]: record for record in records}
