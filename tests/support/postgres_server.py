"""A private PostgreSQL server for tests: Debian's `postgresql` in a temporary folder, on a Unix socket."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

START_TIMEOUT_S = 30.0
UNPRIVILEGED = "postgres"  # the server refuses to run as root


class PostgresServer:
    """A private cluster. Its URL has a password, which the server does not check."""

    password = "s3cret-pass%40word"

    def __init__(self, binaries: Path) -> None:
        self._binaries = binaries
        self.folder = Path(tempfile.mkdtemp(prefix="scrapeq-pg-"))
        self._user = UNPRIVILEGED if os.getuid() == 0 else None
        if self._user:
            shutil.chown(self.folder, UNPRIVILEGED, UNPRIVILEGED)
        self._process: subprocess.Popen[bytes] | None = None
        self._run(
            "initdb", "-D", "data", "-U", "scrapeq", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync"
        )

    def url(self, database: str = "postgres") -> str:
        """Return the URL of a database."""
        return f"postgresql://scrapeq:{self.password}@/{database}?host={self.folder}"

    def start(self) -> None:
        """Start the server and wait until it accepts connections."""
        import psycopg  # slow to import, and few tests need it

        settings = ("listen_addresses=", "fsync=off", "max_connections=20", "shared_buffers=16MB")
        options = [word for setting in settings for word in ("-c", setting)]
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [str(self._binaries / "postgres"), "-D", "data", "-k", str(self.folder), *options],
                cwd=self.folder,
                stdout=log,
                stderr=log,
                user=self._user,
                group=self._user,
                extra_groups=[] if self._user else None,
            )
        deadline = time.monotonic() + START_TIMEOUT_S
        while True:
            try:
                psycopg.connect(self.url(), connect_timeout=2).close()
                return
            except psycopg.OperationalError:
                if time.monotonic() > deadline:
                    pytest.fail(f"PostgreSQL did not start: {(self.folder / 'log').read_text()[-2000:]}")
                time.sleep(0.02)

    def stop(self, number: signal.Signals = signal.SIGINT) -> None:
        """Stop the server: SIGINT disconnects all clients, SIGQUIT works like a crash."""
        if self._process is not None:
            self._process.send_signal(number)
            self._process.wait()
            self._process = None

    def close(self) -> None:
        """Stop the server and remove its folder."""
        self.stop(signal.SIGQUIT)
        shutil.rmtree(self.folder, ignore_errors=True)

    def _run(self, program: str, *arguments: str) -> None:
        subprocess.run(
            [str(self._binaries / program), *arguments],
            cwd=self.folder,
            check=True,
            capture_output=True,
            user=self._user,
            group=self._user,
            extra_groups=[] if self._user else None,
        )


def binaries() -> Path | None:
    """Return the folder of the newest installed server."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: float(path.parts[-3]))
    if found:
        return found[-1].parent
    initdb = shutil.which("initdb")
    return Path(initdb).resolve().parent if initdb else None


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """Yield a running server. Without PostgreSQL, fail in CI and skip the test elsewhere."""
    folder = binaries()
    if folder is None:
        message = "PostgreSQL is not installed: apt-get install postgresql"
        if os.environ.get("CI") == "true":
            pytest.fail(message)
        pytest.skip(message)
    server = PostgresServer(folder)
    try:
        server.start()
        yield server
    finally:
        server.close()
