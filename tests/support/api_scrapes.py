"""Helpers that run an example configuration with the real command, in its own folder, against a stand-in."""

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
# The command inherits only the variables that a program needs to start, as in a newcomer's environment.
INHERITED = ("PATH", "HOME", "PYTHONPATH", "LANG", "TMPDIR", "CI")


class Command:
    """
    The command for one configuration file.

    Args:
        folder: The working folder, with the outputs and the store.
        file: The name of the configuration file.
        env: The environment variables that the file needs.
        settings: The `--set` options of every run.
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
        self.env = {key: value for key, value in os.environ.items() if key in INHERITED} | (env or {})
        self.settings = settings or {}

    def command(self, *args: str) -> list[str]:
        """Return the command line that runs this configuration."""
        settings = [f"--set={key}={orjson.dumps(value).decode()}" for key, value in self.settings.items()]
        return [sys.executable, "-m", "scrapeq", "run", self.file, "--progress", "lines", *settings, *args]

    def run(self, *args: str, code: int = 0) -> str:
        """Run the command and return its output. It must end with this exit code, without a traceback."""
        done = subprocess.run(
            self.command(*args),
            cwd=self.folder,
            env=self.env,
            capture_output=True,
            text=True,
            timeout=LIMIT_S,
        )
        output = f"{done.stdout}\n{done.stderr}"
        assert done.returncode == code, f"{done.returncode}: {output}\n{self.log()}"
        assert "Traceback" not in output
        return output

    def log(self) -> str:
        """Return the latest requests, for the message of a failing test."""
        return ""

    def jsonl(self, path: str) -> list[dict[str, Any]]:
        """Return the records of one file, which must end with a whole line."""
        file = self.folder / path
        if not file.exists():
            return []
        data = gzip.decompress(file.read_bytes()) if path.endswith(".gz") else file.read_bytes()
        assert not data or data.endswith(b"\n")
        return [orjson.loads(line) for line in data.splitlines()]

    def csv(self, path: str) -> list[dict[str, str]]:
        """Return the rows of one CSV file."""
        with (self.folder / path).open(newline="", encoding="utf-8") as file:
            return list(csv.DictReader(file))

    def table(self, path: str, name: str) -> list[dict[str, Any]]:
        """Return the rows of a table in a SQLite file."""
        with contextlib.closing(sqlite3.connect(f"file:{self.folder / path}?mode=ro", uri=True)) as database:
            database.row_factory = sqlite3.Row
            return [dict(row) for row in database.execute(f'SELECT * FROM "{name}"')]


class Scrape(Command):
    """
    One configuration of the project in its own folder, against a stand-in.

    Args:
        folder: The working folder, with the outputs and the store.
        name: The name of the configuration file, without `.yaml`.
        api: The stand-in to scrape.
        base: The path after the stand-in's address in `client.base_url`.
        env: The environment variables that the file needs.
        settings: The `--set` options of every run; they replace limits and page sizes meant for the real API.
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
        for data in found.parent.glob("*.csv"):
            shutil.copy(data, folder)

    def kill_run(self, after_requests: int) -> None:
        """Start a run and kill its first process (SIGKILL) after this many requests to the stand-in."""
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
            while len(self.api.requests) < after_requests:
                assert process.poll() is None, "the run ended before it could be killed"
                assert time.monotonic() < deadline, self.log()
                time.sleep(0.002)
        finally:
            process.send_signal(signal.SIGKILL)
            process.wait(LIMIT_S)

    def log(self) -> str:
        """Return the latest requests, for the message of a failing test."""
        return "\n".join(
            f"{one.status} {'refused ' * one.refused}{one.url}" for one in self.api.requests[-60:]
        )


def newest_of(records: list[dict[str, Any]], key: str) -> dict[Any, dict[str, Any]]:
    """Return the last record of each key: a file that is appended to has older records before it."""
    return {record[key]: record for record in records}
